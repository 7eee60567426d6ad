import { closeSync, existsSync, openSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { loadNative } from "../../src/base/native.js";
import { NbdServer } from "../../src/nbd/server.js";
import { MemoryTarget } from "./support/memory-target.js";
import { eventually, Prober } from "./support/prober.js";
import { serve, temporaryDirectory } from "./support/serving.js";
import { cmd, errno, infoRequest, metaQuery, option } from "./support/wire.js";

function newServer(target = new MemoryTarget()): NbdServer {
  const server = new NbdServer({ exports: [{ name: "disk", target }] });
  onTestFinished(() => server.close({ deadlineMs: 0 }));
  return server;
}

describe("listening", () => {
  it("on TCP takes any free port for 0, and says which", async () => {
    const server = newServer();
    const uri = await server.listen("nbd://127.0.0.1:0/disk");
    const port = Number(/^nbd:\/\/127\.0\.0\.1:(\d+)\/disk$/.exec(uri)?.[1]);
    const prober = await Prober.connect({ port, host: "127.0.0.1" });
    expect((await prober.read(18)).toString("latin1", 0, 16)).toBe("NBDMAGICIHAVEOPT");
  });

  it("on several addresses serves the same device", async () => {
    const directory = temporaryDirectory();
    const target = new MemoryTarget();
    const server = newServer(target);
    const [a, b] = ["a", "b"].map((name) => join(directory, name));
    await server.listen(`nbd+unix:///disk?socket=${a}`);
    await server.listen(`nbd+unix:///?socket=${b}`);
    expect(await (await Prober.open(a)).ask({ type: cmd.write, payload: Buffer.from("shared") })).toBe(0);
    const prober = await Prober.open(b);
    prober.request({ type: cmd.read, length: 6 });
    expect((await prober.readReply(6)).payload.toString()).toBe("shared");
  });

  it("creates Unix sockets for their owner alone, and removes them at the end", async () => {
    const path = join(temporaryDirectory(), "s");
    const server = newServer();
    await server.listen(`nbd+unix:///disk?socket=${path}`);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await server.close({ deadlineMs: 0 });
    expect(existsSync(path)).toBe(false);
  });

  it("refuses a socket or port another server uses, and leaves that one alone", async () => {
    const path = join(temporaryDirectory(), "s");
    const first = newServer();
    await first.listen(`nbd+unix:///disk?socket=${path}`);
    const uri = await first.listen("nbd://127.0.0.1:0/disk");
    const second = newServer();
    for (const taken of [`nbd+unix:///disk?socket=${path}`, uri]) {
      await expect(second.listen(taken)).rejects.toMatchObject({
        code: "BLK_E_LISTEN",
        message: expect.stringContaining("in use"),
      });
    }
    expect(await (await Prober.open(path)).ask({ type: cmd.flush })).toBe(0);
  });

  it("refuses what is no address of this machine, and a path that is not a socket", async () => {
    const path = join(temporaryDirectory(), "file");
    writeFileSync(path, "precious");
    const server = newServer();
    for (const uri of ["nbd://192.0.2.1/disk", `nbd+unix:///disk?socket=${path}`]) {
      await expect(server.listen(uri)).rejects.toMatchObject({ code: "BLK_E_LISTEN" });
    }
    expect(existsSync(path)).toBe(true);
  });

  it("on a descriptor that is no socket says so", async () => {
    const fd = openSync("/dev/null", "r");
    onTestFinished(() => closeSync(fd));
    await expect(newServer().listen(`fd:${fd}/disk`)).rejects.toMatchObject({ code: "BLK_E_LISTEN" });
  });

  it("on a connection somebody else has accepted says that it wants listening sockets", async () => {
    const ends = new Int32Array(2);
    expect(loadNative().socketPair?.(ends)).toBe(0);
    onTestFinished(() => closeSync(ends[1]));
    await expect(newServer().listen(`fd:${ends[0]}/disk`)).rejects.toMatchObject({
      code: "BLK_E_LISTEN",
      hint: expect.stringContaining("inetd"),
    });
  });

  it("refuses a URI with an export that is not served", async () => {
    await expect(newServer().listen("nbd://127.0.0.1:0/other")).rejects.toMatchObject({
      code: "BLK_E_NBD_URI",
      message: expect.stringContaining('"other"'),
      hint: expect.stringContaining('"disk"'),
    });
  });
});

describe("several exports", () => {
  it("are told apart by name, the first being the default", async () => {
    const exports = ["one", "two"].map((name) => ({ name, target: new MemoryTarget() }));
    exports[0].target.bytes.write("1");
    exports[1].target.bytes.write("2");
    const { path } = await serve({ exports });
    for (const [name, content] of [
      ["one", "1"],
      ["two", "2"],
      ["", "1"],
    ]) {
      const prober = await Prober.open(path, name);
      prober.request({ type: cmd.read, length: 1 });
      expect((await prober.readReply(1)).payload.toString()).toBe(content);
    }
  });
});

describe("connections", () => {
  it("that vanish in the handshake leave nothing behind", async () => {
    const { path, server } = await serve({ exports: [{ name: "", target: new MemoryTarget() }] });
    const prober = await Prober.greet(path, 3);
    prober.send(Buffer.from("IHAVE"));
    prober.close();
    await eventually(() => server.connectionCount === 0);
  });

  it("are counted, and refused beyond the limit until one has gone", async () => {
    const { path, server } = await serve({
      exports: [{ name: "", target: new MemoryTarget() }],
      limits: { connections: 2 },
    });
    const first = await Prober.open(path);
    await Prober.open(path);
    expect(await (await Prober.connect({ path })).readEnd()).toHaveLength(0);
    expect(server.connectionCount).toBe(2);
    first.close();
    await eventually(() => server.connectionCount === 1);
    expect(await (await Prober.open(path)).ask({ type: cmd.flush })).toBe(0);
  });
});

describe("closing the server", () => {
  it("finishes what is in flight, refuses new requests with ESHUTDOWN, then closes", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { path, server } = await serve({ exports: [{ name: "", target }] });
    const busy = await Prober.open(path);
    const idle = await Prober.open(path);
    const greeted = await Prober.greet(path);
    busy.request({ type: cmd.read, cookie: 1n, length: 512 });
    await eventually(() => target.pending.length === 1);

    const closed = server.close({ deadlineMs: 10_000 });
    expect(await idle.readEnd()).toHaveLength(0);
    expect(await greeted.readEnd()).toHaveLength(0);
    await expect(Prober.connect({ path })).rejects.toMatchObject({ code: "ENOENT" });
    busy.request({ type: cmd.write, cookie: 2n, payload: Buffer.alloc(100_000) });
    expect(await busy.readReply()).toMatchObject({ error: errno.ESHUTDOWN, cookie: 2n });
    target.completeAll();
    expect(await busy.readReply(512)).toMatchObject({ error: 0, cookie: 1n });
    expect(await busy.readEnd()).toHaveLength(0);
    for (const prober of [busy, idle, greeted]) prober.close();
    await closed;
    expect(server.connectionCount).toBe(0);
    expect(target.requests.inFlight).toBe(0);
  });

  it("refuses every option but ABORT with ERR_SHUTDOWN, and closes on EXPORT_NAME, which has no reply", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { path, server } = await serve({ exports: [{ name: "", target }] });
    const [talking, old] = [await Prober.greet(path, 3), await Prober.greet(path, 3)];
    talking.send(option(3));
    while ((await talking.readOptionReply()).type !== 1);
    const closed = server.close({ deadlineMs: 10_000 });
    for (const type of [3, 5, 6, 7, 8, 9, 10, 11, 99]) {
      talking.send(option(type, type === 10 ? metaQuery("", []) : infoRequest("")));
      expect(await talking.readOptionReply()).toMatchObject({ option: type, type: 0x80000007 });
    }
    talking.send(option(2));
    expect((await talking.readOptionReply()).type).toBe(1);
    expect(await talking.readEnd()).toHaveLength(0);
    old.send(option(1));
    expect(await old.readEnd()).toHaveLength(0);
    for (const prober of [talking, old]) prober.close();
    await closed;
  });

  it("cuts off what hangs when the deadline has passed", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { path, server } = await serve({ exports: [{ name: "", target }] });
    const prober = await Prober.open(path);
    prober.request({ type: cmd.flush });
    await eventually(() => target.pending.length === 1);
    await server.close({ deadlineMs: 20 });
    expect(await prober.readEnd()).toHaveLength(0);
    expect(target.abandoned).toBe(1);
  });

  it("may be hurried by a second call", async () => {
    const target = new MemoryTarget({ mode: "manual" });
    const { path, server } = await serve({ exports: [{ name: "", target }] });
    const prober = await Prober.open(path);
    prober.request({ type: cmd.flush });
    await eventually(() => target.pending.length === 1);
    const patient = server.close({ deadlineMs: 3_600_000 });
    await server.close({ deadlineMs: 1 });
    await patient;
    expect(server.connectionCount).toBe(0);
  });

  it("while it begins to listen leaves no listener behind", async () => {
    const path = join(temporaryDirectory(), "s");
    const server = newServer();
    const listening = server.listen(`nbd+unix:///disk?socket=${path}`);
    await server.close({ deadlineMs: 0 });
    await expect(listening).rejects.toMatchObject({ code: "BLK_E_LISTEN" });
    expect(existsSync(path)).toBe(false);
  });

  it("does not wait for clients that never close their side", async () => {
    const { path, server } = await serve({
      exports: [{ name: "", target: new MemoryTarget() }],
      limits: { lingerMs: 20 },
    });
    await Prober.open(path);
    await server.close({ deadlineMs: 10_000 });
    expect(server.connectionCount).toBe(0);
  });
});
