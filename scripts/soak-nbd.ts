/**
 * Does anything a client says harm the server? Thousands of conversations, valid, broken and cut off, from a seed, over
 * real sockets against `blkforge serve`; a canary block no valid request of theirs can reach must stay as it was, the
 * server must answer a well-behaved client all along, and its memory must not grow.
 *
 *   npx tsx scripts/soak-nbd.ts --conversations 100000 --seed 7
 *
 * The server's counters at the end show that the conversations came through to the device.
 *
 * Exit status 1 on a crash, a hang, a damaged canary, or memory that has grown by more than 10 % since the first fifth.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Random } from "../src/base/random.js";
import { formatSize } from "../src/base/units.js";
import { Prober } from "../test/nbd/support/prober.js";
import { extendedRequest, infoRequest, metaQuery, option, request, u32 } from "../test/nbd/support/wire.js";

const { values } = parseArgs({
  options: {
    conversations: { type: "string", default: "5000" },
    seed: { type: "string", default: "1" },
  },
});
const conversations = Number(values.conversations);
const random = new Random(Number(values.seed), "soak");

const sizeBytes = 64 * 1024 * 1024;
const canaryBytes = 4096;
const canaryAt = sizeBytes - canaryBytes;
const canary = Buffer.alloc(canaryBytes, "canary");
/** Side by side. */
const width = 32;
const conversationDeadlineMs = 20_000;
const largestPayloadBytes = 200_000;
const largestGrowth = 1.1;

const directory = mkdtempSync(join(tmpdir(), "blkforge-soak-"));
const path = join(directory, "nbd.sock");
const server = await startServer();
let status = 1;
try {
  status = await soak();
  server.kill("SIGTERM");
  const [serverStatus] = await once(server, "exit");
  if (serverStatus !== 0) {
    console.error(`The server ended with status ${serverStatus}`);
    status = 1;
  }
} finally {
  server.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
}
process.exit(status);

async function startServer(): Promise<ChildProcess> {
  const blkforge = resolve(import.meta.dirname, "../bin/blkforge.js");
  const listen = `nbd+unix:///?socket=${path}`;
  const child = spawn(
    process.execPath,
    [blkforge, "serve", "instant", "--size", "64M", "--stats", "--log-level", "fatal", "--listen", listen],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await once(child.stdout!, "data");
  return child;
}

async function soak(): Promise<number> {
  const friend = await Prober.open(path);
  // The device's own bytes are no leak: all of them are there from the beginning.
  const fillBytes = sizeBytes / 4;
  for (let at = 0; at < sizeBytes; at += fillBytes) {
    await friend.ask({ type: 1, offset: at, payload: Buffer.alloc(fillBytes, 1) });
  }
  if ((await friend.ask({ type: 1, offset: canaryAt, payload: canary })) !== 0) throw new Error("no canary");
  let baselineBytes = 0;
  for (let done = 0; done < conversations; ) {
    const batch = Math.min(width, conversations - done);
    await Promise.all(Array.from({ length: batch }, () => converse()));
    done += batch;
    if (server.exitCode !== null || server.signalCode !== null) {
      console.error(`The server died after ${done} conversations (seed ${values.seed})`);
      return 1;
    }
    friend.request({ type: 0, offset: canaryAt, length: canaryBytes });
    const { payload } = await friend.readReply(canaryBytes);
    if (!payload.equals(canary)) {
      console.error(`The canary is damaged after ${done} conversations (seed ${values.seed})`);
      return 1;
    }
    if (baselineBytes === 0 && done >= conversations / 5) baselineBytes = residentBytes();
  }
  const endBytes = residentBytes();
  const growth = endBytes / baselineBytes;
  console.log(
    `${conversations} conversations: no crash, no hang, canary intact; memory ${formatSize(baselineBytes)} after a ` +
      `fifth, ${formatSize(endBytes)} at the end (x${growth.toFixed(2)})`,
  );
  if (growth <= largestGrowth) return 0;
  console.error("Memory has grown by more than 10 %");
  return 1;
}

function residentBytes(): number {
  const [, kibibytes] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))!;
  return Number(kibibytes) * 1024;
}

/** One client, from connecting to the end, whoever brings it about. */
async function converse(): Promise<void> {
  const socket = connect({ path, allowHalfOpen: true });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  // A reset is a proper end here.
  socket.on("error", () => undefined);
  const readsReplies = random.next() < 0.9;
  if (readsReplies) socket.resume();
  await sendInPieces(socket, script(), closed);
  if (random.next() < 0.5) socket.end();
  else socket.destroy();
  if (!readsReplies) socket.destroy();
  const timer = setTimeout(() => {
    console.error(`A conversation hangs (seed ${values.seed})`);
    process.exit(1);
  }, conversationDeadlineMs);
  await closed;
  clearTimeout(timer);
}

/** The bytes of a conversation, mostly right, with some bytes flipped now and then, or an end too early. */
function script(): Buffer {
  const isExtended = random.next() < 0.3;
  const parts = [u32(random.next() < 0.95 ? 3 : below(8))];
  for (let i = below(4); i > 0; i--) parts.push(anyOption());
  if (isExtended) parts.push(option(11));
  else if (random.next() < 0.5) parts.push(option(8));
  if (random.next() < 0.5) parts.push(option(10, metaQuery("", ["base:allocation", "x-blkforge:fault"])));
  if (random.next() < 0.9) parts.push(option(7, infoRequest("", [3])));
  for (let i = below(12); i > 0; i--) parts.push(anyRequest(isExtended));
  if (random.next() < 0.5) parts.push(request({ type: 2 }));
  const bytes = Buffer.concat(parts);
  if (random.next() < 0.3) {
    // The handshake and headers lie at the beginning of most; payloads cannot do harm. A flip may not turn a change
    // into one of the canary, so broken conversations hold no changes behind a valid opening.
    const broken = Buffer.concat([parts[0], ...parts.slice(1).filter((part) => !isChange(part))]);
    for (let i = 1 + below(4); i > 0; i--) broken[below(broken.length)] ^= 1 << below(8);
    if (!mayChange(broken)) return broken;
  }
  return random.next() < 0.2 ? bytes.subarray(0, below(bytes.length)) : bytes;
}

/** Whether a part is a request that changes bytes. */
function isChange(part: Buffer): boolean {
  if (part.length < 28) return false;
  const magic = part.readUInt32BE(0);
  const isRequest = magic === 0x25609513 || magic === 0x21e41c71;
  return isRequest && [1, 4, 6].includes(part.readUInt16BE(6));
}

/** Whether the magic of a request is followed by a changing command anywhere: flipped bits can make one. */
function mayChange(bytes: Buffer): boolean {
  for (let at = 0; at + 8 <= bytes.length; at++) {
    const magic = bytes.readUInt32BE(at);
    if ((magic === 0x25609513 || magic === 0x21e41c71) && [1, 4, 6].includes(bytes.readUInt16BE(at + 6)))
      return true;
  }
  return false;
}

function anyOption(): Buffer {
  const data = Buffer.alloc(below(200), below(256));
  return option(below(13), random.next() < 0.5 ? data : infoRequest("disk", [below(5)]));
}

/** Changes keep away from the canary, or reach beyond the end and are refused as a whole. */
function anyRequest(isExtended: boolean): Buffer {
  const type = below(10);
  const isBeyond = random.next() < 0.1;
  const lengthBytes = random.next() < 0.1 ? 0 : below(largestPayloadBytes);
  const offset = isBeyond ? sizeBytes + below(1 << 30) : below(canaryAt - lengthBytes);
  const flags = random.next() < 0.8 ? 0 : below(64);
  const fields = { type, offset, cookie: BigInt(below(2 ** 31)), flags };
  if (type === 2) return Buffer.alloc(0);
  if (type === 1) {
    const payload = Buffer.alloc(lengthBytes, below(256));
    return isExtended
      ? extendedRequest({ ...fields, flags: flags | 32, payload })
      : request({ ...fields, payload });
  }
  const hasPayloadFlag = isExtended && (flags & 32) !== 0;
  if (hasPayloadFlag) return extendedRequest({ ...fields, payload: Buffer.alloc(lengthBytes) });
  return isExtended
    ? extendedRequest({ ...fields, length: lengthBytes })
    : request({ ...fields, length: lengthBytes });
}

async function sendInPieces(socket: Socket, bytes: Buffer, closed: Promise<void>): Promise<void> {
  const pieces = random.next() < 0.3 ? 1 + below(20) : 1;
  for (let i = 0, from = 0; i < pieces && !socket.destroyed; i++) {
    const to =
      i === pieces - 1 ? bytes.length : Math.min(bytes.length, from + below(bytes.length - from + 1));
    const piece = bytes.subarray(from, to);
    from = to;
    if (piece.length === 0) continue;
    const written = new Promise<void>((resolve) => socket.write(piece, () => resolve()));
    await Promise.race([written, closed]);
  }
}

function below(limit: number): number {
  return Math.floor(random.next() * limit);
}
