/**
 * `npm run demo`: the main job in one command. Boots a Linux kernel in a VM, attaches an emulated 7200 rpm disk to it over
 * NBD, runs one fio job on it, and shows its latency beside what an instant device gives on the same path.
 *
 * The VM runs in virtual time, so how fast or busy the machine is does not show in the figures. Where no VM can be had
 * the same comparison runs over NBD in user space, in real time, and says so. Sets up what it needs: as root it installs
 * Debian packages that are missing. `--user-space` goes without the VM.
 */
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { BlkError } from "../src/base/errors.js";
import { formatTable } from "../src/base/table.js";
import { renderHistograms } from "../src/base/text-histogram.js";
import { formatDuration } from "../src/base/units.js";
import { labExec } from "../src/lab/exec.js";
import { ensurePackages } from "../src/lab/packages.js";
import { type FioResult, fioOutput, parseFio, runFioArguments } from "./support/fio.js";
import { Progress } from "./support/progress.js";
import { blkforge, withServer } from "./support/servers.js";

const profiles = ["hdd-7200", "instant"] as const;
type ProfileName = (typeof profiles)[number];

/** Random reads of 4 KiB one after the other, `count` of them. */
const job = (count: number) => [
  ...["--name=demo", "--rw=randread", "--bs=4k", "--iodepth=1", "--norandommap"],
  `--number_ios=${count}`,
];
/** In virtual time waiting costs nothing; in user space the disk's time is ours. */
const virtualReads = 6000;
const realReads = 400;

const { values: options } = parseArgs({
  options: { "user-space": { type: "boolean", default: false } },
});
const progress = new Progress();
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.once("SIGTERM", () => stop.abort());

try {
  const { results, place } = options["user-space"] ? await inUserSpace() : await inVirtualMachine();
  progress.end();
  show(results, place);
} catch (error) {
  progress.end();
  if (!(error instanceof BlkError)) throw error;
  console.error(`demo: ${error.toLine()}`);
  process.exitCode = error.exitCode;
}

type Results = Record<ProfileName, FioResult>;

async function inVirtualMachine(): Promise<{ results: Results; place: string }> {
  try {
    let kernel = "";
    const results = await forEachProfile(async (profile) => {
      const stdout = new PassThrough();
      const output = text(stdout);
      const { status, kernelRelease } = await labExec({
        device: { profile, serveArguments: ["--size", "100G"] },
        time: "virtual",
        cpus: 1,
        yes: true,
        command: [
          "fio",
          ...job(virtualReads),
          "--ioengine=psync",
          "--direct=1",
          "--filename=/dev/nbd0",
          ...fioOutput,
        ],
        stdout: stdout,
        stderr: process.stderr,
        signal: stop.signal,
        onProgress: ({ text: stage }) => progress.show(`${profile}: ${stage}`),
      });
      stdout.end();
      if (status !== 0) throw new BlkError("BLK_E_COMMAND", `fio exited ${status} in the guest`);
      kernel = kernelRelease;
      return parseFio(await output);
    });
    return {
      results,
      place: `Linux ${kernel} in a VM, in virtual time: how busy this machine is does not matter`,
    };
  } catch (error) {
    // Without its programs, a kernel or a working VM there is still a device to show. Anything else is a failure.
    const isNoMachine =
      error instanceof BlkError &&
      ["BLK_E_PACKAGES", "BLK_E_KERNEL", "BLK_E_VM", "BLK_E_VM_DEADLINE"].includes(error.code);
    if (!isNoMachine || stop.signal.aborted) throw error;
    progress.end();
    console.error(`No VM here: ${error.toLine()}\nShowing the same over NBD in user space instead.\n`);
    return inUserSpace();
  }
}

async function inUserSpace(): Promise<{ results: Results; place: string }> {
  await ensurePackages(["clients"], { yes: true, onProgress: (what) => progress.show(what) });
  const results = await forEachProfile((profile) => {
    progress.show(`${profile}: ${realReads} random reads over NBD`);
    return withServer(blkforge(profile, "--size", "100G"), (uri) => runFioArguments(uri, job(realReads)));
  });
  return { results, place: "NBD in user space, without a kernel, in this machine's own time" };
}

async function forEachProfile(measure: (profile: ProfileName) => Promise<FioResult>): Promise<Results> {
  const results = {} as Results;
  for (const profile of profiles) results[profile] = await measure(profile);
  return results;
}

function show(results: Results, place: string): void {
  const rows = profiles.map((profile) => {
    const { iops, meanNs, p50Ns, p99Ns } = results[profile];
    return [profile, iops.toFixed(0), formatDuration(meanNs), formatDuration(p50Ns), formatDuration(p99Ns)];
  });
  const columns = profiles.map((title) => ({ title, histogram: results[title].histogram }));
  console.log(`\nfio, random reads of 4 KiB, queue depth 1, on ${place}\n`);
  console.log(formatTable([["device", "IOPS", "mean", "p50", "p99"], ...rows]));
  console.log(`\n${renderHistograms(columns, { maximumRows: 12 }).join("\n")}\n`);
}
