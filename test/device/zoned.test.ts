/** A zoned device as a transport meets it: rules before bytes, and times that are the model's all the same. */
import { describe, expect, test } from "vitest";
import { type Operation, operations, RequestTable } from "../../src/base/request.js";
import { Status, statusNames } from "../../src/base/status.js";
import { ZoneCondition } from "../../src/base/zone.js";
import { Device } from "../../src/device/device.js";
import { DeviceStats } from "../../src/device/stats.js";
import { VirtualClock } from "../../src/device/virtual-clock.js";
import { FaultSet } from "../../src/fault/set.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { MemoryStore } from "../../src/store/memory.js";
import { ZoneTable } from "../../src/zone/table.js";

const zoneBytes = 64 << 10;
const sizeBytes = 8 * zoneBytes;

function bench({ limitBytes = Number.MAX_SAFE_INTEGER, isZoned = true } = {}) {
  const clock = new VirtualClock();
  const requests = new RequestTable(16);
  const profile = loadProfile("fixed", {
    settings: [
      ...["zoned.zoneSize=64K", "zoned.conventional=1", "zoned.maxOpen=2"],
      ...["latency.append=3ms", "latency.zoneReset=16ms"],
    ],
    size: "512K",
  });
  const store = new MemoryStore({ sizeBytes, limitBytes });
  const faults = new FaultSet({ seed: 1, requests, sizeBytes, onRelease: () => {} });
  const device = new Device({
    identity: { ...profile, isReadOnly: false },
    requests,
    store,
    model: createModel({ profile, requests, seed: 1, sizeBytes }),
    faults,
    clock,
    stats: new DeviceStats(),
    zones: isZoned ? new ZoneTable(profile.zones!, sizeBytes, (at, length) => store.trim(at, length)) : null,
  });
  let answer = { status: "none", latencyNs: 0, offsetBytes: 0 };
  const moved: number[] = [];
  const owner = {
    movePayload(slot: number) {
      moved.push(requests.offsetBytes[slot]);
    },
    onCompletion(slot: number) {
      answer = {
        status: statusNames[requests.status[slot]],
        latencyNs: clock.nowNs() - requests.arrivalNs[slot],
        offsetBytes: requests.offsetBytes[slot],
      };
      requests.release(slot);
    },
    onCompletionsEnd() {},
  };
  /** Runs one request to its end. */
  const run = (
    op: Operation,
    offsetBytes: number,
    payload = new Uint8Array(4096).fill(7),
    { isMovedByOwner = false } = {},
  ) => {
    const slot = requests.acquire();
    requests.op[slot] = operations.indexOf(op);
    requests.flags[slot] = 0;
    requests.offsetBytes[slot] = offsetBytes;
    requests.lengthBytes[slot] = op.startsWith("zone") ? zoneBytes : payload.length;
    requests.arrivalNs[slot] = clock.nowNs();
    const isSubmitted = (op === "write" || op === "append") && !isMovedByOwner;
    device.submit(slot, isSubmitted ? payload : null, owner);
    device.pump();
    clock.run();
    return answer;
  };
  const byteAt = (offsetBytes: number): number => {
    const byte = new Uint8Array(1);
    expect(store.read(offsetBytes, byte)).toBe(Status.ok);
    return byte[0];
  };
  return { device, faults, run, byteAt, moved };
}

describe("a zoned device", () => {
  test("leaves the bytes alone when a write breaks the rules, and takes the model's time all the same", () => {
    const { run, byteAt } = bench();
    expect(run("write", zoneBytes + 4096)).toMatchObject({ status: "io", latencyNs: 1e6 });
    expect(byteAt(zoneBytes + 4096)).toBe(0);
    expect(run("write", zoneBytes)).toMatchObject({ status: "ok" });
    expect(byteAt(zoneBytes)).toBe(7);
  });

  test("tells where an append went", () => {
    const { run, byteAt, device } = bench();
    run("write", zoneBytes);
    expect(run("append", zoneBytes)).toEqual({ status: "ok", latencyNs: 3e6, offsetBytes: zoneBytes + 4096 });
    expect(byteAt(zoneBytes + 4096)).toBe(7);
    expect(device.zones?.writePointerBytes(1)).toBe(8192);
  });

  test("reads zeroes where a zone was reset", () => {
    const { run, byteAt } = bench();
    run("write", zoneBytes);
    expect(run("zoneReset", zoneBytes)).toMatchObject({ status: "ok", latencyNs: 16e6 });
    expect(byteAt(zoneBytes)).toBe(0);
    expect(run("write", zoneBytes).status).toBe("ok");
  });

  test("does not move the write pointer for a write that a fault fails", () => {
    const { run, faults, device } = bench();
    faults.add({ kind: "error", options: { status: "medium" }, trigger: { ops: ["write"], times: 1 } });
    expect(run("write", zoneBytes).status).toBe("medium");
    expect(device.zones?.writePointerBytes(1)).toBe(0);
    expect(run("write", zoneBytes).status).toBe("ok");
  });

  test("does not move it for a write that the store has no room for", () => {
    const { run, device } = bench({ limitBytes: 4096 });
    expect(run("write", zoneBytes).status).toBe("ok");
    expect(run("write", zoneBytes + 4096).status).toBe("nospc");
    expect(device.zones?.writePointerBytes(1)).toBe(4096);
  });

  test("does not move it either when somebody else moves the bytes, later, and there is no room for them", () => {
    const { device, run, moved } = bench({ limitBytes: 2 * 4096 });
    const block = new Uint8Array(4096);
    const byOwner = { isMovedByOwner: true };
    expect(run("write", zoneBytes, block, byOwner)).toMatchObject({ status: "ok" });
    expect(run("append", zoneBytes, block, byOwner)).toMatchObject({ status: "ok" });
    expect(run("write", zoneBytes + 8192, block, byOwner)).toMatchObject({ status: "nospc" });
    expect(run("append", zoneBytes, block, byOwner)).toMatchObject({ status: "nospc" });
    expect(device.zones!.writePointerBytes(1)).toBe(8192);
    expect(moved).toEqual([zoneBytes, zoneBytes + 4096]);
  });

  test("says when no further zone may be open", () => {
    const { run, device } = bench();
    run("zoneOpen", zoneBytes);
    run("zoneOpen", 2 * zoneBytes);
    expect(run("write", 3 * zoneBytes).status).toBe("openzones");
    expect(device.zones?.condition(3)).toBe(ZoneCondition.empty);
  });

  test("has its capacity for life", () => {
    expect(() => bench().device.grow(2 * sizeBytes)).toThrowError(/capacity for life/);
  });
});

test("a device without zones has no zone operations", () => {
  const { run } = bench({ isZoned: false });
  for (const op of ["append", "zoneReset", "zoneReport"] as const) expect(run(op, 0).status).toBe("notsupp");
  expect(run("write", 4096).status).toBe("ok");
});
