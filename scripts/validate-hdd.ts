/**
 * `npm run validate:hdd`: how faithful the hard-disk model is, against traces measured on three real drives.
 *
 * For each drive the trace is replayed as it was taken: issue a request, wait for the model, wait the think time, issue
 * the next. The figure is the demerit (Ruemmler and Wilkes 1994; DiskSim 4, src/rms.c): the root mean square
 * horizontal distance between the distributions of measured and modelled service times, in % of the measured mean.
 *
 * extracted  the profile as it is: parameters extracted from the drive by others, none of them from the trace, save one:
 *            that the Atlas III reads ahead only after two sequential reads was seen in its trace
 * fitted     interface rate and command overheads fitted on the first half of the trace, scored on the second
 *
 * --data DIR  where the traces are (`atlas10k.trace` and so on); by default beside the repository
 * --check     fail when a figure is worse than the committed limit, so that changes cannot make the model worse
 * --json      one JSON object
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { BlkError, ExitCode } from "../src/base/errors.js";
import { Random } from "../src/base/random.js";
import { Op, RequestTable } from "../src/base/request.js";
import { formatTable } from "../src/base/table.js";
import { createHddModel, type HddParameters } from "../src/model/hdd/index.js";
import { loadProfile } from "../src/profile/load.js";

interface Drive {
  trace: string;
  profile: string;
  /** DiskSim's own demerit, % of the mean: the RMS of valid/runvalid over the mean of the trace. */
  diskSimPercent: number;
  /** `--check` fails above these, a little over what the model reaches. */
  limitPercent: { extracted: number; fitted: number };
}

const drives: readonly Drive[] = [
  {
    trace: "atlas10k",
    profile: "quantum-atlas-10k",
    diskSimPercent: 6.9,
    limitPercent: { extracted: 3.6, fitted: 3.8 },
  },
  {
    trace: "atlas_III",
    profile: "quantum-atlas-3",
    diskSimPercent: 6.0,
    limitPercent: { extracted: 5.3, fitted: 5.1 },
  },
  {
    trace: "barracuda",
    profile: "seagate-barracuda-st32171w",
    diskSimPercent: 5.3,
    limitPercent: { extracted: 7.1, fitted: 4.5 },
  },
];

interface TracedRequest {
  op: number;
  offsetBytes: number;
  lengthBytes: number;
  serviceNs: number;
  thinkNs: number;
}

interface Result {
  drive: string;
  requests: number;
  meanMs: { measured: number; extracted: number; fitted: number };
  /** Of the whole trace; of its second half after fitting. */
  demeritPercent: { extracted: number; fitted: number };
  demeritMs: { extracted: number; fitted: number };
  diskSimPercent: number;
  limitPercent: { extracted: number; fitted: number };
  passed: boolean;
}

const sectorBytes = 512;

function main(): void {
  const { values: options } = parseArgs({
    options: {
      data: { type: "string" },
      json: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
    },
  });
  try {
    const folder = options.data ?? fileURLToPath(new URL("../../shared/data/disksim", import.meta.url));
    if (!existsSync(join(folder, `${drives[0].trace}.trace`))) {
      throw new BlkError(
        "BLK_E_FILE",
        `${folder} has no ${drives[0].trace}.trace`,
        "Name the folder with DiskSim's traces: --data DIR",
      );
    }
    const results = drives.map((drive) => validate(drive, folder));
    if (options.json) console.log(JSON.stringify({ schemaVersion: 1, results }, undefined, 2));
    else show(results);
    if (options.check && results.some(({ passed }) => !passed)) {
      console.error("validate-hdd: the model has become worse than the committed limits");
      process.exitCode = ExitCode.checkFailed;
    }
  } catch (error) {
    if (!(error instanceof BlkError)) throw error;
    console.error(`validate-hdd: ${error.toLine()}`);
    // Whatever is missing is missing around us: nothing has been measured.
    process.exitCode = ExitCode.environment;
  }
}

function validate(drive: Drive, folder: string): Result {
  const requests = readTrace(join(folder, `${drive.trace}.trace`));
  const profile = loadProfile(drive.profile);
  if (profile.model !== "hdd") throw new Error(`${drive.profile} is not a hard disk`);
  const { parameters, sizeBytes } = profile;
  const half = Math.floor(requests.length / 2);
  const measured = Float64Array.from(requests, ({ serviceNs }) => serviceNs);

  const extracted = replay(parameters, sizeBytes, requests);
  const fittedParameters = fitOverheads(parameters, sizeBytes, requests.slice(0, half));
  const fitted = replay(fittedParameters, sizeBytes, requests);

  const measuredMeanNs = mean(measured);
  const secondMeanNs = mean(measured.subarray(half));
  const extractedNs = demeritNs(measured, extracted);
  const fittedNs = demeritNs(measured.subarray(half), fitted.subarray(half));
  const demeritPercent = {
    extracted: (100 * extractedNs) / measuredMeanNs,
    fitted: (100 * fittedNs) / secondMeanNs,
  };
  return {
    drive: drive.profile,
    requests: requests.length,
    meanMs: {
      measured: measuredMeanNs / 1e6,
      extracted: mean(extracted) / 1e6,
      fitted: mean(fitted) / 1e6,
    },
    demeritPercent,
    demeritMs: { extracted: extractedNs / 1e6, fitted: fittedNs / 1e6 },
    diskSimPercent: drive.diskSimPercent,
    limitPercent: drive.limitPercent,
    passed:
      demeritPercent.extracted <= drive.limitPercent.extracted &&
      demeritPercent.fitted <= drive.limitPercent.fitted,
  };
}

/** DiskSim's `validate` format: direction, cache action, block, blocks, service time and think time in us. */
function readTrace(path: string): TracedRequest[] {
  return readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const [direction, , block, blocks, serviceUs, thinkUs] = line.trim().split(/\s+/);
      return {
        op: direction === "R" ? Op.read : Op.write,
        offsetBytes: Number(block) * sectorBytes,
        lengthBytes: Number(blocks) * sectorBytes,
        serviceNs: Number(serviceUs) * 1e3,
        thinkNs: Number(thinkUs) * 1e3,
      };
    });
}

/** Closed by think time, one request at a time: the modelled service times. */
function replay(
  parameters: HddParameters,
  sizeBytes: number,
  traced: readonly TracedRequest[],
): Float64Array {
  const requests = new RequestTable(1);
  const model = createHddModel({ parameters, sizeBytes, requests, seed: 1 });
  const serviceNs = new Float64Array(traced.length);
  let dueNs = Number.NaN;
  const done = {
    complete(_slot: number, atNs: number) {
      dueNs = atNs;
    },
  };
  const slot = requests.acquire();
  let nowNs = 0;
  traced.forEach((request, i) => {
    requests.op[slot] = request.op;
    requests.offsetBytes[slot] = request.offsetBytes;
    requests.lengthBytes[slot] = request.lengthBytes;
    model.advance(nowNs, done);
    model.arrive(slot, nowNs);
    dueNs = Number.NaN;
    while (Number.isNaN(dueNs)) model.advance(model.nextEventNs(), done);
    serviceNs[i] = dueNs - nowNs;
    nowNs = dueNs + request.thinkNs;
  });
  return serviceNs;
}

/** Factors tried at first go up to this; the steps shrink as the search goes on. */
const widestStep = 1;
const fitRounds = 300;

/**
 * Fits interface rate and overheads by a random search with shrinking steps, from a fixed seed: few parameters, a
 * rough objective, and no gradient to be had.
 */
function fitOverheads(
  parameters: HddParameters,
  sizeBytes: number,
  traced: readonly TracedRequest[],
): HddParameters {
  const measured = Float64Array.from(traced, ({ serviceNs }) => serviceNs);
  const random = new Random(1, "validate/fit");
  const score = (candidate: HddParameters) => demeritNs(measured, replay(candidate, sizeBytes, traced));
  let best = parameters;
  let bestNs = score(best);
  for (let round = 0; round < fitRounds; round++) {
    const step = widestStep * (1 - round / fitRounds) + 0.02;
    const candidate = vary(best, random, step);
    const candidateNs = score(candidate);
    if (candidateNs < bestNs) {
      best = candidate;
      bestNs = candidateNs;
    }
  }
  return best;
}

function vary(parameters: HddParameters, random: Random, step: number): HddParameters {
  const { overhead } = parameters;
  const factor = () => Math.exp(0.5 * step * random.nextNormal());
  // An overhead of zero needs something added to it to become any other.
  const shifted = (ns: number) => Math.max(0, ns + 200_000 * step * random.nextNormal());
  const pair = ({ afterRead, afterWrite }: { afterRead: number; afterWrite: number }) => ({
    afterRead: shifted(afterRead),
    afterWrite: shifted(afterWrite),
  });
  const half = () => random.next() < 0.5;
  return {
    ...parameters,
    interface: { rate: half() ? parameters.interface.rate * factor() : parameters.interface.rate },
    overhead: {
      ...overhead,
      readHit: half() ? pair(overhead.readHit) : overhead.readHit,
      readMiss: half() ? pair(overhead.readMiss) : overhead.readMiss,
      writeHit: half() ? pair(overhead.writeHit) : overhead.writeHit,
      writeMiss: half() ? pair(overhead.writeMiss) : overhead.writeMiss,
    },
  };
}

/** Points of the distribution compared: p = 0.0001, 0.0002, ... 1. */
const demeritPoints = 10_000;

/** RMS horizontal distance between two distributions, as DiskSim's rms.c computes it. */
function demeritNs(first: Float64Array, second: Float64Array): number {
  const a = first.slice().sort();
  const b = second.slice().sort();
  let sum = 0;
  for (let i = 1; i <= demeritPoints; i++) {
    const distance = quantile(a, i / demeritPoints) - quantile(b, i / demeritPoints);
    sum += distance * distance;
  }
  return Math.sqrt(sum / demeritPoints);
}

/** The value at which the distribution of sorted samples reaches `fraction`, linear between samples. */
function quantile(sorted: Float64Array, fraction: number): number {
  const place = fraction * sorted.length;
  const below = Math.floor(place);
  if (below < 1) return sorted[0];
  if (below >= sorted.length) return sorted[sorted.length - 1];
  return sorted[below - 1] + (place - below) * (sorted[below] - sorted[below - 1]);
}

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function show(results: readonly Result[]): void {
  const rows = results.map(
    ({ drive, meanMs, demeritPercent, demeritMs, diskSimPercent, limitPercent, passed }) => [
      drive,
      meanMs.measured.toFixed(3),
      meanMs.extracted.toFixed(3),
      `${demeritPercent.extracted.toFixed(2)} % (${demeritMs.extracted.toFixed(3)} ms)`,
      `${demeritPercent.fitted.toFixed(2)} % (${demeritMs.fitted.toFixed(3)} ms)`,
      `${diskSimPercent} %`,
      `${limitPercent.extracted} / ${limitPercent.fitted} %`,
      passed ? "ok" : "WORSE",
    ],
  );
  const header = [
    "drive",
    "measured ms",
    "model ms",
    "demerit extracted",
    "fitted, 2nd half",
    "DiskSim",
    "limits",
    "",
  ];
  console.log(formatTable([header, ...rows]));
}

main();
