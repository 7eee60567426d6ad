import { describe, expect, test } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { parseJobFile } from "../../src/workload/job-file.js";
import type { JobOptions } from "../../src/workload/options.js";
import { meaninglessOptions, refusedOptions, supportedOptions } from "../../src/workload/options.js";

function jobOf(options: string): JobOptions {
  return parseJobFile(`[job]\n${options}`, { path: "job.fio" }).jobs[0];
}

function errorOf(text: string): BlkError {
  try {
    parseJobFile(text, { path: "job.fio" });
  } catch (error) {
    if (error instanceof BlkError) return error;
  }
  throw new Error("expected a BlkError");
}

function sizesOf(options: string): number[][] {
  return jobOf(options).blockSizes.map((sizes) =>
    sizes.kind === "split" ? sizes.parts.flatMap(({ bytes, percent }) => [bytes, percent]) : [],
  );
}

describe("job file", () => {
  test("[global] sets defaults for the jobs after it, and may come again", () => {
    const { jobs } = parseJobFile(
      `; a comment
[global]
bs=8k          # trailing comment
iodepth=4
[first]
rw=randread
[global]
iodepth=16
[second]
bs=64k
iodepth=2
[third]`,
      { path: "job.fio" },
    );
    expect(jobs.map(({ name, queueDepth }) => [name, queueDepth])).toEqual([
      ["first", 4],
      ["second", 2],
      ["third", 16],
    ]);
    expect(jobs[0].isRandom).toBe(true);
    expect(jobs[2].does).toEqual([true, false, false]);
  });

  test("units follow kb_base, wherever it stands in the section", () => {
    expect(jobOf("size=1m").size).toEqual({ bytes: 1048576 });
    expect(jobOf("size=1mi").size).toEqual({ bytes: 1000000 });
    expect(jobOf("size=1MB\nkb_base=1000").size).toEqual({ bytes: 1000000 });
    expect(jobOf("size=1MiB\nkb_base=1000").size).toEqual({ bytes: 1048576 });
    expect(jobOf("offset=0x1000").offset).toEqual({ bytes: 4096 });
    expect(jobOf("size=20%").size).toEqual({ percent: 20 });
  });

  test("times have fio's default units", () => {
    expect(jobOf("runtime=10").runtimeNs).toBe(10e9);
    expect(jobOf("runtime=2m").runtimeNs).toBe(120e9);
    expect(jobOf("thinktime=250").thinkTimeNs).toBe(250e3);
    expect(jobOf("thinktime=5ms").thinkTimeNs).toBe(5e6);
    expect(jobOf("ramp_time=500ms").rampNs).toBe(500e6);
  });

  test("bs and bssplit take values for read, write and trim", () => {
    expect(sizesOf("bs=4k")).toEqual([
      [4096, 100],
      [4096, 100],
      [4096, 100],
    ]);
    expect(sizesOf("bs=8k,32k")).toEqual([
      [8192, 100],
      [32768, 100],
      [32768, 100],
    ]);
    expect(sizesOf("bs=,8k")).toEqual([
      [4096, 100],
      [8192, 100],
      [8192, 100],
    ]);
    // Shares left open divide the rest, as in fio.
    expect(sizesOf("bssplit=4k/50:8k:64k")[0]).toEqual([4096, 50, 8192, 25, 65536, 25]);
    expect(sizesOf("bssplit=2k/100,4k/60:8k/40")[1]).toEqual([4096, 60, 8192, 40]);
  });

  const usesVariable = ["[job]", "iodepth=$" + "{DEPTH}"].join("\n");

  test("variables come from the environment, and a missing one is an error", () => {
    const { jobs } = parseJobFile(usesVariable, {
      path: "job.fio",
      environment: { DEPTH: "7" },
    });
    expect(jobs[0].queueDepth).toBe(7);
    expect(errorOf(usesVariable).message).toBe("job.fio:2: the variable DEPTH is not set");
  });

  test("an unknown option is an error with its name, place and a suggestion", () => {
    const error = errorOf("[global]\nbs=4k\n[job]\niodeph=32");
    expect(error.code).toBe("BLK_E_WORKLOAD");
    expect(error.message).toBe('job.fio:4: unknown option "iodeph"');
    expect(error.hint).toBe("Did you mean iodepth?");
  });

  test.each([
    ["bs=4x", 'job.fio:2: bs: "4x" is not a number'],
    ["bs=0", 'job.fio:2: bs: "0" is not positive'],
    ["runtime=soon", 'job.fio:2: runtime: "soon" is not a time'],
    ["rwmixread=101", 'job.fio:2: rwmixread: "101" is not a percentage'],
    ["rw=sideways", 'job.fio:2: rw: "sideways" is not offered'],
    ["rw=read:8", 'job.fio:2: rw: "read:8" has a modifier'],
    ["bssplit=4k/60:8k/60", 'job.fio:2: bssplit: the shares of "4k/60:8k/60" add up to 120 %'],
    ["random_distribution=zipf:0", 'job.fio:2: random_distribution: "zipf:0" needs a theta above 0'],
    ["random_distribution=pareto:1", 'job.fio:2: random_distribution: "pareto:1" needs an h between 0 and 1'],
    ["read_iolog=x", 'job.fio:2: option "read_iolog" cannot be simulated'],
    ["time_based", 'job.fio: job "job" is time_based without a runtime'],
  ])("%s is refused with a reason", (option, message) => {
    const error = errorOf(`[job]\n${option}`);
    expect(error.message).toBe(message);
    expect(error.hint).not.toBe("");
  });

  test("options before a section, and a file without jobs, are errors", () => {
    expect(errorOf("bs=4k").message).toBe('job.fio:1: "bs=4k" stands before any section');
    expect(errorOf("[global]\nbs=4k").message).toBe("job.fio has no job");
  });

  test("options that mean nothing to a simulation are accepted, and no option is in two lists", () => {
    const { jobs } = parseJobFile(
      "[job]\ndirect=1\nfilename=/dev/nbd0\ngroup_reporting\nioengine=libaio\niodepth=8\nthread",
      { path: "job.fio" },
    );
    expect(jobs[0].queueDepth).toBe(8);
    for (const name of Object.keys(supportedOptions)) {
      expect(meaninglessOptions.has(name)).toBe(false);
      expect(Object.hasOwn(refusedOptions, name)).toBe(false);
    }
    for (const name of Object.keys(refusedOptions)) expect(meaninglessOptions.has(name)).toBe(false);
  });

  test("a synchronous ioengine caps the queue depth at 1, and says so", () => {
    const { jobs, notes } = parseJobFile("[job]\nioengine=psync\niodepth=32", { path: "job.fio" });
    expect(jobs[0].queueDepth).toBe(1);
    expect(notes).toHaveLength(1);
  });
});
