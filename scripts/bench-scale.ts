/**
 * `npm run bench:scale`: one server with 64 devices and 1000 clients at once. Every client writes a block of its own, most then do I/O
 * in a closed loop, checking every byte that comes back, while the others stay idle; at the end all do once more.
 *
 * Prints the peak of the server's memory (VmHWM), the throughput, and how long `serve instant` takes from its start to `ready` (median
 * of ten). `--devices N`, `--connections N`, `--seconds N`; `--check` exits 1 when the memory reaches 1 GiB or the start 300 ms.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { formatTable } from "../src/base/table.js";
import { formatSize } from "../src/base/units.js";
import { median } from "./support/statistics.js";

const { values } = parseArgs({
  options: {
    devices: { type: "string", default: "64" },
    connections: { type: "string", default: "1000" },
    seconds: { type: "string", default: "5" },
    check: { type: "boolean", default: false },
  },
});
const deviceCount = Number(values.devices);
const connectionCount = Number(values.connections);
const bin = resolve(import.meta.dirname, "../bin/blkforge.js");
const memoryLimitBytes = 2 ** 30;
const startLimitMs = 300;
const startRounds = 10;
const blockBytes = 4096;
/** One client in four does nothing between its first block and its last. */
const idleEvery = 4;

/** A client with one request in flight, in simple replies: enough to tell whose bytes come back. */
class Client {
  private readonly socket: Socket;
  private held: Buffer[] = [];
  private heldBytes = 0;
  private wanted: { bytes: number; resolve: (bytes: Buffer) => void } | null = null;
  private reject: (error: Error) => void = () => {};

  private constructor(
    path: string,
    private readonly number: number,
  ) {
    this.socket = connect(path);
    this.socket.on("data", (bytes: Buffer) => {
      this.held.push(bytes);
      this.heldBytes += bytes.length;
      this.serve();
    });
    this.socket.on("error", (error) => this.reject(error));
    this.socket.on("close", () => this.reject(new Error(`client ${number} was disconnected`)));
  }

  static async open(path: string, exportName: string, number: number): Promise<Client> {
    const client = new Client(path, number);
    await client.take(18);
    const name = Buffer.from(exportName);
    const option = Buffer.alloc(20 + name.length);
    // Fixed newstyle without zeroes, then EXPORT_NAME.
    option.writeUInt32BE(3, 0);
    option.write("IHAVEOPT", 4);
    option.writeUInt32BE(1, 12);
    option.writeUInt32BE(name.length, 16);
    name.copy(option, 20);
    client.socket.write(option);
    await client.take(10);
    return client;
  }

  async write(pattern: number): Promise<void> {
    this.socket.write(Buffer.concat([this.header(1), Buffer.alloc(blockBytes, pattern)]));
    this.checkReply(await this.take(16));
  }

  async read(pattern: number): Promise<void> {
    this.socket.write(this.header(0));
    const reply = await this.take(16 + blockBytes);
    this.checkReply(reply);
    if (!reply.subarray(16).every((byte) => byte === pattern)) {
      throw new Error(`client ${this.number} read the bytes of somebody else`);
    }
  }

  async close(): Promise<void> {
    this.reject = () => {};
    this.socket.end(this.header(2));
    await once(this.socket, "close");
  }

  private header(type: number): Buffer {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt16BE(type, 6);
    header.writeUInt32BE(this.number, 12);
    header.writeBigUInt64BE(BigInt(this.number) * BigInt(blockBytes), 16);
    header.writeUInt32BE(type === 2 ? 0 : blockBytes, 24);
    return header;
  }

  private checkReply(reply: Buffer): void {
    if (reply.readUInt32BE(0) !== 0x67446698 || reply.readUInt32BE(4) !== 0) {
      throw new Error(`client ${this.number} got an error, or no reply at all`);
    }
    if (reply.readUInt32BE(12) !== this.number) throw new Error(`client ${this.number} got another's reply`);
  }

  private take(bytes: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.wanted = { bytes, resolve };
      this.reject = reject;
      this.serve();
    });
  }

  private serve(): void {
    if (this.wanted === null || this.heldBytes < this.wanted.bytes) return;
    const { bytes, resolve } = this.wanted;
    const all = Buffer.concat(this.held);
    this.wanted = null;
    this.held = all.length > bytes ? [all.subarray(bytes)] : [];
    this.heldBytes = all.length - bytes;
    resolve(all.subarray(0, bytes));
  }
}

/** Resolves with the milliseconds until `ready`. */
async function start(args: string[]): Promise<{ server: ChildProcess; readyMs: number }> {
  const startMs = performance.now();
  const server = spawn(process.execPath, [bin, "serve", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  await new Promise<void>((ready, reject) => {
    server.stdout?.on("data", (chunk) => {
      output += chunk;
      if (/^ready$/m.test(output)) ready();
    });
    server.once("exit", (status) => reject(new Error(`the server exited ${status}`)));
  });
  return { server, readyMs: performance.now() - startMs };
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  server.kill("SIGTERM");
  await once(server, "exit");
}

function status(pid: number, field: string): number {
  const [, kibibytes] =
    new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kibibytes) * 1024;
}

const starts: number[] = [];
for (let round = 0; round < startRounds; round++) {
  const { server, readyMs } = await start(["instant", "--log-level", "error"]);
  starts.push(readyMs);
  await stop(server);
}
const startMs = median(starts);

const directory = mkdtempSync(join(tmpdir(), "blkforge-scale-"));
// As many addresses as processors would use, so that the devices spread over the threads.
const addressCount = Math.min(4, deviceCount);
const socketOf = (device: number) => join(directory, `${device % addressCount}.sock`);
const names = Array.from({ length: deviceCount }, (_, device) => `disk-${device}`);
const { server, readyMs } = await start([
  ...names.map((name, device) => `${name}=${device % 2 === 0 ? "instant" : "fixed"}`),
  ...["--size", "1G", "--log-level", "error"],
  ...names.flatMap((name, device) => ["--listen", `nbd+unix:///${name}?socket=${socketOf(device)}`]),
]);
const pid = server.pid ?? 0;
let requests = 0;
let bytesAtReady = 0;
let bytesWhenIdle = 0;
let peakBytes = 0;
let elapsedSeconds = 0;
try {
  bytesAtReady = status(pid, "VmRSS");
  const patternOf = (client: number) => (client % 251) + 1;
  const clients: Client[] = [];
  // A few at a time: the queue of a listening socket holds 511.
  const batch = 100;
  for (let first = 0; first < connectionCount; first += batch) {
    const numbers = Array.from({ length: Math.min(batch, connectionCount - first) }, (_, i) => first + i);
    clients.push(
      ...(await Promise.all(
        numbers.map((number) =>
          Client.open(socketOf(number % deviceCount), names[number % deviceCount], number),
        ),
      )),
    );
  }
  bytesWhenIdle = status(pid, "VmRSS");
  await Promise.all(clients.map((client, number) => client.write(patternOf(number))));
  const startedMs = performance.now();
  const endMs = startedMs + Number(values.seconds) * 1000;
  await Promise.all(
    clients.map(async (client, number) => {
      if (number % idleEvery === 0) return;
      while (performance.now() < endMs) {
        await client.write(patternOf(number));
        await client.read(patternOf(number));
        requests += 2;
      }
    }),
  );
  elapsedSeconds = (performance.now() - startedMs) / 1000;
  await Promise.all(clients.map((client, number) => client.read(patternOf(number))));
  peakBytes = status(pid, "VmHWM");
  await Promise.all(clients.map((client) => client.close()));
} finally {
  await stop(server);
  rmSync(directory, { recursive: true, force: true });
}

console.log(
  formatTable([
    [`${deviceCount} devices, ${connectionCount} connections`, ""],
    ["memory when ready", formatMiB(bytesAtReady)],
    ["memory with all connected, idle", formatMiB(bytesWhenIdle)],
    ["memory at its peak", `${formatMiB(peakBytes)} (limit ${formatSize(memoryLimitBytes)})`],
    ["4 KiB requests a second, all checked", (requests / elapsedSeconds).toFixed(0)],
    ["start of all devices", `${readyMs.toFixed(0)} ms`],
    [
      `start of one, median of ${startRounds}`,
      `${startMs.toFixed(0)} ms (limit ${startLimitMs} ms; best ${Math.min(...starts).toFixed(0)} ms)`,
    ],
  ]),
);
if (values.check && (peakBytes >= memoryLimitBytes || startMs >= startLimitMs)) process.exitCode = 1;

function formatMiB(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
