/** The whole protocol through real clients: maps, holes, partial reads, block sizes, and many connections at once. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { blkforge, blkforgeBin, command, scratchDirectory, serve, succeed } from "../support/blkforge.js";
import { describeWith } from "../support/requires.js";

const MiB = 1 << 20;

/** Data in the first MiB and the fifth, nothing elsewhere. */
function sparseImage(): string {
  const path = join(scratchDirectory(), "image");
  const bytes = Buffer.alloc(16 * MiB);
  randomBytes(MiB).copy(bytes);
  randomBytes(MiB).copy(bytes, 4 * MiB);
  writeFileSync(path, bytes);
  return path;
}

/** Debian's binding belongs to Debian's Python, which need not be the first on the PATH. */
const debianPython = { PATH: `/usr/bin:${process.env.PATH}` };

/** Runs pieces of Python in nbdsh; returns what they print. */
function nbdsh(...pieces: string[]): Promise<string> {
  return succeed(
    "nbdsh",
    ["import errno", ...pieces].flatMap((piece) => ["-c", piece]),
    debianPython,
  );
}

function connect(uri: string): string {
  return `h.connect_uri("${uri}")`;
}

describeWith(["nbdinfo", "nbdcopy"], "libnbd's tools", () => {
  test("nbdinfo sees every ability, and the map of what is held", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const { exports } = JSON.parse(await succeed("nbdinfo", ["--json", server.uri]));
    expect(exports[0]).toMatchObject({
      can_cache: true,
      can_df: true,
      can_fast_zero: true,
      contexts: ["base:allocation", "x-blkforge:fault"],
      block_size_minimum: 1,
    });
    await succeed("nbdcopy", ["--connections=4", "--requests=64", sparseImage(), server.uri]);
    const map = JSON.parse(await succeed("nbdinfo", ["--map", "--json", server.uri]));
    const held = map.filter(({ type }: { type: number }) => type === 0);
    expect(held).toMatchObject([
      { offset: 0, length: MiB },
      { offset: 4 * MiB, length: MiB },
    ]);
  });

  test("nbdcopy brings a sparse device out again unchanged, over four connections", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const image = sparseImage();
    await succeed("nbdcopy", ["--connections=4", image, server.uri]);
    const copy = join(scratchDirectory(), "copy");
    await succeed("nbdcopy", ["--connections=4", server.uri, copy]);
    expect(readFileSync(copy).equals(readFileSync(image))).toBe(true);
  });

  test("the map of faults shows where they lie in wait", async () => {
    const api = `unix:${join(scratchDirectory(), "api")}`;
    const server = await serve(["instant", "--size", "16M", "--api", api]);
    const added = await blkforge(
      ["fault", "add", "error", "--ops", "read", "--range", "1M+4K", "--name", "latent", "--api", api],
      {},
    );
    expect(added.stderr).toBe("");
    const map = JSON.parse(await succeed("nbdinfo", ["--map=x-blkforge:fault", "--json", server.uri]));
    expect(map).toMatchObject([
      { offset: 0, length: MiB, type: 0 },
      { offset: MiB, length: 4096, type: 1 },
      { offset: MiB + 4096, length: 15 * MiB - 4096, type: 0 },
    ]);
  });
});

describeWith(["nbdsh"], "nbdsh", () => {
  test("gets the good part of a read that meets a latent sector, and a plain error without chunks", async () => {
    const api = `unix:${join(scratchDirectory(), "api")}`;
    const server = await serve(["instant", "--size", "16M", "--api", api]);
    await nbdsh(connect(server.uri), "h.pwrite(b'G' * 65536, 0)");
    await blkforge(["fault", "add", "error", "--ops", "read", "--range", "8K+512", "--api", api]);
    const script = [
      "got = []",
      "def chunk(data, offset, status, error):\n  got.append((status, offset, len(data), bytes(data[:1])))",
      "try:\n  h.pread_structured(65536, 4096, chunk)\nexcept nbd.Error as e:\n  print(e.errnum == errno.EIO, got)",
    ];
    // Status 1 is data, 3 an error.
    expect((await nbdsh(connect(server.uri), ...script)).trim()).toBe(
      "True [(1, 4096, 4096, b'G'), (3, 8192, 0, b'')]",
    );
    const plain = await nbdsh(
      "h.set_request_structured_replies(False)",
      connect(server.uri),
      "try:\n  h.pread(65536, 4096)\nexcept nbd.Error as e:\n  print(e.errnum == errno.EIO)",
      "print(h.pread(4, 0), h.get_structured_replies_negotiated())",
    );
    expect(plain).toBe("True\nbytearray(b'GGGG') False\n");
  });

  test("is told clearly what is wrong when it stops checking by itself", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const tries = [
      ["h.pread(512, h.get_size())", "EINVAL"],
      ["h.pwrite(b'x' * 512, h.get_size())", "ENOSPC"],
      ["h.trim(512, h.get_size())", "EINVAL"],
      ["h.zero(512, h.get_size())", "ENOSPC"],
      ["h.block_status(512, 0, lambda *a: 0)", "EINVAL"],
      ["h.pwrite(b'x', 0, 0x8000)", "EINVAL"],
    ];
    const script = tries.map(
      ([call]) =>
        `try:\n  ${call}\n  print('ok')\nexcept nbd.Error as e:\n  print(errno.errorcode[e.errnum])`,
    );
    const output = await nbdsh(
      connect(server.uri),
      "h.set_strict_mode(0)",
      ...script,
      "print(h.pread(2, 0))",
    );
    expect(output.trim().split("\n")).toEqual([
      ...tries.map(([, error]) => error),
      "bytearray(b'\\x00\\x00')",
    ]);
  });

  test("walks block status, DF and cache", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const output = await nbdsh(
      'h.add_meta_context("base:allocation")',
      connect(server.uri),
      "h.pwrite(b'x' * 65536, 65536)",
      "h.block_status(h.get_size(), 0, lambda m, o, e, err: print(m, o, e))",
      "h.block_status(h.get_size(), 0, lambda m, o, e, err: print(m, o, e), nbd.CMD_FLAG_REQ_ONE)",
      "h.cache(65536, 0)",
      "h.pread_structured(1 << 20, 0, lambda d, o, s, e: print(o, len(d), s), nbd.CMD_FLAG_DF)",
    );
    expect(output.trim().split("\n")).toEqual([
      `base:allocation 0 [65536, 3, 65536, 0, ${16 * MiB - 131072}, 3]`,
      "base:allocation 0 [65536, 3]",
      "0 1048576 1",
    ]);
  });

  test("is refused a fast zeroing where it is not fast, at once and with the data left alone", async () => {
    const slow = ["--set", "latency=20s", "--set", "latency.read=0", "--set", "latency.write=0"];
    const server = await serve(["fixed", ...slow, "--size", "16M"]);
    const zero = (flags: string) =>
      `try:\n  h.zero(4096, 0, ${flags})\n  print('zeroed')\nexcept nbd.Error as e:\n  print(errno.errorcode[e.errnum])`;
    const output = await nbdsh(
      connect(server.uri),
      "h.pwrite(b'kept' * 1024, 0)",
      // One that takes its 20 s is under way: the refusals do not wait behind it.
      "h.aio_zero(4096, 8192)",
      zero("nbd.CMD_FLAG_FAST_ZERO"),
      zero("nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE"),
      "print(h.aio_in_flight(), h.pread(4, 4092))",
      // Not to be waited for at the end.
      "import os, sys; sys.stdout.flush(); os._exit(0)",
    );
    const [first, second, rest] = output.trim().split("\n");
    for (const error of [first, second]) expect(error).toMatch(/^(ENOTSUP|EOPNOTSUPP)$/);
    expect(rest).toBe("1 bytearray(b'kept')");
  });

  test("zeroes fast where that is fast, and frees the blocks", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const output = await nbdsh(
      'h.add_meta_context("base:allocation")',
      connect(server.uri),
      "h.pwrite(b'x' * 131072, 0)",
      "h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)",
      "print(h.pread(131072, 0) == b'\\0' * 65536 + b'x' * 65536)",
      "h.block_status(131072, 0, lambda m, o, e, err: print(e))",
    );
    expect(output.trim().split("\n")).toEqual(["True", "[65536, 3, 65536, 0]"]);
  });

  test("must keep to the blocks of a strict 4Kn device", async () => {
    const server = await serve([
      ...["instant", "--size", "16M", "--set", "blockSize.logical=4096", "--strict-blocks"],
    ]);
    const output = await nbdsh(
      connect(server.uri),
      "print(h.get_block_size(nbd.SIZE_MINIMUM))",
      "h.set_strict_mode(0)",
      "try:\n  h.pread(512, 512)\nexcept nbd.Error as e:\n  print(errno.errorcode[e.errnum])",
      "print(len(h.pread(4096, 4096)))",
    );
    expect(output.trim().split("\n")).toEqual(["4096", "EINVAL", "4096"]);
  });
});

describeWith(["qemu-img"], "QEMU's tools", () => {
  test("qemu-img maps, converts, compares and benches", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const image = sparseImage();
    await succeed("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", image, server.uri]);
    const map = JSON.parse(await succeed("qemu-img", ["map", "--output=json", server.uri]));
    expect(map.filter(({ data }: { data: boolean }) => data)).toMatchObject([
      { start: 0, length: MiB },
      { start: 4 * MiB, length: MiB },
    ]);
    expect(await succeed("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, server.uri])).toContain(
      "identical",
    );
    const bench = ["bench", "-c", "2000", "-d", "16", "-s", "4096", "-f", "raw"];
    expect(await succeed("qemu-img", [...bench, server.uri])).toContain("Run completed");
    expect((await command("qemu-img", [...bench, "-w", server.uri])).status).toBe(0);
  });
});

describeWith(["fio"], "fio's nbd engine", () => {
  test("verifies four jobs at depth 64 side by side", async () => {
    const server = await serve(["fixed", "--set", "latency=100us", "--size", "64M"]);
    await succeed("fio", [
      ...["--name=v", "--ioengine=nbd", `--uri=${server.uri}`, "--rw=randwrite", "--bs=4k", "--size=16m"],
      ...["--offset_increment=16m", "--numjobs=4", "--iodepth=64", "--verify=crc32c", "--do_verify=1"],
      "--verify_fatal=1",
      "--verify_state_save=0",
    ]);
  });
});

describeWith(["python3", "nbdinfo"], "socket activation", () => {
  test("serves the socket a service manager has opened", async () => {
    const path = join(scratchDirectory(), "activated.sock");
    // What systemd does: bind, listen, place the socket at descriptor 3, name the process, execute it.
    const activator = [
      "import os, socket, sys",
      "s = socket.socket(socket.AF_UNIX)",
      `s.bind(${JSON.stringify(path)})`,
      "s.listen()",
      "os.dup2(s.fileno(), 3)",
      "os.set_inheritable(3, True)",
      "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')",
      "os.execv(sys.argv[1], sys.argv[1:])",
    ].join("\n");
    const server = spawn(
      "python3",
      ["-c", activator, process.execPath, blkforgeBin, "serve", "instant", "--size", "16M", "--json"],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const exited = once(server, "exit");
    onTestFinished(async () => {
      server.kill("SIGKILL");
      await exited;
    });
    const [line] = await once(server.stdout, "data");
    expect(JSON.parse(String(line)).uris).toEqual(["fd:3/"]);
    expect(await succeed("nbdinfo", ["--size", `nbd+unix:///?socket=${path}`])).toBe(`${16 * MiB}\n`);
    server.kill("SIGTERM");
    expect((await exited)[0]).toBe(0);
  });
});

describeWith(["qemu-img"], "an abstract Unix socket", () => {
  test("is found by its name, and is refused to a second server", async () => {
    const name = `blkforge-test-${process.pid}`;
    const uri = `nbd+unix:///?socket=%00${name}`;
    const server = await serve(["instant", "--size", "16M", "--listen", uri], { isListening: false });
    expect(server.uris).toEqual([uri]);
    const image = { driver: "nbd", server: { type: "unix", path: name, abstract: true } };
    const said = await succeed("qemu-img", ["info", "--output=json", `json:${JSON.stringify(image)}`]);
    expect(JSON.parse(said)["virtual-size"]).toBe(16 * MiB);

    const { status, stderr } = await blkforge(["serve", "instant", "--listen", uri]);
    expect(status).toBe(2);
    expect(stderr).toContain("another process listens there");
  });
});
