/**
 * One model, two transports: in virtual time a program sees the same device over ublk and over NBD, but for what each transport
 * takes by itself, and nothing of that is left when the measured floor is taken off.
 */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

const helpers = `
attach() {
  rm -f /tmp/a
  blkforge attach "$@" --timing sleep >/tmp/a 2>/tmp/a.err & server=$!
  until grep -qs ready /tmp/a; do
    kill -0 $server 2>/dev/null || { cat /tmp/a.err >&2; return 1; }
    usleep 20000
  done
  DEV=$(grep -oE '/dev/(nbd|ublkb)[0-9]+' /tmp/a)
}
reads() {
  fio --name=m --filename=$DEV --rw=randread --bs=4k --number_ios=$1 --norandommap --randseed=$2 --direct=1 --ioengine=psync \\
      --output-format=json
}
mean() {
  # V8 compiles what runs often, and takes a millisecond now and then for it.
  reads 12000 2 > /dev/null
  reads $1 1 | node -e '
    const text = require("fs").readFileSync(0, "utf8");
    const { clat_ns, lat_ns } = JSON.parse(text.slice(text.indexOf("{"))).jobs[0].read;
    console.log(process.argv[1], lat_ns.mean, clat_ns.percentile["50.000000"]);' "$2"
}
`;

describeWith(["qemu-system-x86_64", "fio"], "the same model over two transports", () => {
  test("has the same mean over ublk and NBD within their floors, which can be taken off", async () => {
    const { stdout } = await ublkGuest(
      `${helpers}
      modprobe nbd; modprobe ublk_drv
      blkforge calibrate-floor --requests 500 --timing sleep > /tmp/floor.json
      echo floor $(cat /tmp/floor.json)
      for transport in nbd ublk; do
        how=; if [ $transport = ublk ]; then how=--ublk; fi
        attach fixed --set latency=500us --size 256M $how
        mean 2000 $transport-fixed
        stop
        attach fixed --set latency=500us --size 256M $how --subtract-floor /tmp/floor.json
        mean 2000 $transport-floored
        stop
        attach hdd-7200 --size 64G $how --subtract-floor /tmp/floor.json
        mean 1000 $transport-hdd
        stop
      done`,
      { cpus: 2, time: "virtual" },
    );
    console.log(stdout);
    const latency = (name: string) => {
      const [, mean, median] = new RegExp(`^${name} (\\S+) (\\S+)$`, "m").exec(stdout) ?? [];
      return { meanNs: Number(mean), medianNs: Number(median) };
    };
    const { floorsNs } = JSON.parse(/^floor (.*)$/m.exec(stdout)![1]) as {
      floorsNs: Record<string, { read: number }>;
    };
    const floors = { nbd: floorsNs["nbd-kernel"].read, ublk: floorsNs.ublk.read };
    const modelNs = 500_000;
    // fio counts latencies of half a millisecond in steps of 8 us, and both sides are measured.
    const toleranceNs = 20_000;
    for (const transport of ["nbd", "ublk"] as const) {
      const fixed = latency(`${transport}-fixed`);
      const floored = latency(`${transport}-floored`);
      expect(fixed.medianNs).toBeGreaterThanOrEqual(modelNs);
      expect(fixed.medianNs).toBeLessThan(modelNs + floors[transport] + toleranceNs);
      expect(Math.abs(floored.medianNs - modelNs)).toBeLessThan(toleranceNs);
      // The mean holds what the median does not: the milliseconds in which V8 or the kernel has something else to do.
      expect(Math.abs(floored.meanNs - modelNs)).toBeLessThan(floors.nbd);
    }
    // Over NBD the device without a floor is answered natively, sooner than what the floor holds for.
    expect(latency("ublk-fixed").medianNs).toBeGreaterThan(modelNs + floors.ublk - toleranceNs);
    expect(Math.abs(latency("nbd-fixed").meanNs - latency("ublk-fixed").meanNs)).toBeLessThan(
      floors.nbd + floors.ublk,
    );
    // 1000 reads of 12 ms with a standard deviation of 4 ms at the same offsets: where the platter is at each differs.
    expect(Math.abs(latency("ublk-hdd").meanNs / latency("nbd-hdd").meanNs - 1)).toBeLessThan(0.05);
  });
});
