/** Real NBD clients against `blkforge serve`: what they read, copy and verify must be right. */
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory, serve, succeed } from "../support/blkforge.js";
import { describeWith } from "../support/requires.js";

const mebibyte = 1 << 20;

/** Data, a hole and data again, so that sparse paths of the clients are walked too. */
function sampleImage(): Buffer {
  return Buffer.concat([randomBytes(5 * mebibyte), Buffer.alloc(3 * mebibyte), randomBytes(8 * mebibyte)]);
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describeWith(["nbdinfo", "nbdcopy"], "libnbd's tools", () => {
  test("nbdinfo sees size, flags and the export's name", async () => {
    const server = await serve(["hdd-7200", "--size", "10G"]);
    const info = JSON.parse(await succeed("nbdinfo", ["--json", server.uri]));
    expect(info.exports[0]).toMatchObject({
      "export-size": 10 * 1024 * mebibyte,
      is_rotational: true,
      can_multi_conn: true,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      is_read_only: false,
    });
    expect(await succeed("nbdinfo", ["--list", server.uri])).toContain("export=");
  });

  test("a read-only device says so and refuses writes", async () => {
    const server = await serve(["instant", "--size", "16M", "--read-only"]);
    await succeed("nbdinfo", ["--is", "read-only", server.uri]);
    const image = join(scratchDirectory(), "image");
    writeFileSync(image, randomBytes(mebibyte));
    await expect(succeed("nbdcopy", [image, server.uri])).rejects.toThrow();
  });

  test("nbdcopy brings an image in over four connections and out again unchanged", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const directory = scratchDirectory();
    const original = sampleImage();
    writeFileSync(join(directory, "in"), original);
    await succeed("nbdcopy", ["--connections=4", "--requests=64", join(directory, "in"), server.uri]);
    await succeed("nbdcopy", [server.uri, join(directory, "out")]);
    expect(sha256(readFileSync(join(directory, "out")))).toBe(sha256(original));
  });

  test("the same bytes are there over TCP, under the name in the URI", async () => {
    const server = await serve(["instant", "--size", "16M", "--listen", "nbd://127.0.0.1:0/disk"]);
    const tcp = server.uris.find((uri) => uri.startsWith("nbd://"));
    expect(tcp).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/disk$/);
    const directory = scratchDirectory();
    const original = sampleImage();
    writeFileSync(join(directory, "in"), original);
    await succeed("nbdcopy", [join(directory, "in"), tcp ?? ""]);
    await succeed("nbdcopy", [server.uri, join(directory, "out")]);
    expect(sha256(readFileSync(join(directory, "out")))).toBe(sha256(original));
  });
});

describeWith(["qemu-img", "qemu-io"], "QEMU's tools", () => {
  test("qemu-img converts an image in and finds it identical", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const image = join(scratchDirectory(), "image");
    writeFileSync(image, sampleImage());
    expect(await succeed("qemu-img", ["info", server.uri])).toContain("virtual size: 16 MiB");
    await succeed("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", image, server.uri]);
    expect(await succeed("qemu-img", ["compare", "-f", "raw", "-F", "raw", image, server.uri])).toContain(
      "Images are identical",
    );
  });

  test("qemu-io writes patterns, zeroes and discards, and reads back what it expects", async () => {
    const server = await serve(["instant", "--size", "16M"]);
    const script = [
      "write -P 7 0 1M",
      "read -P 7 0 1M",
      "write -z -u 64k 64k",
      "read -P 0 64k 64k",
      "write -f -P 9 512 512",
      "read -P 9 512 512",
      "discard 128k 64k",
      "flush",
      "read -P 7 0 512",
    ];
    const output = await succeed("qemu-io", [
      "-f",
      "raw",
      ...script.flatMap((line) => ["-c", line]),
      server.uri,
    ]);
    expect(output).not.toMatch(/fail|mismatch|error/i);
  });
});

describeWith(["fio"], "fio's nbd engine", () => {
  test("verifies random writes at depth 64", async () => {
    const server = await serve(["fixed", "--set", "latency=200us", "--size", "64M"]);
    await succeed("fio", [
      ...["--name=v", "--ioengine=nbd", `--uri=${server.uri}`, "--rw=randwrite", "--bs=4k", "--size=32m"],
      ...["--iodepth=64", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0"],
    ]);
  });

  test("verifies what it wrote after a mix of block sizes and trims", async () => {
    const server = await serve(["instant", "--size", "64M"]);
    await succeed("fio", [
      ...["--name=v", "--ioengine=nbd", `--uri=${server.uri}`, "--rw=randrw", "--bsrange=512-256k"],
      ...["--size=64m", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"],
    ]);
    await succeed("fio", [
      ...["--name=t", "--ioengine=nbd", `--uri=${server.uri}`, "--rw=randtrim", "--bs=64k", "--size=64m"],
    ]);
  });
});
