/**
 * A real kernel attaches an emulated disk with nbd-client, puts a file system on it, and finds every byte as it
 * left it, whatever the number of connections, the I/O scheduler or the way of doing I/O.
 */
import { expect, test } from "vitest";
import { inGuest } from "../support/lab.js";
import { describeWith } from "../support/requires.js";

/** mkfs, mount, verified I/O, fsck: the life of a disk in short. fio fails on the first block that differs. */
const fileSystemLife = `
mkfs.ext4 -q -F $DEV
mkdir -p /mnt
mount $DEV /mnt
fio --name=files --directory=/mnt --rw=randwrite --bs=4k --size=24m --nrfiles=4 --ioengine=libaio --iodepth=16 \\
    --direct=1 --fsync=64 --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/dev/null
umount /mnt
fsck.ext4 -f -n $DEV
`;

describeWith(["qemu-system-x86_64", "nbd-client"], "the kernel's block layer", () => {
  test("one connection: a file system lives on the disk and is clean afterwards", async () => {
    const { stdout } = await inGuest(`${fileSystemLife}\nls /sys/block/nbd0/mq | wc -l`, {
      device: { profile: "hdd-7200", serveArguments: ["--size", "1G"], connections: 1 },
      time: "virtual",
      cpus: 1,
    });
    expect(stdout.trim().split("\n").at(-1)).toBe("1");
  });

  test("four connections are four hardware queues, and a file system lives on them", async () => {
    const { stdout } = await inGuest(
      `${fileSystemLife}
      echo queues $(ls /sys/block/nbd0/mq | wc -l)
      echo rotational $(cat /sys/block/nbd0/queue/rotational)
      echo cache $(cat /sys/block/nbd0/queue/write_cache)
      echo fua $(cat /sys/block/nbd0/queue/fua)
      echo size $(blockdev --getsize64 $DEV)`,
      {
        device: { profile: "hdd-7200", serveArguments: ["--size", "1G"], connections: 4 },
        time: "virtual",
        cpus: 4,
      },
    );
    expect(stdout).toContain("queues 4");
    expect(stdout).toContain("cache write back");
    expect(stdout).toContain("fua 1");
    expect(stdout).toContain(`size ${2 ** 30}`);
  });

  test("the scheduler is switched under load, and every block verifies", async () => {
    const { stdout } = await inGuest(
      `modprobe -a bfq kyber-iosched mq-deadline
      fio --name=load --filename=$DEV --rw=randwrite --bs=4k --size=32m --ioengine=libaio --iodepth=32 --direct=1 \\
          --loops=3 --verify=crc32c --do_verify=1 --verify_fatal=1 --minimal >/dev/null &
      load=$!
      rounds=0
      while kill -0 $load 2>/dev/null; do
        for scheduler in mq-deadline bfq kyber none; do
          echo $scheduler > /sys/block/nbd0/queue/scheduler
          grep -qF "[$scheduler]" /sys/block/nbd0/queue/scheduler
        done
        rounds=$((rounds + 1))
        usleep 20000
      done
      wait $load
      echo rounds $rounds`,
      {
        device: {
          profile: "fixed",
          serveArguments: ["--size", "1G", "--set", "latency=300us"],
          connections: 4,
        },
        time: "virtual",
        cpus: 4,
      },
    );
    const rounds = Number(/rounds (\d+)/.exec(stdout)?.[1]);
    // Fewer would mean that the load was over before a switch met it.
    expect(rounds).toBeGreaterThan(3);
  });

  test("io_uring, libaio and sync I/O all read back what they wrote", async () => {
    const { stdout } = await inGuest(
      `for engine in io_uring libaio psync; do
        fio --name=$engine --filename=$DEV --rw=randrw --bsrange=4k-64k --size=32m --ioengine=$engine --iodepth=16 \\
            --direct=1 --verify=crc32c --verify_fatal=1 --minimal >/dev/null
        echo verified $engine
      done
      blkdiscard -f $DEV
      cmp -n 1048576 $DEV /dev/zero && echo discarded`,
      {
        device: { profile: "instant", serveArguments: ["--size", "256M"], connections: 4 },
        time: "real",
        cpus: 4,
      },
    );
    for (const engine of ["io_uring", "libaio", "psync"]) expect(stdout).toContain(`verified ${engine}`);
    expect(stdout).toContain("discarded");
  });
});
