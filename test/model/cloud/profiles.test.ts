/** The shipped cloud volumes against the acceptance figures in their files. */
import { describe, expect, it } from "vitest";
import { runAcceptance } from "../../../scripts/support/acceptance.js";
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
    expect(results.filter(({ isAccepted }) => !isAccepted)).toEqual([]);
  });
});
