/** The life of a server: ready, signals, sockets left behind, files that survive, faults while I/O flows. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { blkforge, command, scratchDirectory, serve, succeed } from "../support/blkforge.js";
import { describeWith } from "../support/requires.js";

const mebibyte = 1 << 20;

describe("blkforge serve", () => {
  test("SIGTERM ends it with status 0 and removes its socket", async () => {
    const server = await serve(["instant", "--size", "1M"]);
    expect(existsSync(server.socketPath)).toBe(true);
    expect(await server.stop("SIGTERM")).toBe(0);
    expect(existsSync(server.socketPath)).toBe(false);
  });

  test("a socket left by a killed server is replaced without asking", async () => {
    const first = await serve(["instant", "--size", "1M"]);
    await first.stop("SIGKILL");
    expect(existsSync(first.socketPath)).toBe(true);
    const second = await serve(["instant", "--size", "1M", "--listen", first.uri]);
    expect(second.uris).toContain(first.uri);
    expect(await second.stop()).toBe(0);
  });

  test("its socket is for its user alone", async () => {
    const server = await serve(["instant", "--size", "1M"]);
    expect(statSync(server.socketPath).mode & 0o777).toBe(0o600);
  });

  test("--stats tells at the end what was done and how late it was", async () => {
    const { status, stderr } = await blkforge(["run", "fixed", "--size", "1M", "--stats", "--", "true"]);
    expect(status).toBe(0);
    expect(stderr).toContain("lateness");
    expect(stderr).toContain("seed 1");
  });

  test("without --listen it makes a private socket of its own", async () => {
    const server = await serve(["instant", "--size", "1M"], { isListening: false });
    const socketPath = /^nbd\+unix:\/\/\/\?socket=(.*)$/.exec(server.uris[0])?.[1] ?? "";
    expect(statSync(dirname(socketPath)).mode & 0o777).toBe(0o700);
    expect(await server.stop()).toBe(0);
    expect(existsSync(dirname(socketPath))).toBe(false);
  });
});

describeWith(["qemu-io", "nbdcopy"], "blkforge serve --file", () => {
  test("what was flushed survives kill -9, and a restart serves it again", async () => {
    const file = join(scratchDirectory(), "disk.img");
    const first = await serve(["instant", "--size", "16M", "--file", file]);
    await succeed("qemu-io", ["-f", "raw", "-c", "write -P 5 1M 1M", "-c", "flush", first.uri]);
    await first.stop("SIGKILL");
    expect(
      readFileSync(file)
        .subarray(mebibyte, 2 * mebibyte)
        .every((byte) => byte === 5),
    ).toBe(true);
    const second = await serve(["instant", "--file", file]);
    await succeed("qemu-io", ["-f", "raw", "-c", "read -P 5 1M 1M", "-c", "read -P 0 2M 1M", second.uri]);
  });

  test("a new image is sparse, and trimming gives blocks back", async () => {
    const file = join(scratchDirectory(), "disk.img");
    const server = await serve(["instant", "--size", "1G", "--file", file]);
    expect(statSync(file)).toMatchObject({
      size: 1024 * mebibyte,
      blocks: expect.toSatisfy((n: number) => n < 64),
    });
    await succeed("qemu-io", ["-f", "raw", "-c", "write -P 5 0 8M", "-c", "flush", server.uri]);
    expect(statSync(file).blocks).toBeGreaterThanOrEqual(16384);
    await succeed("qemu-io", ["-f", "raw", "-d", "unmap", "-c", "discard 0 8M", "-c", "flush", server.uri]);
    expect(statSync(file).blocks).toBeLessThan(16384);
  });

  test("two servers never write the same image", async () => {
    const file = join(scratchDirectory(), "disk.img");
    await serve(["instant", "--size", "1M", "--file", file]);
    const { status, stderr } = await blkforge(["serve", "instant", "--size", "1M", "--file", file]);
    expect(stderr).toContain("BLK_E_FILE");
    expect(status).toBe(2);
  });
});

describeWith(["nbdcopy"], "faults on a running server", () => {
  test("are added, hit, listed and reset from the command line while the server runs", async () => {
    const directory = scratchDirectory();
    const api = `unix:${join(directory, "api.sock")}`;
    const server = await serve(["instant", "--size", "1M", "--api", api]);
    const image = join(directory, "image");
    writeFileSync(image, randomBytes(mebibyte));
    await succeed("nbdcopy", [image, server.uri]);

    const fault = (...args: string[]) => blkforge(["fault", ...args], { BLKFORGE_API: api });
    expect((await fault("add", "error", "--ops", "read", "status=io")).status).toBe(0);
    await expect(succeed("nbdcopy", [server.uri, join(directory, "out")])).rejects.toThrow();
    const [report] = JSON.parse((await fault("list", "--json")).stdout);
    expect(report).toMatchObject({ name: "error-1", kind: "error" });
    expect(report.hits).toBeGreaterThan(0);

    expect((await fault("reset")).status).toBe(0);
    await succeed("nbdcopy", [server.uri, join(directory, "out")]);
    expect(readFileSync(join(directory, "out")).equals(readFileSync(image))).toBe(true);

    const stats = JSON.parse((await blkforge(["stats", "--json", "--api", api])).stdout);
    expect(stats.operations.read.errors).toBeGreaterThan(0);
    expect(stats.lateness.count).toBeGreaterThan(0);
  });

  test("a server whose requests hang still stops on SIGTERM", async () => {
    const directory = scratchDirectory();
    const api = `unix:${join(directory, "api.sock")}`;
    const server = await serve(["instant", "--size", "1M", "--api", api]);
    await blkforge(["fault", "add", "hang", "--api", api]);
    // Nothing is held yet, and what is a hole would not be read at all.
    const copy = succeed("nbdcopy", ["--no-extents", server.uri, join(directory, "out")]).catch(
      () => "failed",
    );
    await expect
      .poll(async () => JSON.parse((await blkforge(["stats", "--json", "--api", api])).stdout).held, {
        timeout: 20_000,
      })
      .toBeGreaterThan(0);
    expect(await server.stop()).toBe(0);
    await copy;
  });
});

describeWith(["nbdcopy"], "a stop", () => {
  test("waits for what is in flight, and a second signal ends it at once", async () => {
    const directory = scratchDirectory();
    const apiPath = join(directory, "api.sock");
    const api = `unix:${apiPath}`;
    const server = await serve(["fixed", "--set", "latency=8s", "--size", "1M", "--api", api]);
    const copy = succeed("nbdcopy", ["--no-extents", server.uri, join(directory, "out")]).catch(
      () => "failed",
    );
    await expect
      .poll(async () => JSON.parse((await blkforge(["stats", "--json", "--api", api])).stdout).inFlight, {
        timeout: 20_000,
      })
      .toBeGreaterThan(0);
    server.process.kill("SIGTERM");
    // The API goes first; the reads are due in seconds.
    await expect.poll(() => existsSync(apiPath), { timeout: 20_000 }).toBe(false);
    expect(server.process.exitCode).toBe(null);
    expect(await server.stop("SIGTERM")).toBe(143);
    await copy;
  });
});

test("blkforge run serves on a socket of its own that is gone afterwards", async () => {
  const { status, stdout } = await blkforge([
    "run",
    "instant",
    "--size",
    "1M",
    "--",
    "sh",
    "-c",
    'echo "$NBD_URI"',
  ]);
  expect(status).toBe(0);
  const socketPath = /socket=(.*)$/m.exec(stdout)?.[1] ?? "";
  expect(socketPath).not.toBe("");
  expect(existsSync(dirname(socketPath))).toBe(false);
});

describeWith(["qemu-io"], "a device in memory", () => {
  test("that may take no more answers ENOSPC, and goes on serving", async () => {
    const server = await serve(["instant", "--size", "1G", "--memory-limit", "1M"]);
    const full = await command("qemu-io", ["-f", "raw", "-c", "write 0 2M", server.uri]);
    expect(full.stdout + full.stderr).toMatch(/No space left/);
    await succeed("qemu-io", ["-f", "raw", "-c", "write -P 3 0 64k", "-c", "read -P 3 0 64k", server.uri]);
  });
});
