/**
 * What ublk drivers have learnt since Linux 6.12: refused by name before anything changes where the kernel lacks it, and working
 * where it has it. The lab's own kernel shows the first, BLKFORGE_KERNEL=7 the second.
 */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

describeWith(["qemu-system-x86_64"], "what newer ublk drivers have", () => {
  test("is refused by name, or does what it says", async () => {
    const { stdout, kernelRelease } = await ublkGuest(
      `read_block() { dd if=$DEV of=/dev/null bs=4k count=1 iflag=direct 2>/tmp/dd.err; }
      # has NAME COMMAND...: runs a command that a driver may refuse.
      has() { name=$1; shift; if "$@" >/tmp/out 2>/tmp/said; then echo has $name; else cat /tmp/said; return 1; fi; }

      start /tmp/r fixed --size 64M --recovery reissue --api $BLKFORGE_API
      if has resize blkforge resize 128M; then echo sectors $(cat /sys/block/ublkb0/size); fi
      # A device that had grown all the same would call this shrinking.
      blkforge resize 96M 2>&1 || true

      # A server that lives is replaced under a mounted file system and load.
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      fio --name=v --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=16 --direct=1 --loops=100000 \
          --output=/tmp/load.out & load=$!
      fails blkforge recover $DEV
      fails blkforge recover --replace
      for round in 1 2 3; do
        enough=$(($(writes) + 200))
        until [ $(writes) -gt $enough ]; do kill -0 $load; usleep 10000; done
        old=$server
        recover /tmp/replaced $DEV --replace
        wait $old || echo replaced $?
      done
      kill -INT $load; wait $load || true
      grep -o 'err= 0' /tmp/load.out
      umount /mnt && e2fsck -fn $DEV >/dev/null 2>&1 && echo file system is clean

      stop; echo status $?
      test -z "$(ls /dev/shm)" && echo no image left

      # One partition, in the table of a PC: type 83, from sector 2048 on.
      truncate -s 16M /tmp/p.img
      printf '\\000\\000\\000\\000\\203\\000\\000\\000\\000\\010\\000\\000\\000\\020\\000\\000' | dd of=/tmp/p.img bs=1 seek=446 conv=notrunc 2>/dev/null
      printf '\\125\\252' | dd of=/tmp/p.img bs=1 seek=510 conv=notrunc 2>/dev/null
      start /tmp/p instant --file /tmp/p.img
      until test -e /sys/block/ublkb0/ublkb0p1; do usleep 20000; done; echo a partition
      stop
      if start /tmp/q instant --file /tmp/p.img --no-partition-scan 2>/tmp/said; then
        test -e /sys/block/ublkb0/ublkb0p1 || echo has no scan
        stop
      else
        cat /tmp/said
      fi

      if start /tmp/f instant --size 64M --recovery fail-io 2>/tmp/said; then
        kill -KILL $server; wait $server || true
        # What the server had in hand ends in EIO, what comes later in EREMOTEIO: which a read is depends on who is faster.
        until grep -qE '(Input/output|Remote I/O) error' /tmp/dd.err 2>/dev/null; do read_block || true; done
        recover /tmp/g
        read_block && echo has fail-io
        stop
      else
        cat /tmp/said
      fi
      no_process_is_stuck && echo nothing stuck
      test -z "$(ls /sys/class/ublk-char)" && echo nothing left`,
      { cpus: 2 },
    );
    const [major, minor] = kernelRelease.split(".").map(Number);
    const isFrom = (wantedMajor: number, wantedMinor: number) =>
      major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
    const lines = stdout.split("\n");
    for (const line of [
      "err= 0",
      "file system is clean",
      "status 0",
      "no image left",
      "a partition",
      "nothing stuck",
      "nothing left",
    ]) {
      expect(lines, stdout).toContain(line);
    }
    // SIGKILL, as the shell has it.
    expect(lines.filter((line) => line === "replaced 137")).toHaveLength(3);
    expect(stdout).toMatch(/\/dev\/ublkb0 is served by process \d+/);
    expect(stdout).toContain("it takes a name to replace a server that lives");
    if (isFrom(6, 16)) {
      expect(lines, stdout).toContain("sectors 262144");
      expect(stdout).toContain("a device in use only grows");
    } else {
      expect(stdout.match(/BLK_E_UBLK_FEATURE .*a change of size \(6\.16\)/g), stdout).toHaveLength(2);
    }
    if (isFrom(7, 0)) expect(lines, stdout).toContain("has no scan");
    else expect(stdout).toMatch(/BLK_E_UBLK_FEATURE .*partition scan \(7\.0\)/);
    if (isFrom(6, 13)) expect(lines, stdout).toContain("has fail-io");
    else expect(stdout).toMatch(/BLK_E_UBLK_FEATURE .*I\/O errors meanwhile \(6\.13\)/);
  });
});
