/**
 * ublk devices that come and go, and servers that are killed: again and again, since what goes wrong here does so one time
 * in a hundred. `BLKFORGE_ROUNDS=full npm run test:kernel` runs as many rounds as a release needs.
 */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

const isFull = process.env.BLKFORGE_ROUNDS === "full";
const rounds = isFull ? { idle: 200, load: 50, kill: 20 } : { idle: 10, load: 5, kill: 3 };

interface Snapshot {
  descriptors: number;
  threads: number;
  residentMiB: number;
  unreclaimableKiB: number;
  devices: number;
}

type Memory = Pick<Snapshot, "residentMiB" | "unreclaimableKiB">;

function memoryText({ residentMiB, unreclaimableKiB }: Memory): string {
  return `${residentMiB} MiB resident, ${unreclaimableKiB} KiB of slab not reclaimable`;
}

describeWith(["qemu-system-x86_64"], "ublk, round after round", () => {
  test(`${rounds.idle} times attached and detached, ${rounds.load} times under load: nothing is left behind`, async () => {
    const { stdout } = await ublkGuest(
      `modprobe ublk_drv
      node --expose-gc /tmp-files/ublk-rounds.mjs ${rounds.idle} idle
      node --expose-gc /tmp-files/ublk-rounds.mjs ${rounds.load} load
      no_process_is_stuck && echo nothing stuck
      test -z "$(ls /sys/class/ublk-char)" && echo nothing left`,
      isFull ? { commandMs: 1_700_000 } : {},
    );
    const reports = stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as { rounds: number; before: Snapshot; after: Snapshot });
    expect(reports).toHaveLength(2);
    for (const { rounds, before, after } of reports) {
      console.log(`${rounds} rounds: ${memoryText(before)}; afterwards ${memoryText(after)}`);
    }
    for (const { before, after } of reports) {
      expect(after.devices).toBe(0);
      expect(after.descriptors).toBe(before.descriptors);
      expect(after.threads).toBeLessThanOrEqual(before.threads);
      // What grows with rounds grows by more than this: a queue's rings alone are 50 KiB.
      expect(after.residentMiB - before.residentMiB).toBeLessThan(20);
      expect(after.unreclaimableKiB - before.unreclaimableKiB).toBeLessThan(16 * 1024);
    }
    expect(stdout).toContain("nothing stuck");
    expect(stdout).toContain("nothing left");
  }, 1_900_000);

  test(`kill -9 under load and recover, ${rounds.kill} times: a mounted file system carries on with every byte`, async () => {
    const { stdout } = await ublkGuest(
      `memory() {
        echo memory $(sed -n 's/^VmRSS:[^0-9]*//p' /proc/$server/status | cut -d' ' -f1) $(sed -n 's/^SUnreclaim:[^0-9]*//p' /proc/meminfo)
      }
      start /tmp/r fixed --set latency=500us --size 64M --queues 2 --recovery reissue
      mkfs.ext4 -q -F $DEV && mount $DEV /mnt
      fio --name=v --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=32 --direct=1 \\
          --loops=100000 --output=/tmp/load.out & load=$!
      for round in $(seq ${rounds.kill}); do
        enough=$(($(writes) + 300))
        until [ $(writes) -gt $enough ]; do kill -0 $load; usleep 10000; done
        kill -KILL $server; wait $server || true
        recover /tmp/r$round
        # The first rounds fill caches that stay.
        if [ $round = 3 ]; then memory; fi
      done
      memory
      kill -INT $load; wait $load || true
      grep -c 'err= 0' /tmp/load.out
      fio --name=v --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=32 --direct=1 \\
          --verify=crc32c --do_verify=0 --output=/dev/null
      kill -KILL $server; wait $server || true
      recover /tmp/last
      fio --name=v --directory=/mnt --rw=randwrite --bs=4k --size=4m --ioengine=libaio --iodepth=32 --direct=1 \\
          --verify=crc32c --verify_only=1 --verify_fatal=1 --output=/dev/null && echo verified
      umount /mnt && e2fsck -fn $DEV >/dev/null 2>&1 && echo file system is clean
      stop; echo status $?
      test -z "$(ls /dev/shm)" && echo no image left
      test -z "$(ls /run/blkforge/ublk)" && echo nothing remembered

      start /tmp/k fixed --set latency=1ms --size 64M --queues 2
      fio --name=v --filename=$DEV --rw=randwrite --bs=4k --time_based --runtime=60 --ioengine=libaio --iodepth=32 \\
          --direct=1 --output=/tmp/k.fio 2>&1 & load=$!
      until [ $(writes) -gt 300 ]; do usleep 10000; done
      kill -KILL $server; wait $server || true
      wait $load || echo load failed
      grep -om1 'Input/output error' /tmp/k.fio
      # The kernel gives the device up a moment after its requests.
      until blkforge list >/tmp/list && grep -q ' dead ' /tmp/list; do usleep 20000; done
      cat /tmp/list
      fails blkforge recover $DEV
      blkforge cleanup
      blkforge list
      no_process_is_stuck && echo nothing stuck`,
      isFull ? { cpus: 2, commandMs: 1_500_000 } : { cpus: 2 },
    );
    for (const line of [
      "verified",
      "file system is clean",
      "status 0",
      "no image left",
      "nothing remembered",
      "load failed",
      "Input/output error",
      "Removed /dev/ublkb0 (fixed)",
      "There are no ublk devices.",
      "nothing stuck",
    ]) {
      expect(stdout.split("\n")).toContain(line);
    }
    const [before, after] = [...stdout.matchAll(/^memory (\d+) (\d+) kB$/gm)].map(
      ([, residentKiB, slabKiB]) => ({
        residentMiB: Math.round(Number(residentKiB) / 1024),
        unreclaimableKiB: Number(slabKiB),
      }),
    );
    console.log(
      `${rounds.kill} rounds: the third server ${memoryText(before)}; the last ${memoryText(after)}`,
    );
    // Each server is a process of its own: what a killed one leaves behind can only be the kernel's.
    expect(after.unreclaimableKiB - before.unreclaimableKiB).toBeLessThan(16 * 1024);
    expect(stdout).toMatch(/^\/dev\/ublkb0 +dead .* died +fixed$/m);
    expect(stdout).toContain("attached without --recovery");
  }, 1_700_000);
});
