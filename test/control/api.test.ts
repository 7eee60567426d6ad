import { beforeEach, describe, expect, test } from "vitest";
import { operations } from "../../src/base/request.js";
import { createApi } from "../../src/control/api.js";
import { type FakeDevice, fakeDevice, healthLog } from "./support.js";

let device: FakeDevice;
let api: ReturnType<typeof createApi>;

beforeEach(() => {
  device = fakeDevice("disk");
  api = createApi({ version: "1.2.3", devices: [device.control] });
});

async function ask(method: string, path: string, body?: unknown) {
  const text = body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) };
  const response = await api.request(path, { method, ...text });
  expect(response.headers.get("content-type")).toContain("application/json");
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

const faults = "/devices/disk/faults";

describe("reading", () => {
  test("GET /version says who answers", async () => {
    expect(await ask("GET", "/version")).toEqual({
      status: 200,
      json: { schemaVersion: 1, name: "blkforge", version: "1.2.3" },
    });
  });

  test("GET /faults/kinds lists every kind with its options and what a host sees", async () => {
    const { json } = await ask("GET", "/faults/kinds");
    expect(json.kinds).toEqual([
      expect.objectContaining({
        name: "error",
        hostView: expect.objectContaining({ "nbd-user": expect.any(String) }),
      }),
      expect.objectContaining({
        name: "delay",
        ops: [...operations],
        options: expect.objectContaining({
          properties: expect.objectContaining({ median: expect.anything() }),
        }),
      }),
      expect.objectContaining({ name: "hang" }),
    ]);
  });

  test("GET /devices and GET /devices/{device} describe what is served", async () => {
    const description = await device.control.describe();
    expect((await ask("GET", "/devices")).json).toEqual({ schemaVersion: 1, devices: [description] });
    expect((await ask("GET", "/devices/disk")).json).toEqual({ schemaVersion: 1, device: description });
  });

  test("GET stats tells counters, and null for the figures of what never happened", async () => {
    const { json } = await ask("GET", "/devices/disk/stats");
    expect(json).toMatchObject({
      schemaVersion: 1,
      device: "disk",
      seed: 42,
      operations: {
        read: { count: 1, latency: { maxNs: 1e6 } },
        flush: { count: 0, latency: { p99Ns: null } },
      },
    });
  });
});

describe("health", () => {
  test("GET health answers with the log of a device that keeps one", async () => {
    api = createApi({ version: "1.2.3", devices: [fakeDevice("disk", healthLog).control] });
    expect(await ask("GET", "/devices/disk/health")).toEqual({
      status: 200,
      json: { schemaVersion: 1, health: healthLog },
    });
  });

  test("GET health of any other says that there is none", async () => {
    const { status, json } = await ask("GET", "/devices/disk/health");
    expect(status).toBe(404);
    expect(json.code).toBe("BLK_E_HEALTH");
  });
});

describe("resizing", () => {
  test("PATCH takes bytes or a size, and answers with the device", async () => {
    for (const [size, bytes] of [
      [2 ** 41, 2 ** 41],
      ["4T", 2 ** 42],
    ]) {
      const { status, json } = await ask("PATCH", "/devices/disk", { size });
      expect(status).toBe(200);
      expect(json.device).toMatchObject({ name: "disk", sizeBytes: bytes });
    }
  });

  test.each([
    {},
    { size: -1 },
    { size: 1.5 },
    { size: "big" },
    { name: "other" },
    { size: 512, seed: 1 },
    null,
  ])("PATCH refuses %j", async (body) => {
    const { status, json } = await ask("PATCH", "/devices/disk", body);
    expect(status).toBe(400);
    expect(json.code).toMatch(/^BLK_E_(USAGE|SIZE)$/);
  });
});

describe("faults", () => {
  test("are set, read and removed", async () => {
    const spec = { kind: "error", trigger: { ops: ["flush"], nth: 3 }, options: { status: "nospc" } };
    const { status, json } = await ask("POST", faults, spec);
    expect(status).toBe(201);
    expect(json.fault).toMatchObject({
      name: "error-1",
      hostView: { "nbd-kernel": "EIO", "nbd-user": "ENOSPC", ublk: "ENOSPC" },
    });
    expect((await ask("GET", `${faults}/error-1`)).json).toEqual(json);
    expect((await ask("GET", faults)).json).toEqual({ schemaVersion: 1, faults: [json.fault] });

    expect((await ask("DELETE", `${faults}/error-1`)).json).toEqual(json);
    expect((await ask("GET", faults)).json).toEqual({ schemaVersion: 1, faults: [] });
  });

  test("that hold requests are released", async () => {
    await ask("POST", faults, { kind: "hang", name: "stuck" });
    device.bench.judge({ op: "read" });
    expect((await ask("POST", `${faults}/stuck/release`)).json.fault).toMatchObject({ held: 1 });
    expect(device.bench.released).toEqual([0]);
    expect((await ask("GET", `${faults}/stuck`)).json.fault).toMatchObject({ held: 0, hits: 1 });
  });

  test("are armed at the moment that matters", async () => {
    await ask("POST", faults, { kind: "error", trigger: { armed: false } });
    expect((await ask("POST", `${faults}/error-1/arm`)).json.fault).toMatchObject({ state: "armed" });
    expect((await ask("POST", `${faults}/error-1/disarm`)).json.fault).toMatchObject({ state: "disarmed" });
  });

  test("are all gone after a reset, which works in any state", async () => {
    await ask("POST", faults, { kind: "hang" });
    device.bench.judge({ op: "read" });
    const { status, json } = await ask("POST", `${faults}/reset`);
    expect(status).toBe(200);
    expect(json.removed).toMatchObject([{ name: "hang-1", held: 1 }]);
    expect((await ask("POST", `${faults}/reset`)).json).toEqual({ schemaVersion: 1, removed: [] });
  });
});

describe("errors are JSON with a code, a sentence and the way out", () => {
  test.each([
    ["an unknown route", "GET", "/nope", undefined, 404, "BLK_E_API_ROUTE", /no GET \/nope/],
    ["a method a route does not have", "PUT", faults, {}, 404, "BLK_E_API_ROUTE", /no PUT/],
    [
      "an unknown device",
      "GET",
      "/devices/other/faults",
      undefined,
      404,
      "BLK_E_DEVICE_UNKNOWN",
      /no device "other"/,
    ],
    ["an unknown fault", "DELETE", `${faults}/x`, undefined, 404, "BLK_E_FAULT_UNKNOWN", /no fault "x"/],
    ["a body that is not JSON", "POST", faults, "{kind:", 400, "BLK_E_USAGE", /not JSON/],
    ["no body", "POST", faults, undefined, 400, "BLK_E_USAGE", /not JSON/],
    [
      "an invalid fault",
      "POST",
      faults,
      { kind: "hang", trigger: { nth: 0 } },
      400,
      "BLK_E_FAULT_INVALID",
      /trigger\.nth/,
    ],
    ["a body without an end", "POST", faults, " ".repeat(70_000), 413, "BLK_E_API_BODY", /over 65536 bytes/],
  ])("%s", async (_what, method, path, body, status, code, message) => {
    const answer = await ask(method, path, body);
    expect(answer).toEqual({
      status,
      json: { code, message: expect.stringMatching(message), hint: expect.stringMatching(/./) },
    });
  });

  test("a name that is taken", async () => {
    await ask("POST", faults, { kind: "hang", name: "mine" });
    expect(await ask("POST", faults, { kind: "hang", name: "mine" })).toMatchObject({
      status: 409,
      json: { code: "BLK_E_FAULT_EXISTS" },
    });
  });

  test("a failure of our own", async () => {
    device.control.stats = () => Promise.reject(new Error("the thread died"));
    expect(await ask("GET", "/devices/disk/stats")).toMatchObject({
      status: 500,
      json: { code: "BLK_E_INTERNAL", message: "the API failed: the thread died" },
    });
  });
});
