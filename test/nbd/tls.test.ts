/** The switch to TLS, with pre-shared keys: what it demands, what it forgets, and what it does not let in. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import tls, { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { describe, expect, it, vi } from "vitest";
import { loadTls, type TlsFiles, type TlsMode } from "../../src/nbd/tls.js";
import { MemoryTarget } from "./support/memory-target.js";
import { eventually, Prober } from "./support/prober.js";
import { serve, temporaryDirectory } from "./support/serving.js";
import { cmd, infoRequest, metaQuery, option, request, u32 } from "./support/wire.js";

const ack = 1;
const errPolicy = 0x80000002;
const errInvalid = 0x80000003;
const errTlsRequired = 0x80000005;
const key = Buffer.from("00112233445566778899aabbccddeeff", "hex");

function filesWith(changes: Partial<TlsFiles>): TlsFiles {
  return { mode: "require", certificate: null, key: null, authority: null, presharedKeys: null, ...changes };
}

function keyFile(text = `alice:${key.toString("hex")}\n`): string {
  const path = join(temporaryDirectory(), "keys.psk");
  writeFileSync(path, text);
  return path;
}

async function serveTls(mode: TlsMode, { isExportProtected = false } = {}) {
  const target = new MemoryTarget();
  const open = new MemoryTarget();
  const { path, server } = await serve({
    exports: [
      { name: "open", target: open },
      { name: "disk", target, isTlsRequired: isExportProtected },
    ],
    tls: loadTls(filesWith({ mode, presharedKeys: keyFile() })),
    limits: { vanishMs: 5 },
  });
  return { path, server, target };
}

/** The client's part of TLS on a connection whose STARTTLS was acknowledged. */
async function secure(prober: Prober, secret = key, more: ConnectionOptions = {}): Promise<Prober> {
  const raw = prober.release();
  const stream: TLSSocket = connect({
    socket: raw,
    pskCallback: () => ({ identity: "alice", psk: secret }),
    ciphers: "PSK",
    minVersion: "TLSv1.2",
    checkServerIdentity: () => undefined,
    ...more,
  });
  // Node leaves it open.
  stream.once("close", () => raw.destroy());
  await new Promise<void>((resolve, reject) => {
    stream.once("secureConnect", resolve);
    stream.once("error", reject);
    stream.once("close", () => reject(new Error("closed before TLS was in force")));
  });
  return new Prober(stream);
}

async function startTls(path: string, more: ConnectionOptions = {}): Promise<Prober> {
  const prober = await Prober.greet(path, 3);
  prober.send(option(5));
  expect((await prober.readOptionReply()).type).toBe(ack);
  return secure(prober, key, more);
}

async function answerTo(prober: Prober, bytes: Buffer): Promise<number> {
  prober.send(bytes);
  return (await prober.readOptionReply()).type;
}

describe("a server that demands TLS", () => {
  it("answers everything but STARTTLS and ABORT with TLS_REQD, and closes on EXPORT_NAME", async () => {
    const { path } = await serveTls("require");
    const prober = await Prober.greet(path, 3);
    for (const type of [3, 6, 7, 8, 9, 10, 11, 99]) {
      expect(await answerTo(prober, option(type, infoRequest("disk")))).toBe(errTlsRequired);
    }
    expect(await answerTo(prober, option(2))).toBe(ack);
    const other = await Prober.greet(path, 3);
    other.send(option(1, Buffer.from("disk")));
    expect(await other.readEnd()).toHaveLength(0);
  });

  it("serves through TLS as it does without, large payloads and the end included", async () => {
    const { path, server, target } = await serveTls("require");
    const prober = await startTls(path);
    prober.send(option(7, infoRequest("disk")));
    while ((await prober.readOptionReply()).type !== ack);
    const payload = Buffer.alloc(900_000, "secret");
    expect(await prober.ask({ type: cmd.write, payload })).toBe(0);
    expect(target.bytes.subarray(0, payload.length).equals(payload)).toBe(true);
    prober.request({ type: cmd.read, length: payload.length });
    expect((await prober.readReply(payload.length)).payload.equals(payload)).toBe(true);
    prober.request({ type: cmd.disc });
    expect(await prober.readEnd()).toHaveLength(0);
    prober.close();
    await eventually(() => server.connectionCount === 0);
  });

  it("lets nobody in with a wrong key, and stays well", async () => {
    const { path, server } = await serveTls("require");
    const prober = await Prober.greet(path, 3);
    prober.send(option(5));
    await prober.readOptionReply();
    await expect(secure(prober, Buffer.alloc(16))).rejects.toThrow();
    await eventually(() => server.connectionCount === 0);
    expect(await answerTo(await startTls(path), option(6, infoRequest("disk")))).toBe(3);
  });

  it("closes on a client that sends rubbish in place of TLS, or nothing until the deadline", async () => {
    const { path } = await serveTls("require");
    const prober = await Prober.greet(path, 3);
    prober.send(option(5));
    await prober.readOptionReply();
    prober.send(Buffer.alloc(100, "rubbish"));
    await prober.readEnd();
  });
});

describe("handshakes", () => {
  it("one after the other make no server each, and many at once do not mix their clients up", async () => {
    const { path, server, target } = await serveTls("require");
    const made = vi.spyOn(tls, "createSecureContext");
    const newServers = () => made.mock.calls.filter(([options]) => options?.minVersion !== undefined).length;
    for (let i = 0; i < 5; i++) {
      (await startTls(path)).close();
      await eventually(() => server.connectionCount === 0);
    }
    // The clients of this file make one each.
    expect(newServers()).toBe(5);
    made.mockRestore();
    const talk = async (number: number) => {
      const prober = await Prober.greet(path, 3);
      prober.send(option(5));
      await prober.readOptionReply();
      if (number % 3 === 0) {
        prober.send(Buffer.alloc(100, "rubbish"));
        await prober.readEnd();
        return;
      }
      const inside = await secure(prober);
      inside.send(option(7, infoRequest("disk")));
      while ((await inside.readOptionReply()).type !== ack);
      const payload = Buffer.alloc(512, number);
      expect(await inside.ask({ type: cmd.write, offset: number * 512, payload })).toBe(0);
      inside.request({ type: cmd.read, offset: number * 512, length: 512 });
      expect((await inside.readReply(512)).payload.equals(payload)).toBe(true);
      inside.close();
    };
    await Promise.all(Array.from({ length: 40 }, (_, number) => talk(number)));
    expect(target.bytes[512]).toBe(1);
    await eventually(() => server.connectionCount === 0);
  });

  it("end when their client goes in the midst of one", async () => {
    const { path, server } = await serveTls("require");
    const prober = await Prober.greet(path, 3);
    prober.send(option(5));
    await prober.readOptionReply();
    prober.close();
    // Long before the handshake's deadline.
    await eventually(() => server.connectionCount === 0);
  });

  it("are done in full each time: a session is not taken up again", async () => {
    const { path } = await serveTls("require");
    const first = (await startTls(path, { maxVersion: "TLSv1.2" })).socket as TLSSocket;
    const session = first.getSession();
    const again = (await startTls(path, { maxVersion: "TLSv1.2", session })).socket as TLSSocket;
    expect(again.isSessionReused()).toBe(false);
    first.destroy();
    again.destroy();
  });
});

describe("STARTTLS", () => {
  it("takes no data, and no second time; the client may try again", async () => {
    const { path } = await serveTls("allow");
    const prober = await Prober.greet(path, 3);
    expect(await answerTo(prober, option(5, Buffer.from("x")))).toBe(errInvalid);
    const inside = await startTls(path);
    expect(await answerTo(inside, option(5))).toBe(errInvalid);
    expect(await answerTo(inside, option(6, infoRequest("disk")))).toBe(3);
  });

  it("is against the policy of a server without TLS, and for clients without fixed newstyle", async () => {
    const { path } = await serve({ exports: [{ name: "", target: new MemoryTarget() }] });
    expect(await answerTo(await Prober.greet(path, 3), option(5))).toBe(errPolicy);
    const allowing = await serveTls("allow");
    expect(await answerTo(await Prober.greet(allowing.path, 0), option(5))).toBe(errPolicy);
  });

  it("forgets what was agreed on in the clear", async () => {
    const { path } = await serveTls("allow");
    const outside = await Prober.greet(path, 3);
    outside.send(option(8), option(10, metaQuery("disk", ["base:allocation"])));
    for (let i = 0; i < 3; i++) await outside.readOptionReply();
    expect(await answerTo(outside, option(5))).toBe(ack);
    const prober = await secure(outside);
    prober.send(option(7, infoRequest("disk")));
    // DF is offered with chunked replies only.
    expect((await prober.readOptionReply()).data.readUInt16BE(10) & 0x80).toBe(0);
    await prober.readOptionReply();
    expect(await prober.ask({ type: cmd.flush })).toBe(0);
    expect(await prober.ask({ type: cmd.status, length: 512 })).toBe(22);
  });

  it("discards what was slipped in behind it before encryption", async () => {
    const { path, target } = await serveTls("require");
    const outside = await Prober.greet(path);
    const injected = [
      option(7, infoRequest("disk")),
      request({ type: cmd.write, payload: Buffer.from("evil") }),
    ];
    outside.send(u32(3), option(5), ...injected);
    expect((await outside.readOptionReply()).type).toBe(ack);
    const prober = await secure(outside);
    expect(await answerTo(prober, option(99))).toBe(0x80000001);
    expect(target.seen).toHaveLength(0);
  });
});

describe("a server with TLS on demand", () => {
  it("keeps protected exports to those who use it, and the others open", async () => {
    const { path } = await serveTls("allow", { isExportProtected: true });
    const prober = await Prober.greet(path, 3);
    for (const type of [6, 7])
      expect(await answerTo(prober, option(type, infoRequest("disk")))).toBe(errTlsRequired);
    expect(await answerTo(prober, option(9, metaQuery("disk", [])))).toBe(errTlsRequired);
    prober.send(option(3));
    expect((await prober.readOptionReply()).data.toString("utf8", 4, 8)).toBe("open");
    expect((await prober.readOptionReply()).type).toBe(ack);
    expect(await answerTo(prober, option(6, infoRequest("open")))).toBe(3);
    const named = await Prober.greet(path, 3);
    named.send(option(1, Buffer.from("disk")));
    expect(await named.readEnd()).toHaveLength(0);
    expect(await answerTo(await startTls(path), option(7, infoRequest("disk")))).toBe(3);
  });
});

describe("what TLS is given", () => {
  it.each([
    ["nothing", {}],
    ["a certificate without its key", { certificate: "/nonexistent" }],
    ["an authority alone", { authority: "/nonexistent", presharedKeys: "/nonexistent" }],
    ["a file that is not there", { presharedKeys: "/nonexistent" }],
  ])("%s is an error that says what to do", (_, changes) => {
    expect(() => loadTls(filesWith(changes))).toThrow(expect.objectContaining({ code: "BLK_E_TLS" }));
  });

  it.each(["", "alice\n", "alice:xyz\n", "alice:abc\n"])("keys such as %j are refused", (text) => {
    expect(() => loadTls(filesWith({ presharedKeys: keyFile(text) }))).toThrow(
      expect.objectContaining({ code: "BLK_E_TLS" }),
    );
  });
});
