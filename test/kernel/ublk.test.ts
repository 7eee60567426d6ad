/**
 * `blkforge attach --ublk` in front of a real kernel: queues, data, faults and time.
 *
 * One boot carries several checks, since a boot costs more than all of them. Where time matters it is virtual, so that a
 * busy host changes nothing.
 */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

describeWith(["qemu-system-x86_64"], "a device over ublk", () => {
  test("has as many hardware queues as asked for, all of them used, and keeps every byte", async () => {
    const { stdout } = await ublkGuest(
      `# How many requests of an operation each queue has seen, as the kernel numbers them.
      queues_used() { blkforge stats --json | tr -d ' \\n' | grep -oE '"queues":.*' | grep -oE '"read":\\{"count":[0-9]+' |
        sed 's/.*:0$/idle/; s/.*:[0-9]*$/used/' | tr '\\n' ' '; }
      for queues in 1 2 4; do
        start /tmp/q$queues instant --size 64M --queues $queues --depth 32 --cache write-back --api $BLKFORGE_API
        echo with $queues: $(ls /sys/block/\${DEV#/dev/}/mq | wc -l) directories
        fio --name=r --filename=$DEV --rw=randread --bs=4k --number_ios=64 --numjobs=4 --cpus_allowed=0-3 \\
            --cpus_allowed_policy=split --direct=1 --ioengine=psync --output=/dev/null
        echo with $queues: $(queues_used)
        test $queues = 4 || stop
      done

      queue=/sys/block/\${DEV#/dev/}/queue
      echo cache $(cat $queue/write_cache), fua $(cat $queue/fua), blocks $(cat $queue/logical_block_size)
      verify io_uring io_uring
      verify registered io_uring --fixedbufs=1 --registerfiles=1
      verify sqpoll io_uring --sqthread_poll=1
      verify libaio libaio
      verify sync psync
      verify large libaio --bs=256k --size=8m --iodepth=4

      dd if=/dev/zero of=$DEV bs=4k count=1 conv=fsync 2>/dev/null
      blkdiscard -o 0 -l 1048576 $DEV
      cmp -n 1048576 $DEV /dev/zero && echo discarded and zero
      verify again psync
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      fio --name=f --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=io_uring --iodepth=16 --fsync=16 \\
          --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/dev/null && echo file system verified
      umount /mnt && e2fsck -fn $DEV >/dev/null 2>&1 && echo file system is clean
      # mkfs writes zeroes.
      blkforge stats --json | tr -d ' \\n' > /tmp/stats
      for op in flush trim zeroes; do grep -qE "\\"$op\\":\\{\\"count\\":[1-9]" /tmp/stats && echo counted $op; done
      stop; echo status $?

      start /tmp/k instant --size 32M --copy kernel
      verify kernel libaio
      stop
      start /tmp/f instant --size 32M --file /tmp/disk.img --listen 'nbd+unix:///?socket=/run/n.sock'
      verify file libaio --fsync=8
      mkfs.ext4 -q -F $DEV
      stop
      e2fsck -fn /tmp/disk.img >/dev/null 2>&1 && echo image is clean
      test -z "$(ls /sys/class/ublk-char)" && echo nothing left`,
    );
    const lines = stdout.split("\n");
    for (const queues of [1, 2, 4]) {
      expect(lines).toContain(`with ${queues}: ${queues} directories`);
      expect(lines).toContain(`with ${queues}: ${Array(queues).fill("used").join(" ")}`);
    }
    expect(lines).toContain("cache write back, fua 1, blocks 512");
    for (const way of [
      "io_uring",
      "registered",
      "sqpoll",
      "libaio",
      "sync",
      "large",
      "again",
      "kernel",
      "file",
    ]) {
      expect(stdout).toContain(`verified ${way}`);
    }
    for (const line of [
      "counted flush",
      "counted trim",
      "counted zeroes",
      "discarded and zero",
      "file system verified",
      "file system is clean",
      "status 0",
      "image is clean",
      "nothing left",
    ]) {
      expect(lines).toContain(line);
    }
  });

  test("a hang holds one queue's request while the others go on, past io_timeout, and a stop lets it go", async () => {
    const { stdout } = await ublkGuest(
      `start /tmp/h fixed --set latency=100us --size 64M --queues 4 --api $BLKFORGE_API
      blkforge fault add hang --name stuck --ops write --nth 1
      dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>/dev/null && echo write passed & writer=$!
      until blkforge fault list --json | tr -d ' \\n' | grep -q '"held":1'; do usleep 50000; done
      fio --name=r --filename=$DEV --rw=randread --bs=4k --number_ios=64 --numjobs=4 --cpus_allowed=0-3 \\
          --cpus_allowed_policy=split --direct=1 --ioengine=psync --output=/dev/null && echo others pass
      echo timeout $(cat /sys/block/\${DEV#/dev/}/queue/io_timeout)
      # Several times that, in the guest's time.
      sleep 20
      kill -0 $writer && echo still held
      blkforge fault release stuck >/dev/null
      wait $writer

      blkforge fault add hang --name again --ops write
      dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>/dev/null & writer=$!
      until blkforge fault list --json | tr -d ' \\n' | grep -q '"held":1'; do usleep 50000; done
      blkforge detach $DEV --force
      wait $server; echo stopped $?
      wait $writer || true
      no_process_is_stuck && echo nothing stuck
      test -z "$(ls /sys/class/ublk-char)" && echo nothing left`,
      { time: "virtual" },
    );
    for (const line of [
      "others pass",
      "timeout 3000",
      "still held",
      "write passed",
      "stopped 0",
      "nothing stuck",
      "nothing left",
    ]) {
      expect(stdout.split("\n")).toContain(line);
    }
  });

  test("refuses to go while it is held, goes by force, and tells who serves what", async () => {
    const { stdout } = await ublkGuest(
      `start /tmp/a instant --size 64M --own-mounts
      for task in /proc/$server/task/*; do
        # A worker of the kernel's may just have gone.
        stat=$(cat $task/stat 2>/dev/null) || continue
        flags=$(echo "$stat" | sed 's/.*) //' | cut -d' ' -f7)
        # PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE: an I/O flusher.
        test $((flags & 0x180000)) -eq $((0x180000)) || echo unmarked "$stat"
      done
      echo threads $(ls /proc/$server/task | wc -l)
      test "$(stat -L -c %i /proc/$server/ns/mnt)" != "$(stat -L -c %i /proc/self/ns/mnt)" && echo own mounts
      blkforge list
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      fails blkforge detach $DEV
      kill -INT $server
      until_line "stays attached" /tmp/a.err
      echo kept > /mnt/file && sync && umount /mnt
      blkforge detach $DEV; wait $server; echo detached $?
      fails blkforge detach /dev/ublkb0
      start /tmp/b instant --size 64M
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      blkforge detach $DEV --force; wait $server; echo pulled $?
      umount -l /mnt
      fails blkforge attach instant --size 1M --ublk --scheduler elevator
      until test -z "$(ls /sys/class/ublk-char)"; do usleep 50000; done
      echo nothing left`,
      { cpus: 2 },
    );
    expect(stdout).not.toContain("unmarked");
    expect(stdout).toContain("own mounts");
    expect(stdout).toMatch(/^\/dev\/ublkb0 +live +1 +128 +64M +\d+ +instant$/m);
    expect(stdout).toMatch(/BLK_E_DEVICE_BUSY {2}\/dev\/ublkb0 is still mounted on \/mnt/);
    expect(stdout).toContain("detached 0");
    expect(stdout).toContain("there is no ublk device 0");
    expect(stdout).toContain("pulled 0");
    expect(stdout).toContain('no I/O scheduler "elevator"');
    expect(stdout).toContain("nothing left");
  });

  test("a queue's thread waits for who submits many, not for who submits one, and is real-time for due times only", async () => {
    const { stdout } = await ublkGuest(
      `thread=''
      policy() { sed 's/.*) //' $thread/stat | cut -d' ' -f39; }
      switches() { sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p' $thread/status; }
      read_some() {
        fio --name=r --filename=$DEV --rw=randread --bs=4k --iodepth=$1 --number_ios=$2 --ioengine=io_uring --direct=1 --output=/dev/null
      }
      # become POLICY DEPTH: reads until the thread has it. 0 is SCHED_OTHER, 1 SCHED_FIFO, 3 SCHED_BATCH.
      become() { read_some $2 4000; until [ $(policy) = $1 ]; do read_some $2 100; done; }
      start /tmp/s instant --size 64M --api $BLKFORGE_API
      for task in /proc/$server/task/*; do if [ $(cat $task/comm) = ublk-0 ]; then thread=$task; fi; done
      become 0 1; echo one by one
      become 3 32; echo many
      before=$(switches); read_some 32 4000; echo switches $(($(switches) - before))
      become 0 1; echo one by one again
      blkforge fault add delay delay=1ms --name d >/dev/null
      become 1 1; echo timed
      become 1 32; echo timed still
      blkforge fault reset >/dev/null
      become 3 32; echo many again
      stop`,
      { cpus: 1, time: "virtual" },
    );
    expect(stdout).toMatch(
      /^one by one\nmany\nswitches \d+\none by one again\ntimed\ntimed still\nmany again$/m,
    );
    // Of 4000 reads; measured: 129, one for each batch. A thread that goes first has one per read.
    expect(Number(/switches (\d+)/.exec(stdout)![1])).toBeLessThan(1000);
  });

  test("JavaScript's garbage collections delay nobody who waits longer, and its end fails requests, not the host", async () => {
    const { stdout } = await ublkGuest(
      `export NODE_OPTIONS="--require /tmp-files/hook.cjs"
      start /tmp/g fixed --set latency=200ms --size 64M --api $BLKFORGE_API
      unset NODE_OPTIONS
      # A fault, so that JavaScript decides.
      blkforge fault add delay delay=1ms --name d >/dev/null
      # All at once: it is looked for each 20 ms.
      echo 50 > /tmp/gc.new; mv /tmp/gc.new /tmp/gc
      until test -e /tmp/gc.ready; do usleep 20000; done
      fio --name=lat --filename=$DEV --rw=randread --bs=4k --runtime=2 --time_based --ioengine=io_uring --iodepth=8 \\
          --direct=1 --output-format=json --output=/tmp/fio.json
      until test -e /tmp/gc.log; do usleep 20000; done
      echo pauses $(cat /tmp/gc.log)
      node -e '
        const { lat_ns } = JSON.parse(require("fs").readFileSync("/tmp/fio.json")).jobs[0].read;
        console.log("latency", lat_ns.min / 1e6, lat_ns.max / 1e6);'
      echo late $(blkforge stats --json | tr -d ' \\n' | grep -oE '"lateness":[{][^}]*' | grep -oE '"maxNs":[0-9]+' | head -n1 |
        cut -d: -f2)

      blkforge fault add hang --ops write --name h >/dev/null
      dd if=/dev/zero of=$DEV bs=4k count=1 oflag=direct 2>/tmp/dd.err & writer=$!
      until blkforge fault list --json | tr -d ' \\n' | grep -q '"held":1'; do usleep 20000; done
      touch /tmp/crash
      wait $writer || grep -o 'Input/output error' /tmp/dd.err
      wait $server || echo crashed $?
      grep -o 'crashed on purpose' /tmp/g.err
      no_process_is_stuck && echo nothing stuck
      test -z "$(ls /sys/class/ublk-char)" && echo nothing left`,
      // One processor: QEMU has several take turns in virtual time, and a wake-up waits up to 10 ms for the other's turn to end.
      { cpus: 1, time: "virtual" },
    );
    const [, shortest, longest] = /^pauses (\S+) (\S+)$/m.exec(stdout)!.map(Number);
    expect(shortest).toBeGreaterThanOrEqual(40);
    expect(longest).toBeLessThan(200);
    const [, least] = /^latency (\S+) (\S+)$/m.exec(stdout)!.map(Number);
    // 200 ms of the model and 1 ms of the fault.
    expect(least).toBeGreaterThanOrEqual(201);
    // Of all requests, at the queue's thread, which shares the processor with fio and V8's collecting threads. Measured: 11 us; 6 ms
    // at nice -20 instead of as a real-time thread.
    const [, lateNs] = /^late (\d+)$/m.exec(stdout)!.map(Number);
    expect(lateNs, stdout).toBeLessThan(1e6);
    for (const line of [
      "Input/output error",
      "crashed 1",
      "crashed on purpose",
      "nothing stuck",
      "nothing left",
    ]) {
      expect(stdout.split("\n")).toContain(line);
    }
  });
});
