/**
 * A solid-state drive behind a real kernel, in virtual time. What went on inside is taken from the device's recording: the
 * model, fed with the same arrivals, decides the same again to the bit, so the timeline of the replay is the drive's own.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blkforge, scratchDirectory } from "../support/blkforge.js";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

const queues = 4;

/** A small drive in steady state without an SLC cache, slow enough for a guest whose processor is emulated. */
const drive = [
  ...["nvme", "--size", "1G", "--set", "precondition.state=random", "--set", "gc.idleAfter=1h"],
  ...["--set", "slcCache.static=0", "--set", "slcCache.dynamic=0", "--set", "flash.channels=1"],
];

/** Collection at once rather than paced, and reads kept away from the only channel meanwhile: stalls as long as it takes. */
const stalling = [
  ...["--set", "flash.diesPerChannel=2", "--set", "ftl.overProvisioning=0.28"],
  ...["--set", "gc.pacing=0", "--set", "gc.blocking=channel"],
];

/** As full as the class's drives are, and a buffer that hides nothing: 64 MB/s of flash shared by writes and copies. */
const full = [
  ...["--set", "flash.diesPerChannel=2", "--set", "flash.program=6ms", "--set", "writeBuffer.size=1M"],
];

/** What counts as a stall: far beyond what a read waits for flash when nothing is collected. */
const stallMs = 20;

interface Span {
  startMs: number;
  endMs: number;
}

interface Command extends Span {
  operation: string;
  offsetBytes: number;
  queue: number;
}

/** What the device did, from its recording: its collections and its commands, in milliseconds since its power-on. */
async function replayed(recording: Uint8Array): Promise<{ collections: Span[]; commands: Command[] }> {
  const folder = scratchDirectory();
  const path = (name: string) => join(folder, name);
  writeFileSync(path("recording"), recording);
  const { status, stdout, stderr } = await blkforge([
    ...["simulate", "nvme", "--trace", path("recording"), "--json"],
    ...["--timeline", path("timeline"), "--log", path("log")],
  ]);
  expect(status, stderr).toBe(0);
  const { replay } = JSON.parse(stdout);
  expect(replay.identical).toBe(replay.compared);
  expect(replay.compared).toBeGreaterThan(0);

  const events = JSON.parse(readFileSync(path("timeline"), "utf8")) as {
    ph: string;
    pid: number;
    name: string;
    ts: number;
    dur: number;
    args?: { name: string };
  }[];
  const collector = events.find(
    ({ ph, name, args }) => ph === "M" && name === "process_name" && args?.name === "gc",
  );
  const collections = events
    .filter(({ ph, pid }) => ph === "X" && pid === collector?.pid)
    .map(({ ts, dur }) => ({ startMs: ts / 1e3, endMs: (ts + dur) / 1e3 }));
  const commands = readFileSync(path("log"), "utf8")
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => {
      const [operation, ...numbers] = line.split(",");
      const [offsetBytes, , queue, , arrivalNs, completionNs] = numbers.map(Number);
      return { operation, offsetBytes, queue, startMs: arrivalNs / 1e6, endMs: completionNs / 1e6 };
    });
  return { collections, commands };
}

/** The reads of all jobs' latency logs: "2071, 68243, 0, 4096, 1826816, 0", milliseconds since fio began, nanoseconds. */
function parseLatencyLog(text: string): (Span & { offsetBytes: number })[] {
  return text
    .split("\n")
    .map((line) => line.split(",").map(Number))
    .filter(([, , direction]) => direction === 0)
    .map(([endMs, latencyNs, , , offsetBytes]) => ({
      startMs: endMs - latencyNs / 1e6,
      endMs,
      offsetBytes,
    }))
    .sort((a, b) => a.endMs - b.endMs);
}

/** Reads that the log and the recording both have, told by where they read: whatever was read once. */
function matched(reads: readonly (Span & { offsetBytes: number })[], commands: readonly Command[]) {
  const seen = new Map<number, Command[]>();
  for (const command of commands) {
    if (command.operation !== "read") continue;
    seen.set(command.offsetBytes, [...(seen.get(command.offsetBytes) ?? []), command]);
  }
  return reads.flatMap((fio) => {
    const found = seen.get(fio.offsetBytes) ?? [];
    return found.length === 1 ? [{ fio, device: found[0] }] : [];
  });
}

const overlaps = (a: Span, b: Span): boolean => a.startMs < b.endMs && a.endMs > b.startMs;

describeWith(["qemu-system-x86_64", "fio"], "a solid-state drive behind a real kernel", () => {
  test("stalls when its own log says it collects, sees every hardware queue, and is fast again after fstrim", async () => {
    const { stdout } = await ublkGuest(
      `start /tmp/a ${[...drive, ...stalling].join(" ")} --queues ${queues} --record /tmp/a.rec
      fio --filename=$DEV --ioengine=libaio --direct=1 --bs=4k --norandommap --time_based --ramp_time=2 --runtime=5 --output=/dev/null \\
          --write_lat_log=/tmp/a --log_offset=1 --per_job_logs=0 \\
          --name=w --rw=randwrite --iodepth=8 --rate_iops=1000 \\
          --name=r --rw=randread --iodepth=16 --rate_iops=50 --numjobs=${queues} \\
          --cpus_allowed=0-${queues - 1} --cpus_allowed_policy=split
      stop
      echo "@@recording"; base64 /tmp/a.rec
      echo "@@latencies"; cat /tmp/a_lat.log

      start /tmp/b ${[...drive, ...full].join(" ")}
      mkfs.ext4 -q -F -E nodiscard $DEV && mount $DEV /mnt
      fallocate -l 128m /mnt/t
      rate() {
        fio --name=t --filename=/mnt/t --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --norandommap --iodepth=16 \\
            --number_ios=2500 --output-format=terse --terse-version=3 | cut -d';' -f49
      }
      # The first run also converts the file's unwritten extents.
      rate >/dev/null
      echo "@@before"; rate; rate
      fstrim -v /mnt >&2
      echo "@@trimmed"; rate; rate
      echo "@@end"
      umount /mnt
      stop`,
      { time: "virtual", cpus: queues, tools: ["fstrim"] },
    );
    const part = (name: string): string =>
      stdout
        .split("@@")
        .find((text) => text.startsWith(`${name}\n`))
        ?.slice(name.length + 1) ?? "";

    const rates = (name: string) => part(name).trim().split("\n").map(Number);
    const [before, beforeAgain] = rates("before");
    const [, trimmed] = rates("trimmed");
    console.log(
      `random writes: ${before} and ${beforeAgain} IOPS on the full drive, ${rates("trimmed").join(" and ")} after fstrim`,
    );

    const { collections, commands } = await replayed(Buffer.from(part("recording"), "base64"));
    expect([...new Set(commands.map(({ queue }) => queue))].sort()).toEqual([0, 1, 2, 3]);

    const log = parseLatencyLog(part("latencies"));
    const reads = matched(log, commands);
    expect(reads.length).toBeGreaterThan(log.length / 2);
    const longMs = ({ startMs, endMs }: Span) => endMs - startMs;
    // A guest whose processor is emulated has stalls of its own; those of the drive are in its own log.
    const stalls = reads.filter(({ device }) => longMs(device) >= stallMs);
    const first = Math.min(...reads.map(({ device }) => device.startMs));
    const last = Math.max(...reads.map(({ device }) => device.endMs));
    const during = collections.filter(({ startMs, endMs }) => startMs > first && endMs < last);
    console.log(
      `${reads.length} reads, ${stalls.length} of them held ${stallMs} ms or longer, ` +
        `the longest ${Math.max(...stalls.map(({ device }) => longMs(device))).toFixed(1)} ms; ` +
        `${during.length} collections of ${Math.min(...during.map(longMs)).toFixed(1)} to ${Math.max(...during.map(longMs)).toFixed(1)} ms`,
    );
    expect(during.length).toBeGreaterThanOrEqual(4);
    for (const { fio, device } of stalls) {
      expect(
        collections.some((collection) => overlaps(device, collection)),
        `a stall at ${device.startMs} ms`,
      ).toBe(true);
      // fio counts whole milliseconds when it says when, and nanoseconds when it says how long.
      expect(longMs(fio)).toBeGreaterThanOrEqual(longMs(device));
    }
    // The fio of a guest whose processor is emulated may itself stand still for tens of milliseconds, and send no read meanwhile.
    const met = during
      .map((collection) => ({
        collection,
        arrivals: reads
          .map(({ device }) => device)
          .filter(({ startMs }) => startMs > collection.startMs && startMs < collection.endMs - stallMs),
      }))
      .filter(({ arrivals }) => arrivals.length > 0);
    expect(met.length).toBeGreaterThanOrEqual(4);
    for (const { collection } of met) expect(longMs(collection)).toBeGreaterThan(1.5 * stallMs);
    // Reads of what is still in the write buffer do not wait, and a collection may have met one of those alone.
    const arrivals = met.flatMap((one) => one.arrivals);
    const held = arrivals.filter((arrival) => longMs(arrival) >= stallMs);
    expect(held.length / arrivals.length, `of ${arrivals.length} reads`).toBeGreaterThan(0.6);

    expect(trimmed).toBeGreaterThan(2 * Math.max(before, beforeAgain));
  });
});
