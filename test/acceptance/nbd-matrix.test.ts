/**
 * Every client over every way in: the same work over a plain Unix socket, over TCP through TLS with certificates, and over
 * a Unix socket through TLS with a pre-shared key.
 */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { blkforge, command, scratchDirectory, serve, succeed } from "../support/blkforge.js";
import { certificates } from "../support/certificates.js";
import { describeWith } from "../support/requires.js";

const MiB = 1 << 20;
const programs = ["nbdinfo", "nbdcopy", "nbdsh", "qemu-img", "qemu-io", "fio", "openssl"];

/** How each family of clients is told where the server is, and by what it recognizes it. */
interface WayIn {
  /** For libnbd's tools. */
  uri: string;
  /** For libnbd's users that know nothing of TLS files: certificates are looked for below HOME. */
  bareUri: string;
  home: string;
  /** For QEMU's tools: objects, then the image as options. */
  qemuObjects: string[];
  qemuImage: string;
  api: string;
}

type Way = "plain" | "certificates" | "a pre-shared key";

async function serveOver(way: Way, profile: string[]): Promise<WayIn> {
  const directory = scratchDirectory();
  const api = `unix:${join(directory, "api")}`;
  const common = [...profile, "--api", api];
  if (way === "plain") {
    const { uri, socketPath } = await serve(common);
    const qemuImage = `driver=nbd,server.type=unix,server.path=${socketPath}`;
    return { uri, bareUri: uri, home: directory, qemuObjects: [], qemuImage, api };
  }
  if (way === "certificates") {
    const made = await certificates();
    // Where libnbd looks when the URI names no folder.
    const home = scratchDirectory();
    mkdirSync(join(home, ".pki"));
    const folder = join(home, ".pki/libnbd");
    renameSync(made, folder);
    const [certificate, key] = ["cert", "key"].map((what) => join(folder, `server-${what}.pem`));
    const tls = ["--tls-cert", certificate, "--tls-key", key, "--tls-ca", join(folder, "ca-cert.pem")];
    const { uris } = await serve([...common, "--listen", "nbd://localhost:0/disk", ...tls], {
      isListening: false,
    });
    const port = new URL(uris[0]).port;
    return {
      uri: `${uris[0]}?tls-certificates=${folder}`,
      bareUri: uris[0],
      home,
      qemuObjects: ["--object", `tls-creds-x509,id=t,dir=${folder},endpoint=client`],
      qemuImage: `driver=nbd,server.type=inet,server.host=localhost,server.port=${port},export=disk,tls-creds=t`,
      api,
    };
  }
  writeFileSync(join(directory, "keys.psk"), `alice:${randomBytes(32).toString("hex")}\n`);
  const { socketPath } = await serve([...common, "--tls-psk", join(directory, "keys.psk")]);
  const uri = `nbds+unix://alice@/?socket=${socketPath}&tls-psk-file=${join(directory, "keys.psk")}`;
  return {
    uri,
    bareUri: uri,
    home: directory,
    qemuObjects: ["--object", `tls-creds-psk,id=t,dir=${directory},username=alice,endpoint=client`],
    qemuImage: `driver=nbd,server.type=unix,server.path=${socketPath},tls-creds=t`,
    api,
  };
}

function sampleImage(): string {
  const path = join(scratchDirectory(), "image");
  writeFileSync(path, Buffer.concat([randomBytes(5 * MiB), Buffer.alloc(3 * MiB), randomBytes(8 * MiB)]));
  return path;
}

/** libnbd looks for certificates below HOME, but for root, who then runs the program as nobody. */
function asOrdinaryUser(home: string, file: string, args: string[]): [string, string[]] {
  if (process.getuid?.() !== 0 || !existsSync(join(home, ".pki"))) return [file, args];
  chmodTree(home);
  return ["setpriv", ["--reuid=65534", "--clear-groups", file, ...args]];
}

/** Lets everybody read what is in the folder. */
function chmodTree(path: string): void {
  chmodSync(path, statSync(path).isDirectory() ? 0o755 : 0o644);
  if (!statSync(path).isDirectory()) return;
  for (const name of readdirSync(path)) chmodTree(join(path, name));
}

/** Debian's binding belongs to Debian's Python, which need not be the first on the PATH. */
const debianPython = { PATH: `/usr/bin:${process.env.PATH}` };

/** Runs pieces of Python in nbdsh; returns the lines they print. `before` comes before the connection is made. */
async function nbdsh(uri: string, before: string[], ...pieces: string[]): Promise<string[]> {
  const connect = ["import errno", "h.set_uri_allow_local_file(True)", ...before, `h.connect_uri("${uri}")`];
  const output = await succeed(
    "nbdsh",
    [...connect, ...pieces].flatMap((piece) => ["-c", piece]),
    debianPython,
  );
  return output.trim().split("\n");
}

/** Python that prints what a call ends in: its value, or the name of its error. */
function outcome(call: string): string {
  return `try:\n  print(${call})\nexcept nbd.Error as e:\n  print(errno.errorcode[e.errnum])`;
}

const instant = ["instant", "--size", "16M"];

describeWith(programs, "over each way in", () => {
  describe.each<Way>(["plain", "certificates", "a pre-shared key"])("%s:", (way) => {
    test("nbdinfo sees what the export can do", async () => {
      const { uri } = await serveOver(way, instant);
      const info = JSON.parse(await succeed("nbdinfo", ["--json", uri]));
      expect(info.TLS).toBe(way !== "plain");
      expect(info.structured).toBe(true);
      expect(info.exports[0]).toMatchObject({
        "export-size": 16 * MiB,
        contexts: ["base:allocation", "x-blkforge:fault"],
        can_multi_conn: true,
        can_df: true,
      });
      for (const ability of [
        "read",
        "zero",
        "fua",
        "flush",
        "trim",
        "cache",
        "df",
        "fast-zero",
        "multi-conn",
      ]) {
        await succeed("nbdinfo", ["--can", ability, uri]);
      }
    });

    test("nbdcopy brings an image in and out again, over four connections", async () => {
      const { uri } = await serveOver(way, instant);
      const image = sampleImage();
      const copy = join(scratchDirectory(), "copy");
      const many = ["--connections=4", "--requests=64"];
      await succeed("nbdcopy", [...many, image, uri]);
      await succeed("nbdcopy", [...many, uri, copy]);
      expect(readFileSync(copy).equals(readFileSync(image))).toBe(true);
    });

    test.each([true, false])(
      "nbdsh reads, writes and fails alike, structured replies: %s",
      async (isStructured) => {
        const { uri } = await serveOver(way, instant);
        const lines = await nbdsh(
          uri,
          [`h.set_request_structured_replies(${isStructured ? "True" : "False"})`],
          "print(h.get_structured_replies_negotiated())",
          "h.pwrite(b'forged' * 1000, 4000, nbd.CMD_FLAG_FUA)",
          "h.flush()",
          "print(h.pread(6, 4006), h.pread(200000, 0)[4000:4006], len(h.pread(h.get_size(), 0)))",
          "h.set_strict_mode(0)",
          outcome("h.pread(512, h.get_size())"),
          outcome("h.pread(512, 2**64 - 1)"),
          outcome("h.pwrite(b'x' * 512, h.get_size())"),
          outcome("h.pwrite(b'x' * 100000, 0, 0x8000)"),
          outcome("h.trim(512, h.get_size())"),
          outcome("h.zero(512, h.get_size())"),
          outcome("h.cache(512, h.get_size())"),
          outcome("h.pread(0, 0)"),
          outcome("h.pwrite(b'', 0)"),
          outcome("h.trim(0, 0)"),
          outcome("h.block_status(512, 0, lambda *a: 0)"),
          outcome("h.pread(6, 4000)"),
        );
        expect(lines).toEqual([
          isStructured ? "True" : "False",
          `bytearray(b'forged') bytearray(b'forged') ${16 * MiB}`,
          ...["EINVAL", "EINVAL", "ENOSPC", "EINVAL", "EINVAL", "ENOSPC", "EINVAL"],
          ...["bytearray(b'')", "None", "None"],
          "EINVAL",
          "bytearray(b'forged')",
        ]);
      },
    );

    test("nbdsh walks both maps, where data is and where faults lie in wait", async () => {
      const { uri, api } = await serveOver(way, instant);
      const added = ["--ops", "read,write", "--range", "1M+4K", "--name", "latent", "--api", api];
      expect((await blkforge(["fault", "add", "error", ...added])).stderr).toBe("");
      const lines = await nbdsh(
        uri,
        ['h.add_meta_context("base:allocation")', 'h.add_meta_context("x-blkforge:fault")'],
        "h.pwrite(b'x' * 65536, 65536)",
        "h.block_status(4 << 20, 0, lambda context, offset, extents, error: print(context, offset, extents))",
        outcome("h.pread(8192, (1 << 20) - 4096)"),
        outcome("h.pwrite(b'x' * 512, 1 << 20)"),
        outcome("len(h.pread(4096, (1 << 20) + 4096))"),
      );
      expect(lines.slice(0, 2).sort()).toEqual([
        `base:allocation 0 [65536, 3, 65536, 0, ${4 * MiB - 131072}, 3]`,
        `x-blkforge:fault 0 [${MiB}, 0, 4096, 3, ${3 * MiB - 4096}, 0]`,
      ]);
      expect(lines.slice(2)).toEqual(["EIO", "EIO", "4096"]);
    });

    test("qemu-img converts, compares, maps and benches", async () => {
      const { qemuObjects, qemuImage } = await serveOver(way, instant);
      const image = sampleImage();
      await succeed("qemu-img", [
        ...["convert", "-n", ...qemuObjects, image, "--target-image-opts"],
        `driver=raw,file.${qemuImage.replaceAll(",", ",file.")}`,
      ]);
      const opened = [...qemuObjects, "--image-opts"];
      const other = `driver=raw,file.driver=file,file.filename=${image}`;
      expect(await succeed("qemu-img", ["compare", ...opened, qemuImage, other])).toContain("identical");
      const map = JSON.parse(await succeed("qemu-img", ["map", "--output=json", ...opened, qemuImage]));
      expect(map.filter(({ data }: { data: boolean }) => data)).toMatchObject([
        { start: 0, length: 5 * MiB },
        { start: 8 * MiB, length: 8 * MiB },
      ]);
      // Its bench knows no credentials.
      if (way !== "plain") return;
      for (const write of [[], ["-w"]]) {
        const bench = ["bench", "-c", "2000", "-d", "16", "-s", "4096", ...write, ...opened, qemuImage];
        expect(await succeed("qemu-img", bench)).toContain("Run completed");
      }
    });

    test("qemu-io writes, zeroes and discards, and reads back what it expects", async () => {
      const { qemuObjects, qemuImage } = await serveOver(way, instant);
      const script = [
        "write -P 7 0 1M",
        "write -z -u 64k 64k",
        "write -f -P 9 512 512",
        "discard 128k 64k",
        "flush",
      ];
      const checks = [
        "read -P 7 0 512",
        "read -P 9 512 512",
        "read -P 0 64k 64k",
        "read -P 7 192k 64k",
        "map",
      ];
      const lines = [...script, ...checks].flatMap((line) => ["-c", line]);
      const output = await succeed("qemu-io", [...qemuObjects, ...lines, "--image-opts", qemuImage]);
      expect(output).not.toMatch(/fail|mismatch|error/i);
    });

    // libnbd reads key files only for programs that say they mean it, and fio does not.
    if (way === "a pre-shared key") return;

    test("fio verifies four jobs at depth 64", async () => {
      const { bareUri, home } = await serveOver(way, ["fixed", "--set", "latency=100us", "--size", "64M"]);
      const { status, stderr } = await command(
        ...asOrdinaryUser(home, "fio", [
          ...["--name=v", "--ioengine=nbd", `--uri=${bareUri}`, "--rw=randwrite", "--bs=4k", "--size=8m"],
          ...["--offset_increment=16m", "--numjobs=4", "--iodepth=64", "--verify=crc32c", "--do_verify=1"],
          ...["--verify_fatal=1", "--verify_state_save=0"],
        ]),
        { HOME: home },
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    });
  });
});
