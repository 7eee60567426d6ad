/**
 * The device thread: builds one device from its spec, opens its NBD sockets, and answers the main thread's calls.
 *
 * One owner, no locks: model, faults, store, sockets and timer all live here. What is half started when something
 * fails is undone before the error is reported.
 */
import { existsSync, rmSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { pino } from "pino";
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import { RequestTable } from "../base/request.js";
import { type FaultReport, FaultSet, type FaultSpec } from "../fault/set.js";
import { createModel } from "../model/create.js";
import { NbdServer } from "../nbd/server.js";
import { loadTls } from "../nbd/tls.js";
import { parseNbdUri } from "../nbd/uri.js";
import { openFileStore } from "../store/file.js";
import { MemoryStore } from "../store/memory.js";
import type { Store } from "../store/store.js";
import { Device } from "./device.js";
import type { DeviceDescription, DeviceSpec } from "./host.js";
import { KernelLinks } from "./kernel-links.js";
import { LiveClock } from "./live-clock.js";
import { openRecording, type Recording } from "./recording.js";
import { answerCalls } from "./rpc.js";
import { DeviceStats } from "./stats.js";

/** Requests in flight over all connections: 8 queues as deep as the Linux client's (128), and room for hung ones. */
const requestCapacity = 4096;

/** What is in flight at a stop gets this long; a slow disk's longest queue drains in it, a hang does not. */
const drainDeadlineMs = 10_000;

const { spec, statsBuffer } = workerData as { spec: DeviceSpec; statsBuffer: SharedArrayBuffer };
assert(parentPort !== null, "the device thread runs in a worker");

// Synchronous: a line that says why the thread died must not die with it.
const log = pino(
  { level: spec.logLevel, base: { device: spec.name } },
  pino.destination({ dest: 2, sync: true }),
);

const clock = new LiveClock({ timing: spec.timing });
let device: Device;
let faults: FaultSet;
let store: Store;
let server: NbdServer | null = null;
let recording: Recording | null = null;
let kernelLinks: KernelLinks;

const methods = {
  start,
  report: () => ({
    uptimeNs: clock.nowNs(),
    store: { allocatedBytes: store.allocatedBytes() },
    faults: faults.list(),
    model: device.modelReport(),
  }),
  health: () => device.health(),
  addFault(fault: FaultSpec): FaultReport {
    const report = faults.add(fault);
    log.info({ fault: report }, "fault added");
    return report;
  },
  listFaults: () => faults.list(),
  getFault: (name: string) => faults.get(name),
  armFault: ({ name, isArmed }: { name: string; isArmed: boolean }) => faults.arm(name, isArmed),
  removeFault: (name: string) => faults.remove(name),
  releaseFault: (name: string) => faults.release(name),
  resetFaults: () => faults.reset(),
  openKernelLinks: (wanted: number) => kernelLinks.open(wanted),
  nextKernelLinkEnd: () => kernelLinks.nextEnd(),
  resize,
  close,
};

export type DeviceMethods = typeof methods;

answerCalls(parentPort, methods);

async function start(): Promise<DeviceDescription> {
  const isNewFile = spec.file !== null && !existsSync(spec.file);
  const { profile } = spec;
  // Addresses are read first: the cheapest mistakes are found before anything is touched.
  const addresses = spec.listen.map(parseNbdUri);
  const tls = loadTls(spec.tls);
  store = openStore();
  try {
    const requests = new RequestTable(requestCapacity);
    const { sizeBytes } = store;
    if (spec.isBlockSizeEnforced && sizeBytes % profile.logicalBlockBytes !== 0) {
      throw new BlkError(
        "BLK_E_SIZE",
        `${sizeBytes} bytes are not whole blocks of ${profile.logicalBlockBytes}`,
        "Choose another --size, or leave out --strict-blocks",
      );
    }
    faults = new FaultSet({
      seed: spec.seed,
      requests,
      sizeBytes,
      onRelease: (holder) => device.release(holder),
    });
    if (spec.record !== null) recording = openRecording(spec, requests, sizeBytes);
    device = new Device({
      identity: { ...profile, name: spec.name, isReadOnly: spec.isReadOnly },
      requests,
      store,
      model: createModel({ profile, requests, seed: spec.seed, sizeBytes }),
      faults,
      clock,
      stats: new DeviceStats(statsBuffer),
      observer: recording?.writer ?? null,
    });
    const names = [...new Set(addresses.map(({ exportName }) => exportName))];
    const { isBlockSizeEnforced } = spec;
    server = new NbdServer({
      exports: names.map((name) => ({
        name,
        target: device,
        isBlockSizeEnforced,
        isTlsRequired: addresses.every(({ exportName, isTls }) => exportName !== name || isTls === true),
      })),
      tls,
      logger: log,
    });
    kernelLinks = new KernelLinks(server, { name: spec.name, target: device }, log);
    const uris: string[] = [];
    for (const address of addresses) uris.push(await server.listen(address));
    log.info({ uris, seed: spec.seed, timing: spec.timing }, "serving");
    return {
      name: spec.name,
      profile: profile.name,
      description: profile.description,
      sizeBytes,
      seed: spec.seed,
      isReadOnly: spec.isReadOnly,
      timing: spec.timing,
      uris,
    };
  } catch (error) {
    await server?.close({ deadlineMs: 0 });
    recording?.close();
    store.close();
    if (spec.file !== null && isNewFile) rmSync(spec.file, { force: true });
    throw error;
  }
}

/** Answers with the new size. */
function resize(sizeBytes: number): number {
  const { logicalBlockBytes } = spec.profile;
  if (sizeBytes % logicalBlockBytes !== 0) {
    throw new BlkError(
      "BLK_E_SIZE",
      `${sizeBytes} bytes are not a multiple of the ${logicalBlockBytes}-byte logical block`,
      `Choose ${Math.ceil(sizeBytes / logicalBlockBytes) * logicalBlockBytes}`,
    );
  }
  device.grow(sizeBytes);
  log.info({ sizeBytes }, "resized");
  return device.sizeBytes;
}

function openStore(): Store {
  const { sizeBytes, logicalBlockBytes } = spec.profile;
  if (spec.file === null) return new MemoryStore({ sizeBytes, limitBytes: spec.memoryLimitBytes });
  return openFileStore({
    path: spec.file,
    sizeBytes,
    blockBytes: logicalBlockBytes,
    isSizeGiven: spec.isSizeGiven,
    isReadOnly: spec.isReadOnly,
  });
}

/** Held requests are let go first: nobody can release them any more, and a client should not wait for its timeout. */
async function close(): Promise<void> {
  faults.reset();
  await server?.close({ deadlineMs: drainDeadlineMs });
  clock.close();
  recording?.close();
  store.close();
}
