/**
 * A cloud volume behind a real kernel, in virtual time: fio's own log shows the burst, its end when the credits are used up, and
 * the base rate after it.
 */
import { expect, test } from "vitest";
import { inGuest } from "../support/lab.js";
import { describeWith } from "../support/requires.js";

/** gp2 of 100 GiB: 300 IOPS, bursts to 3000, of which 300 come back meanwhile. */
const base = 300;
const burst = 3000;
const burstSeconds = 2;
const credits = (burst - base) * burstSeconds;
const queueDepth = 32;
const runSeconds = 5;
const intervalMs = 250;

const mean = (rates: readonly number[][]) => rates.reduce((sum, [, rate]) => sum + rate, 0) / rates.length;

describeWith(["qemu-system-x86_64", "fio"], "a volume with few credits behind a real kernel", () => {
  test("bursts until they are used up, then serves its base rate, in fio's log", async () => {
    const { stdout } = await inGuest(
      `fio --name=t --filename=$DEV --ioengine=io_uring --direct=1 --rw=randread --bs=4k --iodepth=${queueDepth} --norandommap \\
          --time_based --runtime=${runSeconds} --write_iops_log=/tmp/t --log_avg_msec=${intervalMs} --per_job_logs=0 >/dev/null
       cat /tmp/t_iops.log`,
      {
        device: {
          profile: "ebs-gp2",
          serveArguments: ["--size", "100G", "--set", `limits.0.credits=${credits}`],
        },
        time: "virtual",
        cpus: 1,
      },
    );
    // "500, 3001, 0, 4096, ...": milliseconds since the start, and the rate of the interval that ends there.
    const rates = stdout
      .split("\n")
      .map((line) => line.split(",").map(Number))
      .filter(([milliseconds, rate]) => milliseconds > 0 && rate >= 0);
    console.log(rates.map(([milliseconds, rate]) => `${milliseconds} ms ${rate}`).join(", "));
    // In the first half second the guest's JavaScript is being compiled, and may be slower than the volume. What the kernel read
    // when it looked for partitions has taken some credits already, and what the guest was late has saved some.
    const during = rates.filter(([ms]) => ms > 600 && ms < (burstSeconds - 0.2) * 1000);
    const after = rates.filter(([ms]) => ms > (burstSeconds + 0.6) * 1000 && ms < runSeconds * 1000);
    expect(during.length).toBeGreaterThanOrEqual(4);
    expect(after.length).toBeGreaterThanOrEqual(8);
    // What fio was late to count in one interval it counts in the next, so the limit is held against the sum so far.
    let beganMs = 0;
    let requests = 0;
    for (const [ms, rate] of rates) {
      requests += (rate * (ms - beganMs)) / 1000;
      beganMs = ms;
      expect(requests, `until ${ms} ms`).toBeLessThan((burst * ms * 1.01) / 1000 + queueDepth);
    }
    expect(Math.abs(mean(during) / burst - 1)).toBeLessThan(0.05);
    expect(Math.abs(mean(after) / base - 1)).toBeLessThan(0.02);
    // 150 requests in two intervals: one more or less at an edge is 0.7 %.
    for (const [index, [ms, rate]] of after.slice(1).entries())
      expect(Math.abs((rate + after[index][1]) / 2 / base - 1), `until ${ms} ms`).toBeLessThan(0.05);
    // What was served in all is what the credits and the base rate give, whenever the guest was slow to ask for it.
    expect(Math.abs(requests / (credits + (base * beganMs) / 1000) - 1)).toBeLessThan(0.02);
    // The burst ends in the midst of an interval, which has a share of both rates: the last fast one, or the first slow one.
    const slow = rates.findIndex(([ms, rate]) => ms > 600 && rate < burst / 2);
    const shares = [slow - 1, slow].map((index) => (rates[index][1] - base) / (burst - base));
    const endMs = rates[slow - 1][0] + (shares[0] + shares[1] - 1) * intervalMs;
    expect(Math.abs(endMs / 1000 - burstSeconds)).toBeLessThan(0.4);
  });
});
