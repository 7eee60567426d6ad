/**
 * Bad input gets one clear sentence that names the fault and the way out, exit status 2, and leaves nothing
 * half-started.
 */
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { blkforge, scratchDirectory, serve } from "../support/blkforge.js";

async function refusal(args: string[]): Promise<string> {
  const { status, stdout, stderr } = await blkforge(args);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect({ status, stdout }, stderr).toEqual({ status: 2, stdout: "" });
  return stderr.trim();
}

describe("blkforge serve refuses", () => {
  test("an unknown profile, and proposes the nearest", async () => {
    const sentence = await refusal(["serve", "hdd-7201"]);
    expect(sentence.split("\n")).toHaveLength(1);
    expect(sentence).toContain("BLK_E_PROFILE_UNKNOWN");
    expect(sentence).toContain("hdd-7201");
    expect(sentence).toContain("hdd-7200");
  });

  test("a size that is not a multiple of the block", async () => {
    const sentence = await refusal(["serve", "instant", "--size", "1000"]);
    expect(sentence).toContain("BLK_E_SIZE");
    expect(sentence).toContain("512");
  });

  test.each(["10X", "1.5G", "-1M", "", "10 M", "99999999T"])("the size %j", async (size) => {
    expect(await refusal(["serve", "instant", "--size", size])).toContain("BLK_E_SIZE");
  });

  test("memory at start for bytes that lie in a file", async () => {
    const sentence = await refusal(["serve", "instant", "--preallocate", "--file", "/nonexistent/a.img"]);
    expect(sentence).toContain("BLK_E_USAGE");
    expect(sentence).toContain("fallocate");
  });

  test("malformed YAML, with line and column", async () => {
    const file = join(scratchDirectory(), "bad.yaml");
    writeFileSync(file, "name: bad\nmodel: fixed\nlatency: [1ms\n");
    const sentence = await refusal(["serve", file]);
    expect(sentence).toContain("BLK_E_PROFILE_SYNTAX");
    expect(sentence).toMatch(/bad\.yaml:\d+:\d+/);
  });

  test("a profile with a field that does not exist, where it stands", async () => {
    const file = join(scratchDirectory(), "bad.yaml");
    writeFileSync(file, "name: bad\ndescription: d\nsize: 1G\nmodel: fixed\nlatency: 1ms\nlatancy: 2ms\n");
    const sentence = await refusal(["serve", file]);
    expect(sentence).toContain("BLK_E_PROFILE_INVALID");
    expect(sentence).toMatch(/bad\.yaml:6:1/);
    expect(sentence).toContain("latancy");
  });

  test("an unreadable profile file", async () => {
    expect(await refusal(["serve", "/nonexistent/profile.yaml"])).toContain("BLK_E_PROFILE_UNREADABLE");
  });

  test("a setting the profile does not have", async () => {
    const sentence = await refusal(["serve", "fixed", "--set", "latency.raed=1ms"]);
    expect(sentence).toContain("BLK_E_SETTING");
    expect(sentence).toContain("latency.raed");
  });

  test.each([
    "http://127.0.0.1/",
    "nbd://127.0.0.1:99999/",
    "nbd+unix:///x",
    "nbd+unix:///x?socket=",
    "nbd://127.0.0.1/x?tls=maybe",
    "not a uri",
  ])("the NBD URI %j", async (uri) => {
    expect(await refusal(["serve", "instant", "--listen", uri])).toContain("BLK_E_NBD_URI");
  });

  test("a TCP port in use", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    onTestFinished(() => void holder.close());
    await new Promise((resolve) => holder.once("listening", resolve));
    const { port } = holder.address() as { port: number };
    const sentence = await refusal(["serve", "instant", "--listen", `nbd://127.0.0.1:${port}/`]);
    expect(sentence).toContain("BLK_E_LISTEN");
    expect(sentence).toContain(String(port));
  });

  test("a socket another server uses, which goes on; a file for data is not created then", async () => {
    const server = await serve(["instant", "--size", "1M"]);
    const file = join(scratchDirectory(), "disk.img");
    const sentence = await refusal([
      "serve",
      "instant",
      "--size",
      "1M",
      "--listen",
      server.uri,
      "--file",
      file,
    ]);
    expect(sentence).toContain("BLK_E_LISTEN");
    expect(existsSync(file)).toBe(false);
    expect(await server.stop()).toBe(0);
  });

  test("a file it cannot open, and a directory", async () => {
    expect(
      await refusal(["serve", "instant", "--size", "1M", "--file", "/nonexistent/dir/disk.img"]),
    ).toContain("BLK_E_FILE");
    expect(await refusal(["serve", "instant", "--size", "1M", "--file", scratchDirectory()])).toContain(
      "BLK_E_FILE",
    );
  });

  test("a file of another size than asked for", async () => {
    const file = join(scratchDirectory(), "disk.img");
    writeFileSync(file, Buffer.alloc(1 << 20));
    expect(await refusal(["serve", "instant", "--size", "2M", "--file", file])).toContain("BLK_E_FILE");
  });

  test("an unknown option, an unknown command, a missing argument", async () => {
    expect(await refusal(["serve", "instant", "--sise", "1M"])).toContain("--size");
    expect(await refusal(["sevre"])).toContain("serve");
    expect(await refusal(["serve"])).toContain("profile");
  });
});

describe("blkforge run", () => {
  test("passes on the command's exit status", async () => {
    expect((await blkforge(["run", "instant", "--size", "1M", "--", "sh", "-c", "exit 7"])).status).toBe(7);
  });

  test("a command that does not exist is an environment error", async () => {
    const { status, stderr } = await blkforge(["run", "instant", "--size", "1M", "--", "no-such-program"]);
    expect(stderr).toContain("BLK_E_COMMAND");
    expect(status).toBe(3);
  });
});
