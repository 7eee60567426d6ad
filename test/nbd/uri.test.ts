import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { formatNbdUri, type NbdUri, parseNbdUri } from "../../src/nbd/uri.js";

const tcp = (host: string, port: number, exportName: string): NbdUri => ({
  transport: "tcp",
  host,
  port,
  exportName,
});
const vsock = (cid: number | null, port: number, exportName: string): NbdUri => ({
  transport: "vsock",
  cid,
  port,
  exportName,
});
const unix = (path: string, exportName: string): NbdUri => ({ transport: "unix", path, exportName });

describe("an NBD URI", () => {
  it.each([
    ["nbd://127.0.0.1:10810/disk", tcp("127.0.0.1", 10810, "disk")],
    ["nbd://example.org", tcp("example.org", 10809, "")],
    ["nbd://example.org/", tcp("example.org", 10809, "")],
    ["nbd://example.org//etc/disk", tcp("example.org", 10809, "/etc/disk")],
    ["NBD://[::1]:0/a%20b", tcp("::1", 0, "a b")],
    ["nbd://[fe80::1%25eth0]/x", tcp("fe80::1%eth0", 10809, "x")],
    ["nbd:///x", tcp("localhost", 10809, "x")],
    ["nbd+unix:///disk?socket=/tmp/s.sock", unix("/tmp/s.sock", "disk")],
    ["nbd+unix://?socket=relative.sock", unix("relative.sock", "")],
    ["nbd+unix:///%E2%82%AC?socket=/tmp/a%26b&x-note=1", unix("/tmp/a&b", "€")],
    ["nbd+unix:///?socket=%00blkforge", unix("\0blkforge", "")],
    ["nbd+vsock://2:5000/x", vsock(2, 5000, "x")],
    ["nbd+vsock:///x", vsock(null, 10809, "x")],
    ["nbds+vsock://:0", { ...vsock(null, 0, ""), isTls: true }],
  ])("%s is understood", (text, uri) => {
    expect(parseNbdUri(text)).toEqual(uri);
  });

  it.each([
    ["", "is not an NBD URI"],
    ["/tmp/s.sock", "is not an NBD URI"],
    ["http://example.org/", "scheme"],
    ["nbd+vsock://host/", "CID:port"],
    ["nbd+vsock://1:4294967295/", "4294967295"],
    ["nbd+vsock://1/?socket=/a", "names a socket"],
    ["nbd://host:65536/", "port 65536"],
    ["nbd://host:port/", "host"],
    ["nbd://::1/", "host"],
    ["nbd://user@host/", "user"],
    ["nbd://host/?socket=/tmp/s", "names a socket"],
    ["nbd://host/#x", "fragment"],
    ["nbd://host/%zz", "%"],
    ["nbd://host/%ff", "%"],
    ["nbd://host/a%00b", "NUL"],
    [`nbd://host/${"x".repeat(4097)}`, "4096"],
    ["nbd+unix:///disk", "names no socket"],
    ["nbd+unix:///disk?socket=", "names no socket"],
    ["nbd+unix://host/disk?socket=/tmp/s", "names the host"],
    ["nbd+unix:///?socket=%00", "names no socket"],
    [`nbd+unix:///?socket=%00${"x".repeat(108)}`, "109 bytes"],
    ["nbd+unix:///?socket=%00a%00b", "NUL"],
    ["fd:x", "not an NBD URI"],
    ["fd:3/%00", "NUL"],
    ["nbd+unix:///?socket=/tmp/a%00b", "NUL"],
    [`nbd+unix:///?socket=/${"x".repeat(107)}`, "108 bytes"],
    ["nbd+unix:///?socket=/a&socket=/b", "twice"],
    ["nbd+unix:///?socket=/a&colour=red", 'unknown parameter "colour"'],
    ["nbds+unix:///?socket=/a&tls-type=psk", "for clients"],
  ])("%.60s is refused, naming the fault and a way out", (text, fault) => {
    let caught: unknown;
    try {
      parseNbdUri(text);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(BlkError);
    const error = caught as BlkError;
    expect(error.code).toBe("BLK_E_NBD_URI");
    expect(error.message).toContain(fault);
    expect(error.hint).not.toBe("");
  });

  it("survives being written and read again, whatever its names", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 20 }).filter((value) => !value.includes("\0"));
    const anyUri = fc.oneof(
      fc.record({
        transport: fc.constant("tcp" as const),
        host: fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()),
        port: fc.integer({ min: 0, max: 65535 }),
        exportName: text,
      }),
      fc.record({
        transport: fc.constant("unix" as const),
        path: text.filter((value) => value !== "" && Buffer.byteLength(value) <= 107),
        exportName: text,
      }),
    );
    fc.assert(
      fc.property(anyUri, (uri) => {
        expect(parseNbdUri(formatNbdUri(uri))).toEqual(uri);
      }),
    );
  });
});
