import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { listenUnix } from "../../src/base/unix-socket.js";

let directory: string;
let path: string;
const servers: Server[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blkforge-"));
  path = join(directory, "s");
});

afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
  rmSync(directory, { recursive: true });
});

function newServer(): Server {
  // Whoever only asks whether somebody listens hangs up without reading.
  const server = createServer((socket) => socket.on("error", () => {}).end("here"));
  servers.push(server);
  return server;
}

function ask(): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("data", (data) => resolve(data.toString()));
    socket.once("error", reject);
  });
}

test("clients can connect, and only those of the same user", async () => {
  await listenUnix(newServer(), path);
  expect(await ask()).toBe("here");
  expect(lstatSync(path).mode & 0o777).toBe(0o600);
});

test("the umask is as it was afterwards", async () => {
  const before = process.umask();
  await listenUnix(newServer(), path);
  expect(process.umask()).toBe(before);
});

test("closing removes the socket", async () => {
  const server = newServer();
  await listenUnix(server, path);
  await new Promise((resolve) => server.close(resolve));
  expect(existsSync(path)).toBe(false);
});

test("a socket left behind by a killed server is replaced", async () => {
  const killed = `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", killed]);
  expect(lstatSync(path).isSocket()).toBe(true);

  await listenUnix(newServer(), path);
  expect(await ask()).toBe("here");
});

test("a socket in use is left alone, and the error says so", async () => {
  await listenUnix(newServer(), path);
  await expect(listenUnix(newServer(), path)).rejects.toMatchObject({
    code: "BLK_E_LISTEN",
    message: `the socket "${path}" is in use by another process`,
  });
  expect(await ask()).toBe("here");
});

test("a file that is no socket is never removed", async () => {
  writeFileSync(path, "precious");
  await expect(listenUnix(newServer(), path)).rejects.toMatchObject({
    code: "BLK_E_LISTEN",
    message: `"${path}" exists and is not a socket`,
  });
  expect(existsSync(path)).toBe(true);
});

test.each([
  ["a missing directory", () => join(directory, "missing", "s"), /directory does not exist/],
  ["a path too long for a socket", () => join(directory, "s".repeat(120)), /longer than the \d+ bytes/],
])("%s is refused with the way out", async (_what, where, message) => {
  await expect(listenUnix(newServer(), where())).rejects.toMatchObject({
    code: "BLK_E_LISTEN",
    message: expect.stringMatching(message),
  });
});
