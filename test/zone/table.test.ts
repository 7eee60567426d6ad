/** The rules of zones: against a plain model for any sequence of requests, and by example where standards differ. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Operation, operations, RequestTable } from "../../src/base/request.js";
import { Status, statusNames } from "../../src/base/status.js";
import { ZoneCondition, type ZoneLayout } from "../../src/base/zone.js";
import { ZoneTable } from "../../src/zone/table.js";
import { type Request, SimpleZones } from "./simple-zones.js";

const zoneBytes = 65536;
const capacityBytes = 49152;
const blockBytes = 4096;
const zoneCount = 8;

const plain: ZoneLayout = {
  zoneBytes,
  capacityBytes,
  conventionalCount: 1,
  maxOpen: 0,
  maxActive: 0,
  maxAppendBytes: 16384,
  readOnly: [],
  offline: [],
};

class Bench {
  readonly requests = new RequestTable(1);
  readonly freed: [number, number][] = [];
  readonly table: ZoneTable;

  constructor(layout: Partial<ZoneLayout> = {}) {
    const free = (offset: number, length: number): Status => {
      this.freed.push([offset, length]);
      return Status.ok;
    };
    this.table = new ZoneTable({ ...plain, ...layout }, zoneCount * zoneBytes, free);
  }

  /** Runs a request whose bytes always find their place; the status' name, and where an append went. */
  run(op: Operation, zone: number, offset = 0, length = blockBytes): { status: string; place?: number } {
    const { requests, table } = this;
    requests.op[0] = operations.indexOf(op);
    requests.offsetBytes[0] = zone * zoneBytes + offset;
    requests.lengthBytes[0] = length;
    const status = table.judge(requests, 0);
    const isWritten = ["write", "zeroes", "append"].includes(op) && status === Status.ok;
    if (isWritten) table.wrote(requests, 0);
    const place = requests.offsetBytes[0] - zone * zoneBytes;
    return { status: statusNames[status], ...(op === "append" && isWritten ? { place } : {}) };
  }

  condition(zone: number): string {
    const code = this.table.condition(zone);
    return Object.entries(ZoneCondition).find(([, value]) => value === code)![0];
  }

  /** Writes a zone up to its capacity. */
  fill(zone: number): void {
    expect(this.run("write", zone, 0, capacityBytes)).toEqual({ status: "ok" });
  }
}

const layouts: fc.Arbitrary<ZoneLayout> = fc
  .record({
    capacityBytes: fc.constantFrom(zoneBytes, capacityBytes, blockBytes),
    conventionalCount: fc.nat(2),
    maxOpen: fc.nat(3),
    extraActive: fc.option(fc.nat(2)),
    readOnly: fc.constantFrom([], [5]),
    offline: fc.constantFrom([], [6]),
  })
  .map(({ extraActive, ...rest }) => ({
    ...plain,
    ...rest,
    maxActive: extraActive === null ? 0 : rest.maxOpen + extraActive,
  }));

/** Few zones and many writes that fit, so that zones fill up and limits are met; some requests of any kind and place. */
const requestsOf = (count: number): fc.Arbitrary<(Request & { isAtPointer: boolean })[]> =>
  fc.array(
    fc.record({
      op: fc.oneof(
        { weight: 4, arbitrary: fc.constant("write") },
        { weight: 6, arbitrary: fc.constantFrom(...operations) },
      ),
      zone: fc.nat(zoneCount - 1),
      offset: fc.nat(15).map((block) => block * blockBytes),
      length: fc.integer({ min: 1, max: 12 }).map((blocks) => blocks * blockBytes),
      isAtPointer: fc.boolean(),
    }),
    { minLength: 1, maxLength: count },
  );

describe("any sequence of requests", () => {
  test("leaves the same conditions, write pointers, statuses and places as the plain model", () => {
    fc.assert(
      fc.property(layouts, requestsOf(120), (layout, sequence) => {
        const bench = new Bench(layout);
        const model = new SimpleZones(layout, zoneCount);
        for (const { isAtPointer, ...request } of sequence) {
          const isManagement = request.op.startsWith("zone");
          if (isManagement || (isAtPointer && request.op === "append")) request.offset = 0;
          if (isAtPointer && request.op === "write") request.offset = model.zones[request.zone].written;
          // Transports let nothing through that goes beyond the device's end.
          const end = zoneCount * zoneBytes - request.zone * zoneBytes;
          if (request.offset >= end) request.offset = 0;
          request.length = Math.min(request.length, end - request.offset);
          expect(bench.run(request.op as Operation, request.zone, request.offset, request.length)).toEqual(
            model.run(request),
          );
          for (const [zone, { condition, written }] of model.zones.entries()) {
            expect([zone, bench.condition(zone)]).toEqual([zone, condition]);
            if (condition === "full") expect(bench.table.writePointerBytes(zone)).toBe(zoneBytes);
            else expect(bench.table.writePointerBytes(zone)).toBe(written);
          }
          expect(bench.table.implicitlyOpenCount).toBe(model.count("implicitlyOpen"));
          expect(bench.table.explicitlyOpenCount).toBe(model.count("explicitlyOpen"));
          expect(bench.table.closedCount).toBe(model.count("closed"));
        }
      }),
      { numRuns: 400 },
    );
  });
});

describe("writes", () => {
  test("a sequential zone takes writes at its write pointer and fills up at its capacity", () => {
    const bench = new Bench();
    expect(bench.run("write", 1, blockBytes)).toEqual({ status: "io" });
    expect(bench.run("write", 1)).toEqual({ status: "ok" });
    expect(bench.run("write", 1)).toEqual({ status: "io" });
    expect(bench.run("write", 1, blockBytes, capacityBytes)).toEqual({ status: "io" });
    expect(bench.run("write", 1, blockBytes, capacityBytes - blockBytes)).toEqual({ status: "ok" });
    expect(bench.condition(1)).toBe("full");
    expect(bench.run("write", 1, capacityBytes)).toEqual({ status: "io" });
  });

  test("a conventional zone takes them anywhere, and neither appends nor management", () => {
    const bench = new Bench();
    expect(bench.run("write", 0, 8 * blockBytes)).toEqual({ status: "ok" });
    expect(bench.run("write", 0, zoneBytes - blockBytes, 2 * blockBytes)).toEqual({ status: "io" });
    for (const op of ["append", "zoneOpen", "zoneClose", "zoneFinish", "zoneReset"] as const) {
      expect([op, bench.run(op, 0).status]).toEqual([op, "io"]);
    }
    expect(bench.condition(0)).toBe("conventional");
  });

  test("appends go where the write pointer is, and say where", () => {
    const bench = new Bench();
    expect(bench.run("append", 2)).toEqual({ status: "ok", place: 0 });
    expect(bench.run("append", 2, 0, 2 * blockBytes)).toEqual({ status: "ok", place: blockBytes });
    expect(bench.run("append", 2)).toEqual({ status: "ok", place: 3 * blockBytes });
    expect(bench.run("append", 2, blockBytes)).toEqual({ status: "inval" });
    expect(bench.run("append", 2, 0, 5 * blockBytes)).toEqual({ status: "inval" });
  });

  test("a write whose bytes found no room leaves the write pointer alone", () => {
    const { requests, table } = new Bench();
    requests.op[0] = operations.indexOf("write");
    requests.offsetBytes[0] = zoneBytes;
    requests.lengthBytes[0] = blockBytes;
    expect(table.judge(requests, 0)).toBe(Status.ok);
    expect(table.writePointerBytes(1)).toBe(0);
    expect(table.judge(requests, 0)).toBe(Status.ok);
  });
});

describe("limits", () => {
  test("of the implicitly open zones the one longest open is closed for another", () => {
    const bench = new Bench({ maxOpen: 2 });
    bench.run("write", 3);
    bench.run("write", 1);
    bench.run("write", 3, blockBytes);
    bench.run("write", 2);
    expect([1, 2, 3].map((zone) => bench.condition(zone))).toEqual([
      "implicitlyOpen",
      "implicitlyOpen",
      "closed",
    ]);
  });

  test("explicitly open zones are never closed for another", () => {
    const bench = new Bench({ maxOpen: 2 });
    bench.run("zoneOpen", 1);
    bench.run("zoneOpen", 2);
    expect(bench.run("write", 3)).toEqual({ status: "openzones" });
    expect(bench.run("zoneOpen", 3)).toEqual({ status: "openzones" });
    expect(bench.condition(3)).toBe("empty");
  });

  test("no more zones are partly written than maxActive; finishing one makes room", () => {
    const bench = new Bench({ maxOpen: 1, maxActive: 2 });
    bench.run("write", 1);
    bench.run("write", 2);
    expect(bench.run("write", 3)).toEqual({ status: "activezones" });
    // Reopening a closed zone makes none more active.
    expect(bench.run("write", 1, blockBytes)).toEqual({ status: "ok" });
    expect(bench.run("zoneFinish", 2)).toEqual({ status: "ok" });
    expect(bench.run("write", 3)).toEqual({ status: "ok" });
  });
});

describe("management", () => {
  test("a zone opened and closed without a write is empty again", () => {
    const bench = new Bench();
    bench.run("zoneOpen", 1);
    expect(bench.condition(1)).toBe("explicitlyOpen");
    bench.run("zoneClose", 1);
    expect(bench.condition(1)).toBe("empty");
  });

  test("a reset frees the bytes of a zone that has some, and lets it be written anew", () => {
    const bench = new Bench();
    expect(bench.run("zoneReset", 1)).toEqual({ status: "ok" });
    expect(bench.freed).toEqual([]);
    bench.fill(1);
    expect(bench.run("zoneReset", 1)).toEqual({ status: "ok" });
    expect(bench.freed).toEqual([[zoneBytes, zoneBytes]]);
    bench.fill(1);
  });

  test("a reset of all zones passes over those that can not be written any more", () => {
    const bench = new Bench({ readOnly: [5], offline: [6] });
    bench.fill(1);
    bench.run("write", 3);
    expect(bench.run("zoneResetAll", 0)).toEqual({ status: "ok" });
    expect(bench.freed).toEqual([
      [zoneBytes, zoneBytes],
      [3 * zoneBytes, zoneBytes],
    ]);
    expect([1, 3, 5, 6].map((zone) => bench.condition(zone))).toEqual([
      "empty",
      "empty",
      "readOnly",
      "offline",
    ]);
  });

  test("a read-only zone can be read, an offline one can not", () => {
    const bench = new Bench({ readOnly: [5], offline: [6] });
    for (const op of ["write", "zoneReset", "zoneOpen", "zoneFinish"] as const) {
      expect([op, bench.run(op, 5).status, bench.run(op, 6).status]).toEqual([op, "io", "io"]);
    }
    expect(bench.run("read", 5)).toEqual({ status: "ok" });
    expect(bench.run("read", 6)).toEqual({ status: "io" });
    expect(bench.run("read", 5, 0, zoneBytes + blockBytes)).toEqual({ status: "io" });
  });
});
