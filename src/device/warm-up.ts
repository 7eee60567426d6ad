/**
 * Runs what a solid-state drive's requests run through, before the first client comes: V8 compiles code that has run some thousand
 * times, and what it has not compiled yet takes ten times as long. Without this a drive's first half second is late, and so is the
 * moment two seconds after power-on at which times no longer fit the integers V8 took them for.
 *
 * A drive of the same profile, with state, counters and memory of its own, serves a client in this very thread over a pair of sockets; its
 * time begins late, and is skipped from deadline to deadline. Nothing of it is left but the compiled code.
 */
import { Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { loadNative } from "../base/native.js";
import { Random } from "../base/random.js";
import { RequestTable } from "../base/request.js";
import { FaultSet } from "../fault/set.js";
import { createModel } from "../model/create.js";
import { BufferPool } from "../nbd/buffer-pool.js";
import { Connection } from "../nbd/connection.js";
import { Command, requestHeaderBytes, requestMagic } from "../nbd/constants.js";
import { transmissionFlagsOf } from "../nbd/export.js";
import { defaultLimits } from "../nbd/limits.js";
import { silentLogger } from "../nbd/logger.js";
import type { ReplyMode } from "../nbd/replies.js";
import { SlotNotes } from "../nbd/slot-notes.js";
import { MemoryStore } from "../store/memory.js";
import { Device } from "./device.js";
import { LiveClock } from "./live-clock.js";
import type { DeviceSpec } from "./spec.js";
import { DeviceStats } from "./stats.js";

/** Enough for the compiler to have seen all that is run for each request. */
const rounds = 1200;
const requestsPerRound = 8;
/** A slow machine starts half warm rather than late. */
const longestMs = 600;
/** In flight, as a busy client has them. */
const depth = 128;

const blockBytes = 4096;
/** Enough for writes to be collected; of its memory only what is written is taken. */
const largestBytes = 2 ** 28;
/** Beyond all integers of 32 bits, and none itself, as most times of a drive that runs are. */
const powerOnNs = 2 ** 40 + 0.5;

/** Whether it is worth the time: where microseconds matter, and the machine has a processor to spend. */
export function wantsWarmUp({ profile, timing, listen }: DeviceSpec): boolean {
  return profile.model === "ssd" && timing !== "sleep" && listen.length > 0;
}

/** Answers how many requests it has served. */
export async function warmUp({ profile, seed }: DeviceSpec): Promise<number> {
  const { socketPair, Clock } = loadNative();
  const ends = new Int32Array(2);
  if (Clock === undefined || socketPair === undefined || socketPair(ends) !== 0) return 0;
  const sizeBytes = Math.min(profile.sizeBytes, largestBytes);
  const clock = new LiveClock({ timing: "hybrid" });
  clock.skip(powerOnNs);
  const requests = new RequestTable(4096);
  const store = new MemoryStore({ sizeBytes, limitBytes: sizeBytes });
  const stats = new DeviceStats();
  const device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store,
    model: createModel({ profile, requests, seed, sizeBytes }),
    faults: new FaultSet({ seed, requests, sizeBytes, onRelease: () => undefined }),
    clock,
    stats,
  });
  const notes = new SlotNotes(requests.capacity);
  const exported = { name: "", target: device };
  const [served, clients] = ends;
  const client = new Socket({ fd: clients, readable: true, writable: true });
  client.on("error", () => undefined);
  client.resume();
  // As fio's and libnbd's clients speak.
  const replyMode: ReplyMode = "structured";
  let hasClosed = false;
  const connection = new Connection({
    socket: new Socket({ fd: served, readable: true, writable: true, allowHalfOpen: true }),
    number: 0,
    exports: [exported],
    tls: null,
    limits: defaultLimits,
    pool: new BufferPool(defaultLimits.payloadBytes),
    notesOf: () => notes,
    logger: silentLogger,
    session: {
      export: exported,
      transmissionFlags: transmissionFlagsOf(exported, replyMode),
      replyMode,
      contexts: [],
    },
    onClose: () => {
      hasClosed = true;
    },
  });

  const random = new Random(seed, "warm-up");
  const untilMs = performance.now() + longestMs;
  for (let round = 0; round < rounds && performance.now() < untilMs; round++) {
    client.write(batch(random, sizeBytes));
    await turn();
    while (requests.inFlight > depth && clock.meetDeadline());
  }
  connection.destroy("warm-up is over");
  client.destroy();
  while (!hasClosed) await turn();
  clock.close();
  store.close();
  return stats.read().lateness.count;
}

/** Writes and reads in turn, anywhere. */
function batch(random: Random, sizeBytes: number): Buffer {
  const strideBytes = requestHeaderBytes + blockBytes;
  const bytes = Buffer.alloc((requestsPerRound / 2) * (strideBytes + requestHeaderBytes));
  let at = 0;
  for (let i = 0; i < requestsPerRound; i++) {
    const isWrite = i % 2 === 0;
    bytes.writeUInt32BE(requestMagic, at);
    bytes.writeUInt16BE(isWrite ? Command.write : Command.read, at + 6);
    bytes.writeBigUInt64BE(BigInt(random.nextInteger(sizeBytes / blockBytes) * blockBytes), at + 16);
    bytes.writeUInt32BE(blockBytes, at + 24);
    at += isWrite ? strideBytes : requestHeaderBytes;
  }
  return bytes;
}
