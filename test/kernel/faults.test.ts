/** What a program sees of injected faults through the kernel's NBD client. */
import { expect, test } from "vitest";
import { inGuest } from "../support/lab.js";
import { describeWith } from "../support/requires.js";

const device = { profile: "instant", serveArguments: ["--size", "256M"] };

describeWith(["qemu-system-x86_64", "nbd-client"], "faults behind a real kernel", () => {
  test("a flush that fails makes fsync fail with EIO, and the next one passes", async () => {
    const { stdout } = await inGuest(
      `blkforge fault add error --ops flush --nth 1 status=nospc
      if dd if=/dev/zero of=$DEV bs=4k count=1 conv=fsync 2>/tmp/said; then echo first passed; else cat /tmp/said; fi
      dd if=/dev/zero of=$DEV bs=4k count=1 conv=fsync 2>/dev/null && echo second passed
      blkforge fault list --json`,
      { device, time: "virtual", cpus: 1 },
    );
    expect(stdout).toContain("Input/output error");
    expect(stdout).not.toContain("first passed");
    expect(stdout).toContain("second passed");
    expect(stdout).toMatch(/"hits": ?1/);
  });

  test("every error on the wire is EIO to programs, as the kernel's NBD client knows no other", async () => {
    // One status for each error the protocol can tell of a device: EIO, ENOSPC, EPERM, EINVAL, ENOMEM.
    const statuses = ["io", "nospc", "perm", "inval", "resource"];
    const { stdout } = await inGuest(
      `for status in ${statuses.join(" ")}; do
        blkforge fault add error --ops write --nth 1 --name $status status=$status >/dev/null
        dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>&1 | grep -o 'Input/output error' | sed "s/^/$status: /"
      done
      dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>/dev/null && echo passed
      blkforge stats --json | tr -d ' \n'`,
      { device, time: "virtual", cpus: 1 },
    );
    for (const status of statuses) expect(stdout).toContain(`${status}: Input/output error`);
    expect(stdout).toContain("passed");
  });

  test("a hang holds a read until it is released, while others pass", async () => {
    const { stdout } = await inGuest(
      `blkforge fault add hang --name stuck --ops read --range 64M+4K
      dd if=$DEV of=/dev/null bs=4k count=1 skip=16384 iflag=direct 2>/dev/null && echo released > /tmp/held &
      until blkforge stats --json | grep -qE '"held": ?1[,}]'; do usleep 100000; done
      dd if=$DEV of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null && echo other passed
      test ! -e /tmp/held && echo still held
      blkforge fault release stuck
      wait
      cat /tmp/held`,
      { device, time: "virtual", cpus: 1 },
    );
    expect(stdout).toContain("other passed");
    expect(stdout).toContain("still held");
    expect(stdout).toContain("released");
  });

  test("a delay of flushes is felt by fsync alone", async () => {
    const { stdout } = await inGuest(
      `blkforge fault add delay --ops flush delay=50ms
      fio --name=t --filename=$DEV --rw=write --bs=4k --size=1m --ioengine=psync --direct=1 --fsync=1 --number_ios=20 \\
          --output-format=json`,
      { device, time: "virtual", cpus: 1 },
    );
    const [job] = JSON.parse(stdout.slice(stdout.indexOf("{"), stdout.lastIndexOf("}") + 1)).jobs;
    expect(job.sync.lat_ns.mean).toBeGreaterThan(50e6);
    expect(job.sync.lat_ns.mean).toBeLessThan(55e6);
    expect(job.write.lat_ns.mean).toBeLessThan(5e6);
  });
});
