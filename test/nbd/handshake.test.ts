import { describe, expect, it } from "vitest";
import { MemoryTarget } from "./support/memory-target.js";
import { Prober } from "./support/prober.js";
import { serve } from "./support/serving.js";
import { cmd, infoRequest, option, request, u16, u32, u64 } from "./support/wire.js";

const ack = 1;
const server = 2;
const info = 3;
const errUnsup = 0x80000001;
const errInvalid = 0x80000003;
const errUnknown = 0x80000006;
const errBlockSizeRequired = 0x80000008;

async function serveOne(options: ConstructorParameters<typeof MemoryTarget>[0] = {}, limits = {}) {
  const target = new MemoryTarget(options);
  return { target, ...(await serve({ exports: [{ name: "disk", target }], limits })) };
}

describe("the handshake", () => {
  it("greets with both magics, fixed newstyle and no-zeroes", async () => {
    const { path } = await serveOne();
    const prober = await Prober.connect({ path });
    expect(await prober.read(18)).toEqual(Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT"), u16(3)]));
  });

  it.each([4, 0x80000000, 7])("closes on unknown client flags (%i)", async (flags) => {
    const { path } = await serveOne();
    expect(await (await Prober.greet(path, flags)).readEnd()).toHaveLength(0);
  });

  it("closes on a bad option magic", async () => {
    const { path } = await serveOne();
    const prober = await Prober.greet(path, 3);
    prober.send(Buffer.from("IHAVEOOT"), u32(3), u32(0));
    expect(await prober.readEnd()).toHaveLength(0);
  });

  it("answers unknown options and stays in step with the client", async () => {
    const { path } = await serveOne();
    const prober = await Prober.greet(path, 3);
    // The withdrawn PEEK_EXPORT among them.
    for (const type of [4, 12, 99, 0, 0xffffffff]) {
      prober.send(option(type, Buffer.alloc(1000, 7)));
      const reply = await prober.readOptionReply();
      expect(reply).toMatchObject({ option: type, type: errUnsup });
      expect(reply.data.toString()).toContain(`option ${type} `);
    }
    prober.send(option(7, infoRequest("disk")));
    expect((await prober.readOptionReply()).type).toBe(info);
  });

  it("lists every export with its description, and refuses LIST with data", async () => {
    const exports = ["disk", "ünï", ""].map((name) => ({ name, target: new MemoryTarget() }));
    const { path } = await serve({ exports });
    const prober = await Prober.greet(path, 3);
    prober.send(option(3, Buffer.from("x")));
    expect((await prober.readOptionReply()).type).toBe(errInvalid);
    prober.send(option(3));
    for (const { name } of exports) {
      const bytes = Buffer.from(name);
      const data = Buffer.concat([u32(bytes.length), bytes, Buffer.from("memory for tests")]);
      expect(await prober.readOptionReply()).toEqual({ option: 3, type: server, data });
    }
    expect(await prober.readOptionReply()).toEqual({ option: 3, type: ack, data: Buffer.alloc(0) });
  });

  it("acknowledges ABORT, whatever it carries, then closes", async () => {
    const { path } = await serveOne();
    const prober = await Prober.greet(path, 3);
    prober.send(option(2, Buffer.from("bye")));
    expect((await prober.readOptionReply()).type).toBe(ack);
    expect(await prober.readEnd()).toHaveLength(0);
  });

  describe("by EXPORT_NAME", () => {
    const sizeAndFlags = Buffer.concat([u64(1024 * 1024), u16(0xd6d)]);

    it("pads with 124 zeros when the client did not ask to leave them out", async () => {
      const { path } = await serveOne();
      for (const flags of [0, 1]) {
        const prober = await Prober.greet(path, flags);
        prober.send(option(1, Buffer.from("disk")));
        expect(await prober.read(134)).toEqual(Buffer.concat([sizeAndFlags, Buffer.alloc(124)]));
        expect(await prober.ask({ type: cmd.flush })).toBe(0);
      }
    });

    it("leaves the zeros out when both sides agreed to", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      prober.send(option(1, Buffer.from("disk")));
      expect(await prober.read(10)).toEqual(sizeAndFlags);
      expect(await prober.ask({ type: cmd.flush })).toBe(0);
    });

    it("closes on an unknown name, since the option has no error reply", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      prober.send(option(1, Buffer.from("other")));
      expect(await prober.readEnd()).toHaveLength(0);
    });
  });

  describe("by INFO and GO", () => {
    it("tells size and flags first, even when no information was asked for", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      for (const type of [6, 7]) {
        prober.send(option(type, infoRequest("disk")));
        const data = Buffer.concat([u16(0), u64(1024 * 1024), u16(0xd6d)]);
        expect(await prober.readOptionReply()).toEqual({ option: type, type: info, data });
        expect((await prober.readOptionReply()).type).toBe(ack);
      }
      expect(await prober.ask({ type: cmd.read, length: 512 })).toBe(0);
    });

    it("tells name, description and block sizes when asked, and ignores what it does not know", async () => {
      const { path } = await serveOne({ minimumBlockBytes: 512 });
      const prober = await Prober.greet(path, 3);
      prober.send(option(6, infoRequest("", [99, 3, 2, 1, 0, 1])));
      const replies: Buffer[] = [];
      for (let reply = await prober.readOptionReply(); reply.type === info; ) {
        replies.push(reply.data);
        reply = await prober.readOptionReply();
      }
      expect(replies).toEqual([
        Buffer.concat([u16(0), u64(1024 * 1024), u16(0xd6d)]),
        Buffer.concat([u16(3), u32(1), u32(4096), u32(32 * 1024 * 1024)]),
        Buffer.concat([u16(2), Buffer.from("memory for tests")]),
        // The canonical name of the default export.
        Buffer.concat([u16(1), Buffer.from("disk")]),
      ]);
    });

    it("says which export is unknown, and lets the client try again", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      for (const type of [6, 7]) {
        prober.send(option(type, infoRequest("other")));
        const reply = await prober.readOptionReply();
        expect(reply.type).toBe(errUnknown);
        expect(reply.data.toString()).toContain('"other"');
      }
      prober.send(option(7, infoRequest("disk")));
      expect((await prober.readOptionReply()).type).toBe(info);
    });

    it.each([
      ["nothing at all", Buffer.alloc(0)],
      ["a name longer than the option", Buffer.concat([u32(100), Buffer.from("disk"), u16(0)])],
      ["a name of 4 GiB", Buffer.concat([u32(0xffffffff), Buffer.from("disk"), u16(0)])],
      ["fewer infos than counted", Buffer.concat([u32(4), Buffer.from("disk"), u16(2), u16(0)])],
      ["more infos than counted", Buffer.concat([infoRequest("disk", [0]), u16(1)])],
      ["an odd byte", Buffer.concat([infoRequest("disk"), Buffer.from("x")])],
      ["a NUL in the name", infoRequest("di\0sk")],
      ["a name that is not UTF-8", Buffer.concat([u32(2), Buffer.from([0xff, 0xfe]), u16(0)])],
      ["a name of more than 4096 bytes", infoRequest("x".repeat(4097))],
    ])("refuses %s as invalid", async (_, data) => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      prober.send(option(7, data));
      expect((await prober.readOptionReply()).type).toBe(errInvalid);
      prober.send(option(7, infoRequest("disk")));
      expect((await prober.readOptionReply()).type).toBe(info);
    });

    it.each([
      ["a writable disk", {}, 0xd6d],
      ["a hard disk", { isRotational: true }, 0xd7d],
      ["a disk without trim", { canTrim: false }, 0xd4d],
      ["a read-only disk", { isReadOnly: true }, 0x503],
    ])("advertises what %s can do", async (_, options, flags) => {
      const { path } = await serveOne(options);
      const prober = await Prober.greet(path, 3);
      prober.send(option(6, infoRequest("disk")));
      expect((await prober.readOptionReply()).data.readUInt16BE(10)).toBe(flags);
    });

    it("demands that clients ask for block sizes where those are enforced, and tells them at once", async () => {
      const target = new MemoryTarget({ minimumBlockBytes: 4096 });
      const { path } = await serve({ exports: [{ name: "4kn", target, isBlockSizeEnforced: true }] });
      const sizes = Buffer.concat([u16(3), u32(4096), u32(4096), u32(32 * 1024 * 1024)]);
      const prober = await Prober.greet(path, 3);
      for (const type of [6, 7]) {
        prober.send(option(type, infoRequest("4kn", [1])));
        expect(await prober.readOptionReply()).toEqual({ option: type, type: info, data: sizes });
        expect((await prober.readOptionReply()).type).toBe(errBlockSizeRequired);
      }
      // Who has asked once knows, under whichever of its names the export was meant.
      prober.send(option(6, infoRequest("", [3])));
      while ((await prober.readOptionReply()).type !== ack);
      prober.send(option(7, infoRequest("4kn")));
      expect((await prober.readOptionReply()).type).toBe(info);
      expect((await prober.readOptionReply()).type).toBe(ack);
      expect(await prober.ask({ type: cmd.read, length: 4096 })).toBe(0);
      const old = await Prober.greet(path, 3);
      old.send(option(1, Buffer.from("4kn")));
      expect(await old.readEnd()).toHaveLength(0);
    });

    it("demands no such thing of clients of 512-byte blocks that are not enforced", async () => {
      const { path } = await serveOne({ minimumBlockBytes: 512 });
      expect(await (await Prober.open(path, "disk")).ask({ type: cmd.read, offset: 1, length: 3 })).toBe(0);
    });

    it("takes requests that came in the same segment as GO", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path);
      prober.send(u32(3), option(7, infoRequest("disk")), request({ type: cmd.flush, cookie: 9n }));
      await prober.readOptionReply();
      await prober.readOptionReply();
      expect(await prober.readReply()).toMatchObject({ error: 0, cookie: 9n });
    });
  });

  describe("is bounded", () => {
    it("in the number of options", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      for (let i = 0; i < 33; i++) prober.send(option(99));
      for (let i = 0; i < 32; i++) expect((await prober.readOptionReply()).type).toBe(errUnsup);
      expect(await prober.readEnd()).toHaveLength(0);
    });

    it("in the length of an option, which is not waited for", async () => {
      const { path } = await serveOne();
      const prober = await Prober.greet(path, 3);
      prober.send(Buffer.from("IHAVEOPT"), u32(99), u32(100 * 1024 * 1024));
      expect(await prober.readEnd()).toHaveLength(0);
    });

    it("in time, for clients that say nothing and clients that drip", async () => {
      const { path } = await serveOne({}, { handshakeMs: 50 });
      // A client in transmission has no such limit: this one still lives when the later ones have been closed.
      const open = await Prober.open(path);
      const silent = await Prober.connect({ path });
      const dripping = await Prober.greet(path, 3);
      dripping.send(Buffer.from("IHAVE"));
      await silent.readEnd();
      await dripping.readEnd();
      expect(await open.ask({ type: cmd.flush })).toBe(0);
    });
  });
});
