import { describe, expect, it } from "vitest";
import {
  Direction,
  Link,
  pcieBytesPerSecond,
  sataBytesPerSecond,
} from "../../../../src/model/ssd/controller/link.js";
import { linkSchema } from "../../../../src/model/ssd/controller/schema.js";

const pcie = (written: Record<string, unknown> = {}) =>
  new Link(linkSchema.parse({ kind: "pcie", ...written }));
const sata = () => new Link(linkSchema.parse({ kind: "sata" }));

describe("the rate of a link", () => {
  it("is that of published drives: 3.4-3.5, 6.9-7.1 and 13.5-14 GB/s over four lanes of PCIe 3, 4 and 5", () => {
    expect(pcieBytesPerSecond(3, 4, 256) / 1e9).toBeCloseTo(3.5, 1);
    expect(pcieBytesPerSecond(4, 4, 256) / 1e9).toBeCloseTo(7.0, 1);
    expect(pcieBytesPerSecond(5, 4, 256) / 1e9).toBeCloseTo(14.0, 1);
  });

  it("is 550 to 560 MB/s over SATA at 6 Gb/s", () => {
    const rate = sataBytesPerSecond(6) / 1e6;
    expect(rate).toBeGreaterThan(550);
    expect(rate).toBeLessThan(561);
  });

  it("grows with lanes, generation and packet size", () => {
    expect(pcieBytesPerSecond(3, 8, 256)).toBe(2 * pcieBytesPerSecond(3, 4, 256));
    expect(pcieBytesPerSecond(4, 4, 256)).toBe(2 * pcieBytesPerSecond(3, 4, 256));
    expect(pcieBytesPerSecond(3, 4, 512)).toBeGreaterThan(pcieBytesPerSecond(3, 4, 128));
    expect(pcieBytesPerSecond(2, 1, 256)).toBe((5e9 * 0.8 * 256) / 288 / 8);
  });
});

describe("transfers", () => {
  it("follow one another, and leave no gap", () => {
    const link = pcie();
    const ns = link.timeNs(4096);
    expect(link.reserve(Direction.toHost, 4096, 1000)).toBe(1000 + ns);
    expect(link.reserve(Direction.toHost, 4096, 1000)).toBe(1000 + ns + ns);
    expect(link.reserve(Direction.toHost, 4096, 1e9)).toBe(1e9 + ns);
    expect(link.totalBusyNs(Direction.toHost)).toBe(ns + ns + ns);
  });

  it("go both ways at once over PCIe, one way at a time over SATA", () => {
    const duplex = pcie();
    duplex.reserve(Direction.toHost, 1e6, 0);
    expect(duplex.freeAtNs(Direction.toDevice)).toBe(0);
    expect(duplex.reserve(Direction.toDevice, 4096, 0)).toBe(duplex.timeNs(4096));
    const shared = sata();
    const endNs = shared.reserve(Direction.toHost, 1e6, 0);
    expect(shared.freeAtNs(Direction.toDevice)).toBe(endNs);
    expect(shared.reserve(Direction.toDevice, 4096, 0)).toBe(endNs + shared.timeNs(4096));
  });
});
