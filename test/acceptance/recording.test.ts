/** A live run, recorded and replayed on the virtual clock: the model decides the same, to the bit. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { blkforge, scratchDirectory } from "../support/blkforge.js";
import { describeWith } from "../support/requires.js";

describeWith(["fio"], "serve --record", () => {
  test("simulate gives every completion time of the live run again, bit for bit", async () => {
    const recording = join(scratchDirectory(), "run.rec");
    const job =
      'fio --name=t --ioengine=nbd --uri="$NBD_URI" --rw=randrw --bsrange=4k-64k --iodepth=16 --size=1g ' +
      "--number_ios=300 --fsync=20 --norandommap --minimal >/dev/null";
    const live = await blkforge([
      "run",
      "hdd-7200",
      "--size",
      "1G",
      "--record",
      recording,
      "--",
      "sh",
      "-c",
      job,
    ]);
    expect(live.status, live.stderr).toBe(0);
    const { stdout } = await blkforge(["simulate", "hdd-7200", "--trace", recording, "--json"]);
    const { replay } = JSON.parse(stdout);
    expect(replay.compared).toBeGreaterThanOrEqual(300);
    expect(replay).toMatchObject({ identical: replay.compared, largestDifferenceNs: 0 });
  });
});
