/** `gc.blocking: plane`: collection holds one plane of a die, and reads of the others go on. */
import { describe, expect, it } from "vitest";
import { Random } from "../../../src/base/random.js";
import { Op } from "../../../src/base/request.js";
import { EventLanes } from "../../../src/model/event-lanes.js";
import { Flash, Work } from "../../../src/model/ssd/flash.js";
import { Geometry } from "../../../src/model/ssd/geometry.js";
import { percentile, plainDrive, TestDrive, unitBytes } from "./drive.js";

const us = 1000;
const planes = 4;
const readNs = 50 * us;
const programNs = 700 * us;
const eraseNs = 3000 * us;
/** 4 KiB at 500 MB/s. */
const transferNs = (unitBytes * 1e9) / 500e6;

const flash = {
  channels: 1,
  diesPerChannel: 1,
  planes,
  pageSize: 4096,
  cell: "slc",
  read: "50us",
  program: "700us",
  erase: "3ms",
  channelRate: "500MB/s",
};

const kindBits = 24;

/** A die with nothing above it: operations in, the times they end out. */
class Die {
  readonly flash: Flash;
  private readonly events: EventLanes;
  private readonly endsNs: number[] = [];
  private nowNs = 0;

  constructor(changes: Record<string, unknown> = {}, blocking: "plane" | "none" = "plane") {
    const parameters = plainDrive({ flash: { ...flash, ...changes } });
    const geometry = new Geometry(parameters, 2 ** 26);
    this.events = new EventLanes(256 + Flash.mostEvents(parameters, geometry), 0, kindBits, 0);
    this.flash = new Flash({
      parameters: parameters.flash,
      blocking,
      geometry,
      events: this.events,
      eventBases: { sensed: 0, die: 1 << kindBits, channel: 2 << kindBits },
      capacity: 256,
      sink: {
        flashDone: (op, nowNs) => {
          this.endsNs[this.flash.owner[op]] = nowNs;
        },
      },
      observer: null,
    });
  }

  /** Gives the die an operation; `endNs` of what this returns tells when it has ended. */
  private submit(work: number, plane: number, arrayNs: number, bytes: number): number {
    const owner = this.endsNs.push(Number.NaN) - 1;
    this.flash.submit(this.flash.acquire(work, owner), 0, plane, arrayNs, bytes, this.nowNs);
    return owner;
  }

  read = (plane: number) => this.submit(Work.read, plane, readNs, unitBytes);
  copyRead = (plane: number) => this.submit(Work.copyRead, plane, readNs, unitBytes);
  erase = () => this.submit(Work.erase, 0, eraseNs, 0);
  copyProgram = () => this.submit(Work.copyProgram, 0, programNs, planes * unitBytes);
  program = () => this.submit(Work.program, 0, programNs, planes * unitBytes);

  /** When an operation ended, after all that was submitted has. */
  endNs(operation: number): number {
    this.runTo(Number.POSITIVE_INFINITY);
    return this.endsNs[operation];
  }

  runTo(timeNs: number): void {
    const { events } = this;
    while (events.nextNs <= timeNs && events.nextNs !== Number.POSITIVE_INFINITY) {
      const { nextNs } = events;
      const event = events.pop();
      const subject = event & (2 ** kindBits - 1);
      if (event < 1 << kindBits) this.flash.sensed(subject, nextNs);
      else if (event < 2 << kindBits) this.flash.dieDone(subject, nextNs);
      else this.flash.transferred(subject, nextNs);
    }
    this.nowNs = timeNs;
  }
}

describe("a die that collects by plane", () => {
  it("is read in its other planes meanwhile, which wait for the channel only, and in this plane afterwards", () => {
    const die = new Die();
    const erase = die.erase();
    die.runTo(100 * us);
    const [same, second, third] = [0, 2, 3].map(die.read);
    // The first plane's turn ends; only then the plane can be read, and the erase goes on elsewhere.
    expect(die.endNs(same)).toBeCloseTo(eraseNs + readNs + transferNs, 6);
    expect(die.endNs(second)).toBeCloseTo(100 * us + readNs + transferNs, 6);
    expect(die.endNs(third)).toBeCloseTo(100 * us + readNs + 2 * transferNs, 6);
    expect(die.endNs(erase)).toBe(planes * eraseNs);
  });

  it("is read in no plane while it erases or programs all of them, where collection holds dies", () => {
    const die = new Die({ independentPlanes: true }, "none");
    const erase = die.erase();
    die.runTo(100 * us);
    const reads = [0, 1, 2, 3].map(die.read);
    reads.forEach((read, i) => {
      expect(die.endNs(read)).toBeCloseTo(eraseNs + readNs + (i + 1) * transferNs, 6);
    });
    expect(die.endNs(erase)).toBe(eraseNs);
  });

  it("programs copies in as many turns as it has planes, each with its share of the data", () => {
    const die = new Die();
    expect(die.endNs(die.copyProgram())).toBeCloseTo(planes * (transferNs + programNs), 6);
    expect(die.flash.done[Work.copyProgram]).toBe(1);
  });

  it("reads a page to copy in its own plane, beside reads of the host in others", () => {
    const die = new Die();
    const copy = die.copyRead(1);
    const [other, same] = [0, 1].map(die.read);
    expect(die.endNs(copy)).toBeCloseTo(readNs + transferNs, 6);
    expect(die.endNs(other)).toBeCloseTo(readNs + 2 * transferNs, 6);
    expect(die.endNs(same)).toBeCloseTo(2 * readNs + transferNs, 6);
  });

  it("holds a page to copy until its data are out, where it has no register to put it", () => {
    const die = new Die({ cacheRead: false });
    die.copyRead(1);
    expect(die.endNs(die.read(1))).toBeCloseTo(2 * (readNs + transferNs), 6);
  });

  it("lets what the host programs, on all planes in one shot, in between two turns", () => {
    const die = new Die();
    const erase = die.erase();
    die.runTo(100 * us);
    const program = die.program();
    const read = die.read(2);
    const programmedNs = eraseNs + planes * transferNs + programNs;
    expect(die.endNs(read)).toBeCloseTo(100 * us + readNs + transferNs, 6);
    expect(die.endNs(program)).toBeCloseTo(programmedNs, 6);
    expect(die.endNs(erase)).toBeCloseTo(programmedNs + (planes - 1) * eraseNs, 6);
  });

  it("suspends what the host programs for a read of any plane, and never what collection does", () => {
    const suspend = { program: 4, erase: 4, time: "10us", resume: "20us" };
    const die = new Die({ suspend });
    const program = die.program();
    die.runTo(200 * us);
    const read = die.read(3);
    expect(die.endNs(read)).toBeCloseTo(210 * us + readNs + transferNs, 6);
    expect(die.endNs(program)).toBeCloseTo(planes * transferNs + programNs + (10 + 20) * us + readNs, 6);
    expect(die.flash.suspensions).toBe(1);

    const collecting = new Die({ suspend });
    collecting.copyProgram();
    collecting.runTo(200 * us);
    expect(collecting.endNs(collecting.read(0))).toBeCloseTo(transferNs + programNs + readNs + transferNs, 6);
    expect(collecting.flash.suspensions).toBe(0);
  });

  it("takes its plane from reads that follow each other there after as many as may overtake", () => {
    const most = 5;
    const die = new Die({ maximumReadsAhead: most, channelRate: "1000000GB/s" });
    die.read(0);
    const copy = die.copyRead(0);
    const reads = Array.from({ length: 20 }, () => die.read(0));
    expect(die.endNs(copy)).toBeCloseTo((1 + most + 1) * readNs, 0);
    expect(die.endNs(reads[most - 1])).toBeCloseTo((1 + most) * readNs, 0);
    expect(die.endNs(reads[most])).toBeCloseTo((1 + most + 2) * readNs, 0);
  });

  it("counts only reads of that plane: those of others are not in its way", () => {
    const die = new Die({ maximumReadsAhead: 1, channelRate: "1000000GB/s" });
    die.read(0);
    const copy = die.copyRead(0);
    die.runTo(20 * us);
    const [second] = [1, 1].map(die.read);
    die.runTo(30 * us);
    const third = die.read(2);
    expect(die.endNs(second)).toBeCloseTo(20 * us + readNs, 0);
    expect(die.endNs(third)).toBeCloseTo(30 * us + readNs, 0);
    expect(die.endNs(copy)).toBeCloseTo(2 * readNs, 0);
  });

  it("is read in other planes without limit while it collects in one, whatever else waits for it", () => {
    const die = new Die({ maximumReadsAhead: 1, channelRate: "1000000GB/s" });
    die.erase();
    const program = die.program();
    const reads = Array.from({ length: 40 }, () => die.read(1));
    // Two thirds of the erase.
    expect(die.endNs(reads[39])).toBeCloseTo(40 * readNs, 0);
    expect(die.endNs(program)).toBeCloseTo(eraseNs + programNs, 0);
  });
});

describe("collection that blocks", () => {
  const sizeBytes = 2 ** 28;
  const units = sizeBytes / unitBytes;

  /** Reads and writes of one unit at times and places that depend on the seed only. */
  const readsUnder = (blocking: string) => {
    const drive = new TestDrive(
      plainDrive({
        flash: {
          ...flash,
          channels: 4,
          diesPerChannel: 4,
          read: "50us",
          program: "300us",
          erase: "2ms",
          independentPlanes: true,
        },
        ftl: { overProvisioning: 0.2 },
        gc: { blocking, background: 6 },
        precondition: { state: "random" },
      }),
      sizeBytes,
      { capacity: 4096 },
    );
    const random = new Random(7, "test");
    const latenciesNs: number[] = [];
    const collect = () => {
      for (const slot of drive.completedSlots.splice(0)) {
        const { op, dueNs, arrivalNs } = drive.requests;
        if (op[slot] === Op.read) latenciesNs.push(dueNs[slot] - arrivalNs[slot]);
        drive.requests.release(slot);
      }
    };
    for (let i = 0, atNs = 0; i < 40_000; i++) {
      atNs += Math.round(-Math.log(1 - random.next()) * 120 * us);
      drive.runTo(atNs);
      collect();
      drive.submit(random.next() < 0.4 ? "read" : "write", random.nextInteger(units) * unitBytes, unitBytes);
    }
    drive.settle();
    collect();
    drive.checkConservation();
    expect(drive.model.counters.erased).toBeGreaterThan(20);
    return Float64Array.from(latenciesNs);
  };

  it("raises the tail of reads the more it keeps away: plane, die, channel, under the same load (seed 7)", () => {
    const [plane, die, channel] = ["plane", "die", "channel"].map(readsUnder);
    for (const share of [0.9, 0.99, 0.999]) {
      expect(percentile(die, share)).toBeGreaterThan(percentile(plane, share));
      expect(percentile(channel, share)).toBeGreaterThan(percentile(die, share));
    }
  });
});
