/**
 * What CAN_MULTI_CONN promises, from the clients' sockets down to an image file: a flush on one connection covers what was
 * acknowledged on any, and is answered after the sync, not before. Syncs end when the test says so.
 */
import type * as fs from "node:fs";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { RequestTable } from "../../src/base/request.js";
import { Device } from "../../src/device/device.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { openFileStore } from "../../src/store/file.js";
import { eventually, Prober } from "../nbd/support/prober.js";
import { serve } from "../nbd/support/serving.js";
import { cmd, errno } from "../nbd/support/wire.js";
import { scratchDirectory } from "../support/blkforge.js";

const syncs: fs.NoParamCallback[] = [];

vi.mock("node:fs", async (importOriginal) => ({
  ...(await importOriginal<typeof fs>()),
  fdatasync: (_fd: number, callback: fs.NoParamCallback) => void syncs.push(callback),
}));

function endSync(code: "EIO" | null = null): void {
  syncs.shift()!(code === null ? null : Object.assign(new Error(code), { code, errno: -5 }));
}

/** Two connections to an instant device that keeps its bytes in a file. */
async function twoConnections() {
  syncs.length = 0;
  const sizeBytes = 1 << 20;
  const path = join(scratchDirectory(), "disk.img");
  const store = openFileStore({ path, sizeBytes, isSizeGiven: true, blockBytes: 512, isReadOnly: false });
  onTestFinished(() => {
    store.close();
    while (syncs.length > 0) endSync();
  });
  const requests = new RequestTable(64);
  const profile = loadProfile("fixed", { settings: ["latency=0"], size: "1M" });
  const device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store,
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults: new FaultSet({ seed: 1, requests, sizeBytes, onRelease: () => undefined }),
    clock: new VirtualClock(),
    stats: new DeviceStats(),
  });
  const { path: socket } = await serve({ exports: [{ name: "", target: device }] });
  return { image: path, a: await Prober.open(socket), b: await Prober.open(socket) };
}

/** When it returns, all that both connections had sent before has been taken. */
async function settle(...probers: Prober[]): Promise<void> {
  for (const prober of probers) expect(await prober.ask({ type: cmd.read, length: 1 })).toBe(0);
}

test("a flush on one connection syncs what was acknowledged on another, and is answered after the sync", async () => {
  const { image, a, b } = await twoConnections();
  expect(await a.ask({ type: cmd.write, offset: 4096, payload: Buffer.from("acknowledged") })).toBe(0);
  expect(syncs).toHaveLength(0);
  b.request({ type: cmd.flush, cookie: 2n });
  await eventually(() => syncs.length === 1);
  // It is in the file by the time the sync begins.
  expect(readFileSync(image).toString("latin1", 4096, 4108)).toBe("acknowledged");
  await settle(a);
  expect(b.unreadBytes).toBe(0);
  endSync();
  expect(await b.readReply()).toMatchObject({ error: 0, cookie: 2n });
});

test("a flush that comes during another's sync waits for one of its own", async () => {
  const { a, b } = await twoConnections();
  a.request({ type: cmd.flush, cookie: 1n });
  await eventually(() => syncs.length === 1);
  // Acknowledged while the sync runs, which may have missed it.
  expect(await b.ask({ type: cmd.write, payload: Buffer.from("late") })).toBe(0);
  b.request({ type: cmd.flush, cookie: 2n });
  // A connection's requests are taken in order, so the flush has been by then.
  await settle(b);
  endSync();
  expect(await a.readReply()).toMatchObject({ error: 0, cookie: 1n });
  await eventually(() => syncs.length === 1);
  await settle(a);
  expect(b.unreadBytes).toBe(0);
  endSync();
  expect(await b.readReply()).toMatchObject({ error: 0, cookie: 2n });
});

test("a write with FUA, and a trim and a zeroing with it, are answered after a sync", async () => {
  const { a, b } = await twoConnections();
  for (const fields of [
    { type: cmd.write, payload: Buffer.from("forced") },
    { type: cmd.trim, length: 4096 },
    { type: cmd.zeroes, length: 4096 },
  ]) {
    a.request({ ...fields, flags: 1 });
    await eventually(() => syncs.length === 1);
    await settle(b);
    expect(a.unreadBytes).toBe(0);
    endSync();
    expect((await a.readReply()).error).toBe(0);
  }
});

test("a sync that fails is told to whoever asked, and to every flush after it on any connection", async () => {
  const { a, b } = await twoConnections();
  a.request({ type: cmd.flush });
  await eventually(() => syncs.length === 1);
  endSync("EIO");
  expect((await a.readReply()).error).toBe(errno.EIO);
  b.request({ type: cmd.flush });
  await eventually(() => syncs.length === 1);
  endSync();
  expect((await b.readReply()).error).toBe(errno.EIO);
});
