/**
 * `blkforge attach` in front of a real kernel: netlink instead of nbd-client, and what becomes of the device and its
 * users when things end well and when they do not.
 *
 * The guest serves nothing by itself; each test attaches in its script. One boot carries several checks, since a boot
 * costs more than all of them.
 */
import { expect, test } from "vitest";
import { inGuest } from "../support/lab.js";
import { describeWith } from "../support/requires.js";

/** Shell functions for the guest's scripts. Deadlines are the host's: see guest-init.ts. */
const helpers = `
export BLKFORGE_API=unix:/run/api.sock
# start LOG ARGUMENT...: attaches in the background and waits for "ready"; its pid is in $server, the device in $DEV.
start() {
  log=$1; shift
  blkforge attach "$@" >$log 2>$log.err & server=$!
  until grep -q ready $log; do
    kill -0 $server 2>/dev/null || { cat $log.err >&2; return 1; }
    usleep 50000
  done
  DEV=$(grep -oE '/dev/nbd[0-9]+' $log)
}
# stop: Ctrl-C, and the exit status.
stop() { kill -INT $server; wait $server; }
until_line() { until grep -q "$1" "$2"; do usleep 50000; done; }
no_process_is_stuck() { ! grep -l "^State:.*D (disk" /proc/[0-9]*/status 2>/dev/null; }
`;

function guest(script: string, { cpus = 2 } = {}) {
  return inGuest(`${helpers}\n${script}`, {
    withBlkforge: true,
    time: "virtual",
    cpus,
  });
}

describeWith(["qemu-system-x86_64"], "blkforge attach", () => {
  test("a device is attached, used, resized and detached, and refuses to go while it is held", async () => {
    const { stdout } = await guest(
      `blkforge doctor --for attach --json > /tmp/doctor || { cat /tmp/doctor; exit 1; }
      start /tmp/a instant --size 256M --connections 2 --scheduler mq-deadline --read-ahead 64K --api $BLKFORGE_API
      queue=/sys/block/\${DEV#/dev/}/queue
      echo path $DEV
      echo size $(blockdev --getsize64 $DEV)
      echo queues $(ls /sys/block/\${DEV#/dev/}/mq | wc -l)
      echo scheduler $(cat $queue/scheduler)
      echo ahead $(cat $queue/read_ahead_kb)
      echo cache $(cat $queue/write_cache)
      echo fua $(cat $queue/fua)
      echo blocks $(cat $queue/logical_block_size)
      test $(cat /sys/block/\${DEV#/dev/}/pid) = $server && echo pid is the server
      fio --name=v --filename=$DEV --rw=randwrite --bs=4k --size=8m --ioengine=libaio --iodepth=32 --direct=1 \\
          --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/dev/null && echo verified

      mkfs.ext4 -q -F $DEV
      mount $DEV /mnt
      echo kept > /mnt/file
      blkforge resize 512M
      echo grown $(blockdev --getsize64 $DEV)
      dd if=/dev/zero of=$DEV bs=4k count=1 seek=131071 oflag=direct 2>/dev/null && echo end is writable
      blkforge resize 128M 2>&1 || echo shrinking refused
      fails() { if "$@" 2>/tmp/said; then echo passed; else cat /tmp/said; fi; }
      fails blkforge detach $DEV
      kill -INT $server
      until_line "stays attached" /tmp/a.err
      cat /mnt/file
      umount /mnt
      exec 9<$DEV
      fails blkforge detach $DEV
      exec 9<&-
      stop; echo status $?
      echo gone $(cat /sys/block/\${DEV#/dev/}/size)
      test ! -e /sys/block/\${DEV#/dev/}/pid && echo free

      start /tmp/b hdd-7200 --size 1G --nbd /dev/nbd5
      echo second $DEV rotational $(cat /sys/block/nbd5/queue/rotational)
      fails blkforge attach instant --size 1M --nbd /dev/nbd5
      mkfs.ext4 -q -F $DEV
      mount $DEV /mnt
      kill -INT $server
      until_line "stays attached" /tmp/b.err
      stop; echo forced $?
      dd if=$DEV of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || echo cable is pulled
      umount -l /mnt

      fails blkforge attach instant --size 1M --nbd /dev/nbd6 --scheduler elevator
      test ! -e /sys/block/nbd6/pid && echo half a start is undone

      start /tmp/c instant --size 64M --nbd /dev/nbd6 --json
      blkforge detach $DEV
      wait $server; echo detached by another $?`,
      { cpus: 2 },
    );
    const lines = stdout.split("\n");
    expect(lines).toContain("path /dev/nbd0");
    expect(lines).toContain(`size ${2 ** 28}`);
    expect(lines).toContain("queues 2");
    expect(stdout).toMatch(/^scheduler .*\[mq-deadline\]/m);
    expect(lines).toContain("ahead 64");
    expect(lines).toContain("cache write back");
    expect(lines).toContain("fua 1");
    expect(lines).toContain("blocks 512");
    expect(lines).toContain("pid is the server");
    expect(lines).toContain("verified");
    expect(lines).toContain(`grown ${2 ** 29}`);
    expect(lines).toContain("end is writable");
    expect(stdout).toContain("a device in use only grows");
    expect(stdout).toMatch(/BLK_E_DEVICE_BUSY {2}\/dev\/nbd0 is still mounted on \/mnt/);
    expect(lines).toContain("kept");
    expect(stdout).toMatch(/\/dev\/nbd0 is still open in .*\(pid \d+\)/);
    expect(lines).toContain("status 0");
    expect(lines).toContain("gone 0");
    expect(lines).toContain("free");
    expect(lines).toContain("second /dev/nbd5 rotational 1");
    expect(stdout).toMatch(/BLK_E_DEVICE_BUSY {2}\/dev\/nbd5 is in use already/);
    expect(lines).toContain("forced 0");
    expect(lines).toContain("cable is pulled");
    expect(stdout).toContain('this kernel has no I/O scheduler "elevator" for /dev/nbd6');
    expect(lines).toContain("half a start is undone");
    expect(lines).toContain("detached by another 0");
  });

  test("a request that hangs beyond the timeout is sent again, on a new connection", async () => {
    const { stdout, kernelLog } = await guest(
      `write_once() { dd if=/dev/urandom of=$DEV bs=4k count=1 seek=$1 oflag=direct 2>/dev/null && echo write $1 passed; }
      for connections in 1 2; do
        start /tmp/t$connections instant --size 64M --timeout 3 --connections $connections --api $BLKFORGE_API
        blkforge fault add hang --name stuck --ops write --nth 1
        write_once $connections
        until_line reconnected /tmp/t$connections.err
        echo with $connections: $(blkforge fault list --json | tr -d ' \n' | grep -oE '"matched":[0-9]+,"hits":[0-9]+')
        fio --name=v --filename=$DEV --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=16 --direct=1 \
            --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/dev/null && echo verified $connections
        stop
      done

      start /tmp/n instant --size 64M --timeout 0 --connections 2 --api $BLKFORGE_API
      blkforge fault add hang --name stuck --ops write --nth 1
      write_once 3 & writer=$!
      sleep 100
      echo patient: $(blkforge fault list --json | tr -d ' \n' | grep -oE '"matched":[0-9]+,"hits":[0-9]+')
      blkforge fault release stuck >/dev/null
      wait $writer
      grep -c reconnected /tmp/n.err || echo never reconnected
      stop
      no_process_is_stuck && echo nothing stuck`,
    );
    for (const connections of [1, 2]) {
      // Matched twice: the device has seen the write twice, as docs/attach.md says.
      expect(stdout).toContain(`with ${connections}: "matched":2,"hits":1`);
      expect(stdout).toContain(`write ${connections} passed`);
      expect(stdout).toContain(`verified ${connections}`);
    }
    expect(kernelLog).toContain("Connection timed out");
    expect(stdout).toContain('patient: "matched":1,"hits":1');
    expect(stdout).toContain("write 3 passed");
    expect(stdout).toContain("never reconnected");
    expect(stdout).toContain("nothing stuck");
  });

  test("kill -9 of the server under load: errors, no wrong data, nothing stuck, and the device can be had again", async () => {
    const { stdout } = await guest(
      `writes() { awk '{print $5}' /sys/block/nbd0/stat; }
      start /tmp/k fixed --set latency=1ms --size 64M --connections 4 --file /tmp/disk.img
      fio --name=v --filename=$DEV --rw=randwrite --bs=4k --size=32m --ioengine=libaio --iodepth=32 --numjobs=1 --direct=1 \
          --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/tmp/fio 2>&1 & load=$!
      until [ $(writes) -gt 500 ]; do usleep 10000; done
      kill -KILL $server
      wait $load || echo load failed
      grep -o 'error=[A-Za-z/ ]*' /tmp/fio | sort -u
      grep -i 'verify.*bad' /tmp/fio || echo no wrong data
      until no_process_is_stuck; do usleep 50000; done
      echo nothing stuck
      # Nobody holds it any more, so nothing of it is left.
      until test ! -e /sys/block/nbd0/pid; do usleep 50000; done
      echo free
      grep -o 'has died' /tmp/k.err

      start /tmp/r fixed --set latency=1ms --size 64M --connections 4 --file /tmp/disk.img
      fio --name=v --filename=$DEV --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=32 --direct=1 \
          --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/dev/null && echo again $DEV
      stop`,
      { cpus: 4 },
    );
    expect(stdout).toContain("load failed");
    expect(stdout).toContain("error=Input/output error");
    for (const line of ["no wrong data", "nothing stuck", "free", "has died", "again /dev/nbd0"]) {
      expect(stdout.split("\n")).toContain(line);
    }
  });
});
