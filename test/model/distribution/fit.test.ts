import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runAcceptance } from "../../../scripts/support/acceptance.js";
import { Random } from "../../../src/base/random.js";
import { Op } from "../../../src/base/request.js";
import { fitProfile } from "../../../src/model/distribution/fit.js";
import { createSampler } from "../../../src/model/distribution/sampler.js";
import { loadProfile } from "../../../src/profile/load.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "blkforge-fit-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const write = (name: string, content: unknown) => {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
};

/** A bimodal device, as fio would have counted it: 80 % about 90 us, 20 % about 2 ms, in fio's buckets. */
function bimodalRun(count: number) {
  const random = new Random(7, "test");
  const samples: number[] = [];
  const bins: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    const ns = (random.next() < 0.8 ? 90_000 : 2_000_000) * Math.exp(0.1 * random.nextNormal());
    samples.push(ns);
    const width = 2 ** (Math.floor(Math.log2(ns)) - 6);
    const middle = Math.floor(ns / width) * width + width / 2;
    bins[middle] = (bins[middle] ?? 0) + 1;
  }
  return { samples: samples.sort((a, b) => a - b), clat_ns: { N: count, min: 1, max: 9e6, bins } };
}

describe("a profile fitted to a fio run", () => {
  it("gives back the run's percentiles within 3 %, and its own acceptance figures", () => {
    const { samples, clat_ns } = bimodalRun(100_000);
    const run = write("run.json", { jobs: [{ read: { clat_ns }, sync: { lat_ns: { ...clat_ns } } }] });
    const path = write("fitted.yaml", fitProfile({ path: run, name: "fitted", size: "1G" }));
    const profile = loadProfile(path);
    if (profile.model !== "distribution") throw new Error("a fitted profile is of model distribution");
    expect(profile.description).toBe("Latencies of a fio run: 100000 x read, 100000 x flush");
    expect(profile).toMatchObject({ name: "fitted", sizeBytes: 2 ** 30, hasVolatileCache: true });
    expect(profile.parameters.latency[Op.flush].kind).toBe("table");

    const sampler = createSampler(profile.parameters.latency[Op.read]);
    const random = new Random(1, "test");
    const fitted = Float64Array.from({ length: 100_000 }, () => sampler.sampleNs(random)).sort();
    for (const p of [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999]) {
      const ratio = fitted[Math.ceil(p * fitted.length) - 1] / samples[Math.ceil(p * samples.length) - 1];
      expect(Math.abs(ratio - 1), `p${p * 100}: ${ratio}`).toBeLessThan(0.03);
    }
    const results = runAcceptance(path);
    expect(results).toHaveLength(2);
    expect(results.filter(({ isMet }) => !isMet)).toEqual([]);
  });

  it("leaves out percentiles that too few requests stand behind", () => {
    const { clat_ns } = bimodalRun(500);
    const run = write("few.json", { jobs: [{ read: { clat_ns } }] });
    const text = fitProfile({ path: run, name: "few", size: "1G" });
    expect(text).toContain('"95":');
    expect(text).toContain('"100":');
    expect(text).not.toContain('"99.9":');
  });

  it("refuses a run without I/O", () => {
    const run = write("empty.json", { jobs: [{ read: { clat_ns: { N: 0 } } }] });
    expect(() => fitProfile({ path: run, name: "x", size: "1G" })).toThrow(
      /has no reads, writes, trims or syncs/,
    );
  });
});
