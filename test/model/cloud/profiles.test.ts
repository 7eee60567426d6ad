/** The shipped cloud volumes against the acceptance figures in their files. */
import { describe, expect, it } from "vitest";
import { measureProfile, runAcceptance } from "../../../scripts/support/acceptance.js";
import { loadProfile, profileNames } from "../../../src/profile/load.js";

const volumes = profileNames().filter((name) => loadProfile(name).model === "cloud");

describe("cloud volumes", () => {
  it("are eleven of the three large providers, and sc1", () => {
    expect(volumes).toEqual([
      "azure-p20",
      "azure-p30",
      "azure-premium-v2",
      "azure-ultra",
      "ebs-gp2",
      "ebs-gp3",
      "ebs-io2",
      "ebs-sc1",
      "ebs-st1",
      "gcp-pd-balanced",
      "gcp-pd-ssd",
      "gcp-pd-standard",
    ]);
  });

  it.each(volumes)("%s meets its figures", (name) => {
    const results = runAcceptance(name);
    expect(results.length).toBeGreaterThan(0);
    expect(results.filter(({ isMet }) => !isMet)).toEqual([]);
  });

  const oneAtATime = (bs: string) => ({ rw: "randread", bs, number_ios: 50_000 });
  const reads = (name: string, bs: string, measure: string) =>
    measureProfile(name, { run: oneAtATime(bs), measure });

  it("ebs-io2 reads 16 KiB in less than 500 us on average, and over 800 us ten times rarer than gp3", () => {
    expect(reads("ebs-io2", "16k", "mean")).toBeLessThan(500e3);
    // Nine tenths of gp3's reads are faster than its p90, so at least a tenth are slower; of io2's at most a hundredth.
    expect(reads("ebs-gp3", "16k", "p90")).toBeGreaterThan(800e3);
    expect(reads("ebs-io2", "16k", "p99")).toBeLessThan(800e3);
  });

  it.each(["azure-premium-v2", "azure-ultra"])(
    "%s reads 4 KiB in less than a millisecond on average",
    (name) => {
      expect(reads(name, "4k", "mean")).toBeLessThan(1e6);
    },
  );

  it("gcp-pd-ssd reads 99 % of 4 KiB in less than 10 ms", () => {
    expect(reads("gcp-pd-ssd", "4k", "p99")).toBeLessThan(10e6);
  });
});
