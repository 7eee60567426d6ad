/**
 * Clients that go, or stop, while their sockets are not being read: what they hold comes back, and whoever is merely slow
 * and in nobody's way is left in peace.
 */
import { writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { descriptorOf, takenBytes } from "../../src/nbd/peer-watch.js";
import { NbdServer } from "../../src/nbd/server.js";
import { loadTls } from "../../src/nbd/tls.js";
import { MemoryTarget } from "./support/memory-target.js";
import { eventually, Prober } from "./support/prober.js";
import { serve, temporaryDirectory } from "./support/serving.js";
import { cmd, infoRequest, option, request, u32 } from "./support/wire.js";

const MiB = 1024 * 1024;
/** No check of the server's comes of itself: what is closed was closed by the rule under test. */
const never = 3_600_000;
const share = { requestsPerConnection: 3, vanishMs: never, stallMs: never };

/** More requests than the connection's share, none of which completes: the socket is no longer read. */
async function fillShare(prober: Prober, target: MemoryTarget, already = 0): Promise<void> {
  for (let i = 0; i < 8; i++) prober.request({ type: cmd.flush, cookie: BigInt(i) });
  await eventually(() => target.pending.length === already + 3);
}

async function listenOnTcp(target: MemoryTarget, limits: object) {
  const server = new NbdServer({ exports: [{ name: "", target }], limits });
  onTestFinished(() => server.close({ deadlineMs: 0 }));
  const port = Number(/:(\d+)\//.exec(await server.listen("nbd://127.0.0.1:0/"))?.[1]);
  const open = async () => {
    const prober = await Prober.connect({ port, host: "127.0.0.1" });
    await prober.read(18);
    prober.send(u32(3), option(7, infoRequest("")));
    while ((await prober.readOptionReply()).type !== 1);
    return prober;
  };
  return { server, open };
}

describe("a client that vanishes while its socket is not read", () => {
  it("is noticed on a Unix socket, and its requests forgotten", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { path, server } = await serve({
      exports: [{ name: "", target }],
      limits: { ...share, vanishMs: 5 },
    });
    const prober = await Prober.open(path);
    await fillShare(prober, target);
    prober.close();
    await eventually(() => server.connectionCount === 0);
    expect(target.abandoned).toBe(1);
    target.completeAll();
    expect(target.requests.inFlight).toBe(0);
  });

  it("is noticed when the request table is full of another's requests", async () => {
    const target = new MemoryTarget({ mode: "manual", capacity: 4 });
    const { path, server } = await serve({
      exports: [{ name: "", target }],
      limits: { ...share, vanishMs: 5 },
    });
    const busy = await Prober.open(path);
    await fillShare(busy, target);
    const prober = await Prober.open(path);
    for (let i = 0; i < 3; i++) prober.request({ type: cmd.flush });
    await eventually(() => target.requests.isFull);
    prober.close();
    await eventually(() => server.connectionCount === 1);
    target.mode = "auto";
    target.completeAll();
    for (let i = 0; i < 8; i++) expect((await busy.readReply()).cookie).toBe(BigInt(i));
    expect(target.requests.inFlight).toBe(0);
  });

  it("is noticed on TCP when it resets the connection", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { server, open } = await listenOnTcp(target, { ...share, vanishMs: 5 });
    const prober = await open();
    await fillShare(prober, target);
    prober.socket.resetAndDestroy();
    await eventually(() => server.connectionCount === 0);
    expect(target.abandoned).toBe(1);
  });

  it("is noticed on TCP when nothing moves after its end", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { server, open } = await listenOnTcp(target, { ...share, stallMs: 20 });
    const prober = await open();
    await fillShare(prober, target);
    prober.close();
    await eventually(() => server.connectionCount === 0);
    expect(target.abandoned).toBe(1);
  });

  it("is noticed behind TLS", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const keys = join(temporaryDirectory(), "keys.psk");
    writeFileSync(keys, "alice:00112233445566778899aabbccddeeff\n");
    const files = {
      mode: "require",
      certificate: null,
      key: null,
      authority: null,
      presharedKeys: keys,
    } as const;
    const { path, server } = await serve({
      exports: [{ name: "", target }],
      limits: { ...share, vanishMs: 5 },
      tls: loadTls(files),
    });
    const outside = await Prober.greet(path, 3);
    outside.send(option(5));
    await outside.readOptionReply();
    const secure = connectTls({
      socket: outside.release(),
      pskCallback: () => ({ identity: "alice", psk: Buffer.from("00112233445566778899aabbccddeeff", "hex") }),
      ciphers: "PSK",
      checkServerIdentity: () => undefined,
    });
    await new Promise<void>((resolve) => secure.once("secureConnect", () => resolve()));
    const prober = new Prober(secure);
    prober.send(option(7, infoRequest("")));
    while ((await prober.readOptionReply()).type !== 1);
    await fillShare(prober, target);
    outside.socket.destroy();
    await eventually(() => server.connectionCount === 0);
    expect(target.abandoned).toBe(1);
  });

  it("gives back the payload memory others wait for", async () => {
    const target = new MemoryTarget({ mode: "manual", sizeBytes: 4 * MiB });
    const { path, server } = await serve({
      exports: [{ name: "", target }],
      limits: { ...share, payloadBytes: MiB, vanishMs: 5 },
    });
    const holder = await Prober.open(path);
    holder.send(request({ type: cmd.write, length: MiB }), Buffer.alloc(MiB / 2));
    const waiting = await Prober.open(path);
    // Its payload does not fit beside the other's: it waits, unread, and goes.
    waiting.send(request({ type: cmd.write, length: MiB }), Buffer.alloc(MiB / 2));
    const third = await Prober.open(path);
    waiting.close();
    await eventually(() => server.connectionCount === 2);
    holder.close();
    third.request({ type: cmd.write, payload: Buffer.alloc(MiB) });
    await eventually(() => target.pending.length === 1);
    target.completeAll();
    expect((await third.readReply()).error).toBe(0);
  });
});

describe("a client that has closed its side", () => {
  it("gets all replies to what it sent before, though they come late and DISC is not read yet", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { path, server } = await serve({
      exports: [{ name: "", target }],
      limits: { ...share, vanishMs: 1 },
    });
    const prober = await Prober.open(path);
    await fillShare(prober, target);
    prober.request({ type: cmd.disc });
    prober.socket.end();
    // Another client that vanishes unread is the clock: when it is closed, a check has passed.
    const doomed = await Prober.open(path);
    await fillShare(doomed, target, 3);
    doomed.close();
    await eventually(() => server.connectionCount === 1);
    for (let i = 0; i < 8; i++) {
      await eventually(() => target.pending.some((slot) => target.requests.queue[slot] === 0));
      target.complete(target.pending.find((slot) => target.requests.queue[slot] === 0)!);
      expect((await prober.readReply()).cookie).toBe(BigInt(i));
    }
    expect(await prober.readEnd()).toHaveLength(0);
  });
});

describe("a client that takes no replies", () => {
  /** All places of the table are held by replies nobody takes. */
  async function stuff(path: string, name: string, target: MemoryTarget): Promise<Prober> {
    const prober = await Prober.open(path, name);
    prober.socket.pause();
    for (let i = 0; i < 30; i++) prober.request({ type: cmd.read, cookie: BigInt(i), length: MiB });
    await eventually(() => target.requests.isFull);
    return prober;
  }

  it("has to go when others wait for its places in the table, not before", async () => {
    const targets = ["alone", "shared"].map((name) => ({
      name,
      target: new MemoryTarget({ sizeBytes: 4 * MiB, capacity: 8 }),
    }));
    const { path, server } = await serve({
      exports: targets,
      limits: { queuedReplyBytes: MiB, vanishMs: never, stallMs: 20 },
    });
    const harmless = await stuff(path, "alone", targets[0].target);
    const inTheWay = await stuff(path, "shared", targets[1].target);
    const waiting = await Prober.open(path, "shared");
    expect(await waiting.ask({ type: cmd.flush })).toBe(0);
    await eventually(() => server.connectionCount === 2);
    inTheWay.close();
    harmless.socket.resume();
    for (let i = 0; i < 30; i++) expect((await harmless.readReply(MiB)).cookie).toBe(BigInt(i));
  });

  it("has to go when others wait for the memory its replies hold", async () => {
    const target = new MemoryTarget({ sizeBytes: 4 * MiB });
    const { path, server } = await serve({
      exports: [{ name: "", target }],
      limits: { payloadBytes: 2 * MiB, vanishMs: never, stallMs: 20 },
    });
    const deaf = await Prober.open(path);
    deaf.socket.pause();
    for (let i = 0; i < 4; i++) deaf.request({ type: cmd.read, length: MiB });
    await eventually(() => target.seen.length === 4);
    const other = await Prober.open(path);
    expect(await other.ask({ type: cmd.write, payload: Buffer.alloc(2 * MiB) })).toBe(0);
    expect(server.connectionCount).toBe(1);
    expect(target.requests.inFlight).toBe(0);
  });

  it("counts as moving while it takes one large reply bit by bit", async () => {
    const path = join(temporaryDirectory(), "s");
    const served = new Promise<Socket>((resolve) => {
      const listener = createServer(resolve).listen(path);
      onTestFinished(() => void listener.close());
    });
    const client = connect(path);
    const socket = await served;
    onTestFinished(() => {
      client.destroy();
      socket.destroy();
    });
    let isTaken = false;
    client.pause();
    socket.write(Buffer.alloc(32 * MiB), () => {
      isTaken = true;
    });
    const atFirstBytes = takenBytes(socket);
    expect(atFirstBytes).toBeLessThan(32 * MiB);
    client.on("data", () => void client.pause());
    client.resume();
    await eventually(() => {
      if (takenBytes(socket) > atFirstBytes) return true;
      client.resume();
      return false;
    });
    expect(isTaken).toBe(false);
    expect(descriptorOf(socket)).toBeGreaterThan(2);
  });
});
