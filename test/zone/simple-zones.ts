/**
 * Zones once more, as plainly as can be: one object per zone, everything counted anew each time, written from the standards'
 * words rather than from `src/zone/table.ts`. What the two agree on is unlikely to be wrong in both.
 */
import type { ZoneLayout } from "../../src/base/zone.js";

export type Condition =
  | "conventional"
  | "empty"
  | "implicitlyOpen"
  | "explicitlyOpen"
  | "closed"
  | "readOnly"
  | "full"
  | "offline";

export interface SimpleZone {
  condition: Condition;
  /** Bytes written since the last reset. */
  written: number;
  /** When it was last opened implicitly, counted in requests. */
  openedAt: number;
}

export interface Request {
  op: string;
  zone: number;
  /** Within the zone. */
  offset: number;
  length: number;
}

export interface Outcome {
  status: "ok" | "io" | "inval" | "openzones" | "activezones";
  /** Where an append went, within the zone. */
  place?: number;
}

const ok: Outcome = { status: "ok" };
const io: Outcome = { status: "io" };

export class SimpleZones {
  readonly zones: SimpleZone[];
  private clock = 0;

  constructor(
    private readonly layout: ZoneLayout,
    count: number,
  ) {
    this.zones = Array.from({ length: count }, (_, number) => ({
      condition: layout.readOnly.includes(number)
        ? "readOnly"
        : layout.offline.includes(number)
          ? "offline"
          : number < layout.conventionalCount
            ? "conventional"
            : "empty",
      written: 0,
      openedAt: 0,
    }));
  }

  run({ op, zone: number, offset, length }: Request): Outcome {
    this.clock++;
    const zone = this.zones[number];
    const isConventional = zone.condition === "conventional";
    const isDead = zone.condition === "readOnly" || zone.condition === "offline";
    switch (op) {
      case "read":
        return this.touched(number, offset, length).some(({ condition }) => condition === "offline")
          ? io
          : ok;
      case "trim":
        return this.touched(number, offset, length).some(
          ({ condition }) => condition === "offline" || condition === "readOnly",
        )
          ? io
          : ok;
      case "write":
      case "zeroes":
        if (isConventional) {
          return this.touched(number, offset, length).every(({ condition }) => condition === "conventional")
            ? ok
            : io;
        }
        return this.write(zone, offset, length);
      case "append": {
        if (isConventional) return io;
        if (offset !== 0 || length > this.layout.maxAppendBytes) return { status: "inval" };
        const place = zone.written;
        const outcome = this.write(zone, place, length);
        return outcome.status === "ok" ? { status: "ok", place } : outcome;
      }
      case "zoneResetAll":
        for (const each of this.zones) {
          if (["conventional", "readOnly", "offline"].includes(each.condition)) continue;
          each.condition = "empty";
          each.written = 0;
        }
        return ok;
      case "flush":
      case "zoneReport":
        return ok;
    }
    if (isConventional || isDead) return io;
    switch (op) {
      case "zoneOpen": {
        if (zone.condition === "full") return io;
        if (zone.condition === "empty" || zone.condition === "closed") {
          const outcome = this.admit(zone);
          if (outcome.status !== "ok") return outcome;
        }
        zone.condition = "explicitlyOpen";
        return ok;
      }
      case "zoneClose":
        if (zone.condition === "empty" || zone.condition === "full") return io;
        this.close(zone);
        return ok;
      case "zoneFinish":
        zone.condition = "full";
        return ok;
      case "zoneReset":
        zone.condition = "empty";
        zone.written = 0;
        return ok;
    }
    throw new Error(`no operation ${op}`);
  }

  count(...conditions: Condition[]): number {
    return this.zones.filter(({ condition }) => conditions.includes(condition)).length;
  }

  private write(zone: SimpleZone, offset: number, length: number): Outcome {
    if (["full", "readOnly", "offline"].includes(zone.condition)) return io;
    if (offset !== zone.written || offset + length > this.layout.capacityBytes) return io;
    if (zone.condition === "empty" || zone.condition === "closed") {
      const outcome = this.admit(zone);
      if (outcome.status !== "ok") return outcome;
      zone.condition = "implicitlyOpen";
      zone.openedAt = this.clock;
    }
    zone.written += length;
    if (zone.written === this.layout.capacityBytes) zone.condition = "full";
    return ok;
  }

  private admit(zone: SimpleZone): Outcome {
    const { maxOpen, maxActive } = this.layout;
    const active = this.count("implicitlyOpen", "explicitlyOpen", "closed");
    if (maxActive > 0 && zone.condition === "empty" && active === maxActive) return { status: "activezones" };
    if (maxOpen > 0 && this.count("implicitlyOpen", "explicitlyOpen") === maxOpen) {
      const candidates = this.zones.filter(({ condition }) => condition === "implicitlyOpen");
      if (candidates.length === 0) return { status: "openzones" };
      candidates.sort((a, b) => a.openedAt - b.openedAt);
      this.close(candidates[0]);
    }
    return ok;
  }

  private close(zone: SimpleZone): void {
    zone.condition = zone.written === 0 ? "empty" : "closed";
  }

  private touched(number: number, offset: number, length: number): SimpleZone[] {
    const size = this.layout.zoneBytes;
    const start = number * size + offset;
    return this.zones.filter((_, each) => each * size < start + length && (each + 1) * size > start);
  }
}
