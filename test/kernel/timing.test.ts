/**
 * In virtual time the latency a real kernel sees is the model's own, and the same in every run.
 */
import { expect, test } from "vitest";
import { parseFio } from "../../scripts/support/fio.js";
import { Random } from "../../src/base/random.js";
import { RequestTable } from "../../src/base/request.js";
import { createModel } from "../../src/model/create.js";
import { loadProfile } from "../../src/profile/load.js";
import { inGuest } from "../support/lab.js";
import { describeWith } from "../support/requires.js";

const size = "100G";
const ios = 6000;

/** Mean of random 4 KiB reads, one after the other, from the model alone on its own virtual clock. */
function modelMeanNs(): number {
  const profile = loadProfile("hdd-7200", { size });
  const requests = new RequestTable(1);
  const model = createModel({ profile, requests, seed: 1, sizeBytes: profile.sizeBytes });
  const random = new Random(1, "test");
  let nowNs = 0;
  const done = {
    complete: (_slot: number, dueNs: number) => {
      nowNs = dueNs;
    },
  };
  for (let i = 0; i < ios; i++) {
    requests.op[0] = 0;
    requests.offsetBytes[0] = random.nextInteger(profile.sizeBytes / 4096) * 4096;
    requests.lengthBytes[0] = 4096;
    const arrivedNs = nowNs;
    requests.arrivalNs[0] = arrivedNs;
    model.advance(arrivedNs, done);
    model.arrive(0, arrivedNs);
    while (nowNs === arrivedNs) model.advance(model.nextEventNs(), done);
  }
  return nowNs / ios;
}

async function fioInGuest() {
  const { stdout } = await inGuest(
    `fio --name=t --filename=$DEV --rw=randread --bs=4k --iodepth=1 --ioengine=psync --direct=1 --norandommap \\
        --number_ios=${ios} --output-format=json+ --lat_percentiles=1`,
    { device: { profile: "hdd-7200", serveArguments: ["--size", size] }, time: "virtual", cpus: 1 },
  );
  return parseFio(stdout);
}

describeWith(["qemu-system-x86_64", "fio"], "virtual time", () => {
  test("random reads of a 7200 rpm disk take the model's time, and a second run agrees", async () => {
    const first = await fioInGuest();
    const second = await fioInGuest();
    const modelNs = modelMeanNs();
    console.log(
      `model ${(modelNs / 1e6).toFixed(3)} ms; fio mean ${(first.meanNs / 1e6).toFixed(3)} and ${(second.meanNs / 1e6).toFixed(3)} ms, ` +
        `p99 ${(first.p99Ns / 1e6).toFixed(3)} and ${(second.p99Ns / 1e6).toFixed(3)} ms`,
    );
    // The offsets are the same in both runs, the instants of arrival are not to the last nanosecond, and with them the rotational
    // delays: of 0 to 8.3 ms each, so the means of 6000 differ by 0.36 % (one standard deviation), the 99th percentiles, beyond which
    // 60 reads lie, by about 0.8 %; fio counts these in bins of up to 1.6 %. Five standard deviations, and two bins.
    expect(Math.abs(first.meanNs / modelNs - 1)).toBeLessThan(0.1);
    expect(Math.abs(second.meanNs / first.meanNs - 1)).toBeLessThan(0.02);
    expect(Math.abs(second.p99Ns / first.p99Ns - 1)).toBeLessThan(0.07);
  });
});
