/**
 * The control API: HTTP and JSON, small enough to drive with curl and to wrap in an evening.
 *
 *     GET    /version                                   who answers
 *     GET    /faults/kinds                              kinds of faults, their options, what a host sees
 *     GET    /devices                                   devices served
 *     GET    /devices/{device}                          one of them
 *     PATCH  /devices/{device}                          makes it larger: {size: "2G"} or bytes
 *     GET    /devices/{device}/stats                    counters, latency, lateness
 *     GET    /devices/{device}/health                   the device's own health log, if it keeps one
 *     GET    /devices/{device}/faults                   faults that are set, with what they did
 *     POST   /devices/{device}/faults                   sets a fault: {kind, name?, trigger?, options?}
 *     GET    /devices/{device}/faults/{name}            one of them
 *     DELETE /devices/{device}/faults/{name}            removes it, and releases what it holds
 *     POST   /devices/{device}/faults/{name}/release    releases what it holds; it stays set
 *     POST   /devices/{device}/faults/{name}/arm        makes it act; /disarm makes it idle
 *     POST   /devices/{device}/faults/reset             removes all, releases all; never fails
 *
 * Every answer is a JSON object with `schemaVersion`; every error is {code, message, hint} with a code of errors.ts.
 * The app knows no port: tests call `app.request()`, and listen.ts puts it on a socket.
 */
import { type Context, Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { BlkError } from "../base/errors.js";
import { parseSize } from "../base/units.js";
import { describeFaultKinds } from "../fault/kinds.js";
import type { FaultSpec } from "../fault/set.js";
import { readJson } from "./body.js";
import type { DeviceControl } from "./control.js";
import { schemaVersion } from "./stats-shape.js";

export interface ApiOptions {
  /** Version of blkforge. */
  version: string;
  devices: readonly DeviceControl[];
}

export function createApi({ version, devices }: ApiOptions): Hono {
  const app = new Hono();

  const deviceOf = (context: Context): DeviceControl => {
    const name = context.req.param("device");
    const device = devices.find((candidate) => candidate.name === name);
    if (device !== undefined) return device;
    throw new BlkError(
      "BLK_E_DEVICE_UNKNOWN",
      `no device "${name}" is served here`,
      `There is ${devices.map((served) => served.name).join(", ")}`,
    );
  };

  app.get("/version", (context) => context.json({ schemaVersion, name: "blkforge", version }));
  app.get("/faults/kinds", (context) => context.json({ schemaVersion, kinds: describeFaultKinds() }));

  app.get("/devices", async (context) => {
    const descriptions = await Promise.all(devices.map((device) => device.describe()));
    return context.json({ schemaVersion, devices: descriptions });
  });
  app.get("/devices/:device", async (context) => {
    return context.json({ schemaVersion, device: await deviceOf(context).describe() });
  });
  app.patch("/devices/:device", async (context) => {
    const sizeBytes = readSize(await readJson(context.req.raw));
    return context.json({ schemaVersion, device: await deviceOf(context).resize(sizeBytes) });
  });
  app.get("/devices/:device/stats", async (context) => context.json(await deviceOf(context).stats()));

  app.get("/devices/:device/health", async (context) => {
    return context.json({ schemaVersion, health: await deviceOf(context).health() });
  });

  const faults = "/devices/:device/faults";
  app.get(faults, async (context) => {
    return context.json({ schemaVersion, faults: await deviceOf(context).faults.list() });
  });
  app.post(faults, async (context) => {
    const device = deviceOf(context);
    // Whether it is a fault is for the device to say: validation has one place.
    const fault = await device.faults.add((await readJson(context.req.raw)) as FaultSpec);
    return context.json({ schemaVersion, fault }, 201);
  });
  app.post(`${faults}/reset`, async (context) => {
    return context.json({ schemaVersion, removed: await deviceOf(context).faults.reset() });
  });
  app.get(`${faults}/:name`, async (context) => {
    return context.json({
      schemaVersion,
      fault: await deviceOf(context).faults.get(context.req.param("name")),
    });
  });
  app.delete(`${faults}/:name`, async (context) => {
    const fault = await deviceOf(context).faults.remove(context.req.param("name"));
    return context.json({ schemaVersion, fault });
  });
  app.post(`${faults}/:name/release`, async (context) => {
    const fault = await deviceOf(context).faults.release(context.req.param("name"));
    return context.json({ schemaVersion, fault });
  });
  for (const verb of ["arm", "disarm"] as const) {
    app.post(`${faults}/:name/${verb}`, async (context) => {
      const fault = await deviceOf(context).faults.arm(context.req.param("name"), verb === "arm");
      return context.json({ schemaVersion, fault });
    });
  }

  app.notFound((context) => {
    const { method, path } = context.req;
    const error = new BlkError(
      "BLK_E_API_ROUTE",
      `the API has no ${method} ${path}`,
      "docs/faults.md lists the routes; GET /devices is a good first",
    );
    return context.json(error, 404);
  });
  app.onError((error, context) => {
    const known =
      error instanceof BlkError ? error : new BlkError("BLK_E_INTERNAL", `the API failed: ${error.message}`);
    return context.json(known, known.httpStatus as ContentfulStatusCode);
  });
  return app;
}

/** @throws BlkError BLK_E_USAGE, BLK_E_SIZE */
function readSize(body: unknown): number {
  const fields = typeof body === "object" && body !== null ? Object.entries(body) : [];
  const [[name, size] = []] = fields;
  if (fields.length === 1 && name === "size") {
    if (typeof size === "number" && Number.isSafeInteger(size) && size > 0) return size;
    if (typeof size === "string") return parseSize(size);
  }
  throw new BlkError(
    "BLK_E_USAGE",
    `a device cannot be changed to ${JSON.stringify(body)}`,
    'Only its size can be changed: {"size": "2G"}, or a number of bytes',
  );
}
