import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { connect, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ControlClient } from "../../src/control/client.js";
import { type ApiServer, listenApi } from "../../src/control/listen.js";
import { type FakeDevice, fakeDevice } from "./support.js";

let directory: string;
let path: string;
let device: FakeDevice;
let server: ApiServer;
let client: ControlClient;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blkforge-"));
  path = join(directory, "api");
  device = fakeDevice("disk #1");
  server = await listenApi(`unix:${path}`, [device.control]);
  client = new ControlClient(`unix:${path}`);
});

afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true });
});

describe("over a real socket", () => {
  test("a device seen from outside is the device", async () => {
    const remote = await client.device();
    expect(remote.name).toBe("disk #1");
    expect(await remote.describe()).toEqual(await device.control.describe());
    expect(await remote.stats()).toEqual(await device.control.stats());
    expect(await client.version()).toMatch(/^\d+\.\d+\.\d+/);
    expect((await client.faultKinds()).map(({ name }) => name)).toEqual(["error", "delay", "hang"]);
  });

  test("requests that name no length are taken, as curl sends them", async () => {
    const ask = (method: string, target: string, chunks: string[] = []) =>
      new Promise<number | undefined>((resolve, reject) => {
        const headers = chunks.length === 0 ? {} : { "transfer-encoding": "chunked" };
        const sent = request({ socketPath: path, method, path: target, headers }, (answer) => {
          answer.resume().once("end", () => resolve(answer.statusCode));
        });
        sent.removeHeader("content-length");
        sent.once("error", reject);
        for (const chunk of chunks) sent.write(chunk);
        sent.end();
      });
    const faults = "/devices/disk%20%231/faults";
    expect(await ask("POST", faults, ['{"kind":"error",', '"name":"a"}'])).toBe(201);
    expect(await ask("DELETE", `${faults}/a`)).toBe(200);
    expect(await ask("POST", `${faults}/reset`)).toBe(200);
  });

  test("a fault's whole life", async () => {
    const { faults } = await client.device("disk #1");
    const added = await faults.add({ kind: "hang", name: "stuck", trigger: { ops: ["read"], armed: false } });
    expect(await faults.list()).toEqual([added]);
    expect((await faults.arm("stuck", true)).state).toBe("armed");
    device.bench.judge({ op: "read" });
    expect((await faults.get("stuck")).held).toBe(1);
    expect((await faults.release("stuck")).held).toBe(1);
    expect((await faults.remove("stuck")).hits).toBe(1);
    await faults.add({ kind: "error" });
    expect((await faults.reset()).map(({ name }) => name)).toEqual(["error-1"]);
    expect(await faults.list()).toEqual([]);
  });

  test("errors come back as they were", async () => {
    const { faults } = await client.device();
    await expect(faults.get("none")).rejects.toMatchObject({
      name: "BlkError",
      code: "BLK_E_FAULT_UNKNOWN",
      message: 'no fault "none" is set',
      exitCode: 2,
    });
    await expect(faults.add({ kind: "delay", options: { delay: "5" } })).rejects.toMatchObject({
      code: "BLK_E_FAULT_INVALID",
      message: expect.stringContaining("options.delay must be a duration"),
    });
  });

  test("a device that is not there is answered with those that are", async () => {
    await expect(client.device("other")).rejects.toMatchObject({
      code: "BLK_E_DEVICE_UNKNOWN",
      hint: "Name one of disk #1",
    });
  });

  test("of several devices one must be named", async () => {
    const other = join(directory, "two");
    const two = await listenApi(`unix:${other}`, [fakeDevice("a").control, fakeDevice("b").control]);
    const both = new ControlClient(`unix:${other}`);
    await expect(both.device()).rejects.toMatchObject({ hint: "Name one of a, b" });
    expect((await both.device("b")).name).toBe("b");
    await two.close();
  });
});

describe("closing", () => {
  test("ends connections that are kept alive, and removes the socket", async () => {
    const agent = new Agent({ keepAlive: true });
    await new Promise((resolve, reject) => {
      const call = request({ socketPath: path, path: "/version", agent }, (response) =>
        response.resume().once("end", resolve),
      );
      call.once("error", reject).end();
    });
    await server.close();
    expect(existsSync(path)).toBe(false);
    agent.destroy();
  });

  test("does not wait for a client that never finishes its request", async () => {
    const socket = connect(path);
    const ended = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => {}).resume();
    await new Promise((resolve) =>
      socket.write("POST /devices HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", resolve),
    );
    await server.close();
    await ended;
  });
});

describe("what cannot be reached is said with the way out", () => {
  test("no socket", async () => {
    await expect(new ControlClient(`unix:${path}.no`).devices()).rejects.toMatchObject({
      code: "BLK_E_API",
      message: `cannot reach the API at unix:${path}.no: there is no such socket`,
      hint: expect.stringContaining("Serve the device with --api"),
    });
  });

  test("nobody listens", async () => {
    writeFileSync(`${path}.dead`, "");
    await expect(new ControlClient(`unix:${path}.dead`).devices()).rejects.toMatchObject({
      code: "BLK_E_API",
      message: expect.stringContaining("nobody listens there"),
    });
  });

  test("not a unix: address", () => {
    expect(() => new ControlClient("http://localhost")).toThrowError(
      expect.objectContaining({ code: "BLK_E_USAGE" }),
    );
  });

  test.each([
    ["not JSON", 200, "<html>", /did not answer with a JSON object/],
    ["an error that is not ours", 418, "{}", /HTTP status 418/],
    ["another version", 200, '{"schemaVersion":2}', /speaks version 2 of the API, not 1/],
  ])("somebody else listens: %s", async (_what, status, body, message) => {
    const other = createServer((_request, response) => response.writeHead(status).end(body));
    await listenOn(other, `${path}.x`);
    await expect(new ControlClient(`unix:${path}.x`).devices()).rejects.toMatchObject({
      code: "BLK_E_API",
      message: expect.stringMatching(message),
    });
    await new Promise((resolve) => other.close(resolve));
  });
});

function listenOn(other: Server, where: string): Promise<void> {
  return new Promise((resolve) => other.listen(where, resolve));
}
