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

  test("commands about many requests carry what commands per request carry, or are refused by name", async () => {
    const { stdout, kernelRelease } = await ublkGuest(
      `if ! start /tmp/q instant --size 64M --queues 2 --depth 32 --api $BLKFORGE_API --batch on 2>/tmp/said; then
        cat /tmp/said
        start /tmp/q instant --size 64M --batch auto
        verify auto io_uring
        stop; exit
      fi
      # What the kernel says of the device.
      node --input-type=module -e '
        const { UblkControl } = await import("/app/dist/ublk/control.js");
        const { Feature } = await import("/app/dist/ublk/abi.js");
        const control = await UblkControl.open();
        if (((await control.deviceInfo(0)).flags & Feature.batchIo) !== 0) console.log("batched");
        control.close();'
      fio --name=r --filename=$DEV --rw=randread --bs=4k --number_ios=64 --numjobs=2 --cpus_allowed=0-1 \\
          --cpus_allowed_policy=split --direct=1 --ioengine=psync --output=/dev/null
      echo queues $(blkforge stats --json | tr -d ' \\n' | grep -oE '"queues":.*' | grep -oE '"read":\\{"count":[0-9]+' |
        sed 's/.*:0$/idle/; s/.*:[0-9]*$/used/')
      verify io_uring io_uring
      verify deep io_uring --iodepth=256 --size=16m
      verify large libaio --bs=256k --size=8m --iodepth=4
      verify four io_uring --numjobs=4 --size=4m --offset_increment=4m
      blkdiscard -o 0 -l 1048576 $DEV
      cmp -n 1048576 $DEV /dev/zero && echo discarded and zero
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      fio --name=f --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=io_uring --iodepth=16 --fsync=16 \\
          --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/dev/null && echo file system verified
      umount /mnt && e2fsck -fn $DEV >/dev/null 2>&1 && echo file system is clean
      # Requests the driver has too many of for one buffer, from JavaScript, and with errors among them.
      blkforge fault add error --ops read --probability 0.2 --name e >/dev/null
      fio --name=e --filename=$DEV --rw=randread --bs=4k --iodepth=128 --number_ios=4000 --ioengine=io_uring --direct=1 \\
          --continue_on_error=io --output=/dev/null 2>/dev/null || true
      blkforge stats --json | node -e '
        const { read } = JSON.parse(require("fs").readFileSync(0)).operations;
        console.log(read.errors > 500 ? "errors among them" : JSON.stringify(read));'
      blkforge fault reset >/dev/null

      blkforge fault add hang --name stuck --ops write --nth 1 >/dev/null
      dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>/dev/null && echo write passed & writer=$!
      until blkforge fault list --json | tr -d ' \\n' | grep -q '"held":1'; do usleep 50000; done
      fio --name=r --filename=$DEV --rw=randread --bs=4k --number_ios=64 --numjobs=2 --cpus_allowed=0-1 \\
          --cpus_allowed_policy=split --direct=1 --ioengine=psync --output=/dev/null && echo others pass
      kill -0 $writer && echo still held
      blkforge fault release stuck >/dev/null
      wait $writer
      blkforge fault add hang --name again --ops write >/dev/null
      dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>/dev/null & writer=$!
      until blkforge fault list --json | tr -d ' \\n' | grep -q '"held":1'; do usleep 50000; done
      blkforge detach $DEV --force; wait $server; echo stopped $?
      wait $writer || true

      for depth in 2 500; do
        start /tmp/d instant --size 64M --queues 2 --depth $depth --batch on
        verify depth$depth io_uring --iodepth=400
        stop
      done
      start /tmp/k instant --size 64M --copy kernel --batch on
      verify kernel libaio
      stop
      start /tmp/f instant --size 32M --file /tmp/disk.img --batch on
      verify file libaio --fsync=8
      stop

      start /tmp/t fixed --set latency=500us --size 64M --queues 2 --batch on
      for round in 1 2; do
        fio --name=l --filename=$DEV --rw=randwrite --bs=4k --iodepth=32 --numjobs=2 --ioengine=io_uring --direct=1 --time_based \\
            --runtime=1000 --output=/dev/null 2>/dev/null & load=$!
        until [ $(writes) -gt 300 ]; do kill -0 $load; usleep 10000; done
        blkforge detach $DEV --force; wait $server; echo detached under load $?
        wait $load || true
        if [ $round != 2 ]; then start /tmp/t fixed --set latency=500us --size 64M --queues 2 --batch on; fi
      done

      start /tmp/r fixed --set latency=500us --size 64M --queues 2 --recovery reissue --batch on
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      fio --name=v --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=32 --direct=1 --loops=100000 \\
          --output=/tmp/load.out & load=$!
      for round in 1 2 3; do
        enough=$(($(writes) + 300))
        until [ $(writes) -gt $enough ]; do kill -0 $load; usleep 10000; done
        old=$server
        if [ $round -lt 3 ]; then
          kill -KILL $server; wait $server || true
          recover /tmp/r$round
        else
          recover /tmp/r$round $DEV --replace
          wait $old || true
        fi
      done
      kill -INT $load; wait $load || true
      grep -o 'err= 0' /tmp/load.out
      umount /mnt && e2fsck -fn $DEV >/dev/null 2>&1 && echo recovered and clean
      verify recovered io_uring
      stop; echo status $?
      no_process_is_stuck && echo nothing stuck
      test -z "$(ls /sys/class/ublk-char)" && echo nothing left`,
      { cpus: 2 },
    );
    const lines = stdout.split("\n");
    if (Number(kernelRelease.split(".")[0]) < 7) {
      expect(stdout).toMatch(/BLK_E_UBLK_FEATURE .*batched commands \(7\.0\)/);
      expect(lines, stdout).toContain("verified auto");
      return;
    }
    for (const line of [
      "batched",
      "queues used used",
      "discarded and zero",
      "file system verified",
      "file system is clean",
      "errors among them",
      "others pass",
      "still held",
      "write passed",
      "stopped 0",
      "err= 0",
      "recovered and clean",
      "status 0",
      "nothing stuck",
      "nothing left",
    ]) {
      expect(lines, stdout).toContain(line);
    }
    for (const way of [
      "io_uring",
      "deep",
      "large",
      "four",
      "depth2",
      "depth500",
      "kernel",
      "file",
      "recovered",
    ]) {
      expect(lines, stdout).toContain(`verified ${way}`);
    }
    expect(lines.filter((line) => line === "detached under load 0")).toHaveLength(2);
  });
});
