/**
 * Does anything a client says, or fails to say, harm the server? Thousands of conversations, valid, broken and cut off,
 * from a seed, over real sockets against `blkforge serve`: in the clear and through TLS, over Unix sockets and TCP, under
 * several exports, by clients that read their replies, read them slowly or never, close their side, vanish or reset.
 *
 * A canary block on each device, which no request of theirs can reach, must stay as it was, well-behaved clients must be
 * answered all along, and in the end the server must have neither more memory nor more open sockets than it had after a fifth of them.
 *
 *   nice npx tsx scripts/soak-nbd.ts --conversations 100000 --seed 7
 *
 * A conversation's words depend only on the seed and its number, so one that does harm can be had again:
 *
 *   npx tsx scripts/soak-nbd.ts --seed 7 --first 4711 --conversations 1
 *
 * Exit status 1 on a crash, a hang, a damaged canary, sockets left open, or memory that has grown by more than 10 %; the
 * latter is judged from 20 000 conversations on, since before that the server still warms up.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { parseArgs } from "node:util";
import { Random } from "../src/base/random.js";
import { formatSize } from "../src/base/units.js";
import { Prober } from "../test/nbd/support/prober.js";
import { option, u32 } from "../test/nbd/support/wire.js";
import { below, chance, conversation, type Device } from "./support/fuzz-conversation.js";

const { values } = parseArgs({
  options: {
    conversations: { type: "string", default: "5000" },
    first: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
  },
});
const first = Number(values.first);
const end = first + Number(values.conversations);
const seed = Number(values.seed);

const sizeBytes = 32 * 1024 * 1024;
const deviceNames = ["disk", "other", "third"];
const canaryBytes = 4096;
const canary = Buffer.alloc(canaryBytes, "canary");
const device: Device = {
  sizeBytes,
  canaryAt: sizeBytes - canaryBytes,
  exportNames: ["", ...deviceNames, "nobody's"],
};
/** Side by side. */
const width = 32;
const conversationDeadlineMs = 30_000;
/** How often the canary is looked at, in conversations. */
const checkEvery = 100;
const largestGrowth = 1.1;
const judgedConversations = 20_000;
/** What still holds sockets when all conversations have ended lingers for a second (`lingerMs`). */
const settleDeadlineMs = 10_000;

const directory = mkdtempSync(join(tmpdir(), "blkforge-soak-"));
const keyHex = "00112233445566778899aabbccddeeff";
const keys = join(directory, "keys.psk");
writeFileSync(keys, `alice:${keyHex}\n`);
const [openPath, secretPath] = ["open", "secret"].map((name) => join(directory, name));
const counts = { plain: 0, tls: 0, slow: 0, deaf: 0 };

const { server, port } = await startServer();
/** Where clients may knock; the last demands TLS. */
const addresses: NetConnectOpts[] = [{ path: openPath }, { host: "127.0.0.1", port }, { path: secretPath }];
let status = 1;
try {
  status = await soak();
  server.kill("SIGTERM");
  const [serverStatus] = await once(server, "exit");
  if (serverStatus !== 0) {
    console.error(`The server ended with status ${serverStatus}`);
    status = 1;
  }
} catch (error) {
  console.error(`${error instanceof Error ? error.message : error} (seed ${seed})`);
} finally {
  server.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
}
process.exit(status);

async function startServer(): Promise<{ server: ChildProcess; port: number }> {
  const blkforge = resolve(import.meta.dirname, "../bin/blkforge.js");
  const uris = [
    `nbd+unix:///?socket=${openPath}`,
    "nbd://127.0.0.1:0/",
    `nbds+unix:///?socket=${secretPath}`,
  ];
  // Slow enough that requests are in flight when their client goes.
  const devices = deviceNames.map((name) => `${name}=fixed`);
  const profile = [...devices, "--size", formatSize(sizeBytes), "--set", "latency=200us"];
  const child = spawn(
    process.execPath,
    [
      ...[blkforge, "serve", ...profile, "--json", "--log-level", "fatal"],
      ...["--tls", "allow", "--tls-psk", keys, ...uris.flatMap((uri) => ["--listen", uri])],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [line] = await once(child.stdout!, "data");
  const [, tcpPort] = /"nbd:\/\/127\.0\.0\.1:(\d+)\//.exec(String(line))!;
  return { server: child, port: Number(tcpPort) };
}

async function soak(): Promise<number> {
  const friends = await Promise.all(deviceNames.map((name) => Prober.open(openPath, name)));
  for (const friend of friends) {
    // The devices' own bytes are no leak: all of them are there from the beginning.
    const fillBytes = sizeBytes / 2;
    for (let at = 0; at < sizeBytes; at += fillBytes) {
      await friend.ask({ type: 1, offset: at, payload: Buffer.alloc(fillBytes, 1) });
    }
    if ((await friend.ask({ type: 1, offset: device.canaryAt, payload: canary })) !== 0) {
      throw new Error("There is no canary");
    }
  }
  const socketsBefore = openDescriptors();
  let checking = checkHealth(friends, 0);
  let baselineBytes = 0;
  let next = first;
  let done = 0;
  const converseOn = async () => {
    while (next < end) {
      await converse(next++);
      done++;
      if (done % checkEvery === 0) {
        const at = done;
        checking = checking.then(() => checkHealth(friends, at));
        await checking;
      }
      if (baselineBytes === 0 && done >= (end - first) / 5) baselineBytes = residentBytes();
    }
  };
  await Promise.all(Array.from({ length: width }, converseOn));
  await checkHealth(friends, done);
  const deadline = Date.now() + settleDeadlineMs;
  while (openDescriptors() > socketsBefore) {
    if (Date.now() > deadline) {
      throw new Error(`${openDescriptors() - socketsBefore} sockets are left open`);
    }
    await friends[0].ask({ type: 3 });
  }
  const endBytes = residentBytes();
  const growth = endBytes / baselineBytes;
  const { plain, tls, slow, deaf } = counts;
  console.log(
    `${done} conversations (${plain} in the clear, ${tls} through TLS; ${slow} slow readers, ${deaf} that read nothing): ` +
      `no crash, no hang, no socket left open, canaries intact; memory ${formatMebibytes(baselineBytes)} after a fifth, ` +
      `${formatMebibytes(endBytes)} at the end (x${growth.toFixed(2)})`,
  );
  if (done < judgedConversations || growth <= largestGrowth) return 0;
  console.error("Memory has grown by more than 10 %");
  return 1;
}

/** The server lives, answers, and the canaries are as they were. */
async function checkHealth(friends: readonly Prober[], done: number): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) {
    throw new Error(`The server died after ${done} conversations`);
  }
  for (const [index, friend] of friends.entries()) {
    friend.request({ type: 0, offset: device.canaryAt, length: canaryBytes });
    const { payload } = await friend.readReply(canaryBytes);
    if (payload.equals(canary)) continue;
    throw new Error(`The canary of ${deviceNames[index]} is damaged after ${done} conversations`);
  }
}

function residentBytes(): number {
  const [, kibibytes] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))!;
  return Number(kibibytes) * 1024;
}

function openDescriptors(): number {
  return readdirSync(`/proc/${server.pid}/fd`).length;
}

function formatMebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** One client, from connecting to the end, whoever brings it about. */
async function converse(number: number): Promise<void> {
  const random = new Random(seed, `conversation ${number}`);
  const address = addresses[below(random, addresses.length)];
  const raw = connect({ allowHalfOpen: true, ...address } as NetConnectOpts);
  const closed = new Promise<void>((resolve) => raw.once("close", () => resolve()));
  // A reset is a proper end here.
  raw.on("error", () => undefined);
  const timer = setTimeout(() => {
    console.error(`Conversation ${number} hangs (seed ${seed})`);
    process.exit(1);
  }, conversationDeadlineMs);
  const bytes = conversation(random, device);
  const wantsTls = chance(random, address === addresses[2] ? 0.5 : 0.05);
  const secure = wantsTls ? await switchToTls(random, raw, closed) : null;
  counts[secure === null ? "plain" : "tls"]++;
  const socket = secure ?? raw;
  readReplies(random, socket);
  // The client's flags have been sent before STARTTLS.
  await sendInPieces(random, socket, secure === null ? bytes : bytes.subarray(4), closed);
  if (secure !== null && chance(random, 0.1))
    raw.write(Buffer.alloc(1 + below(random, 2000), below(random, 256)));
  leave(random, socket, raw);
  await closed;
  clearTimeout(timer);
}

/** Most read all; some are slow, and some do not read at all. */
function readReplies(random: Random, socket: Socket): void {
  const kind = random.next();
  if (kind < 0.8) {
    socket.resume();
  } else if (kind < 0.9) {
    counts.slow++;
    const sips = below(random, 40);
    socket.on("readable", function sip(this: Socket) {
      this.off("readable", sip);
      sipReplies(this, sips);
    });
  } else {
    counts.deaf++;
  }
}

/** A little at each turn of the event loop, then all the rest. */
function sipReplies(socket: Socket, sips: number): void {
  if (socket.destroyed) return;
  if (sips === 0) {
    socket.resume();
    return;
  }
  socket.read(Math.min(1000, socket.readableLength) || undefined);
  setImmediate(() => sipReplies(socket, sips - 1));
}

/** Closes one side, both, or pulls the plug; whoever half-closes and hears nothing for a while goes altogether. */
function leave(random: Random, socket: Socket, raw: Socket): void {
  const kind = random.next();
  if (kind < 0.5 && socket.isPaused() === false && socket.readableFlowing === true) socket.end();
  else if (kind < 0.9 || raw.remotePort === undefined) raw.destroy();
  else raw.resetAndDestroy();
}

/** Null when the server did not go along, and the connection goes on in the clear, such as it is. */
async function switchToTls(random: Random, raw: Socket, closed: Promise<void>): Promise<TLSSocket | null> {
  const prober = new Prober(raw);
  try {
    await prober.read(18);
    prober.send(u32(3), option(5));
    if ((await prober.readOptionReply()).type !== 1) return null;
  } catch {
    return null;
  } finally {
    prober.release();
  }
  if (chance(random, 0.1)) {
    raw.write(Buffer.alloc(100, below(random, 256)));
    return null;
  }
  const hasWrongKey = chance(random, 0.1);
  const secure = connectTls({
    socket: raw,
    pskCallback: () => ({
      identity: "alice",
      psk: hasWrongKey ? Buffer.alloc(16) : Buffer.from(keyHex, "hex"),
    }),
    ciphers: "PSK",
    checkServerIdentity: () => undefined,
  });
  secure.on("error", () => raw.destroy());
  secure.on("close", () => raw.destroy());
  await Promise.race([closed, new Promise<void>((resolve) => secure.once("secureConnect", () => resolve()))]);
  return secure;
}

async function sendInPieces(
  random: Random,
  socket: Socket,
  bytes: Buffer,
  closed: Promise<void>,
): Promise<void> {
  const pieces = chance(random, 0.3) ? 1 + below(random, 20) : 1;
  const vanishesAfter = chance(random, 0.1) ? below(random, pieces + 1) : pieces;
  for (let i = 0, from = 0; i < vanishesAfter && !socket.destroyed; i++) {
    const isLast = i === pieces - 1;
    const to = isLast ? bytes.length : Math.min(bytes.length, from + below(random, bytes.length - from + 1));
    const piece = bytes.subarray(from, to);
    from = to;
    if (piece.length === 0) continue;
    const written = new Promise<void>((resolve) => socket.write(piece, () => resolve()));
    // A client that reads nothing may never get rid of all it has to say: the server stops listening to it.
    const isTaken = await Promise.race([written, closed, unread(socket)]);
    if (isTaken === "stuck") return;
  }
}

/** Resolves when a client that reads nothing has waited long enough for its words to be taken. */
function unread(socket: Socket): Promise<"stuck"> {
  return new Promise((resolve) => {
    if (socket.readableFlowing === true) return;
    setTimeout(() => resolve("stuck"), 200).unref();
  });
}
