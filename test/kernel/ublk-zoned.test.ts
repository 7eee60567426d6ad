/**
 * Zoned devices in front of a real kernel: what blkzone shows and does, what limits say, verified writes, and a file
 * system that appends.
 */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

const zoneSectors = (16 << 20) / 512;

const helpers = `
zone_sectors=${zoneSectors}
# on ZONE COMMAND...: blkzone on one zone.
on() { zone=$1; shift; blkzone "$@" -o $((zone * zone_sectors)) -c 1 $DEV; }
# show ZONE: its condition and where in the zone its write pointer is.
show() { echo zone $1: $(on $1 report | sed -E 's/.*wptr (0x[0-9a-f]+).*zcond: *[0-9]+\\((..)\\).*/\\2 \\1/'); }
write_block() { dd if=/dev/urandom of=$DEV bs=4k count=1 seek=$(($1 * zone_sectors / 8 + $2)) oflag=direct conv=notrunc 2>/tmp/said; }
`;

describeWith(["qemu-system-x86_64", "blkzone", "fio"], "a zoned device over ublk", () => {
  test("shows its zones, keeps their rules and limits, and holds what is written", async () => {
    const { stdout } = await ublkGuest(
      `${helpers}
      start /tmp/z instant --size 1G --queues 2 --api $BLKFORGE_API --set zoned.zoneSize=16M --set zoned.capacity=12M \\
        --set zoned.conventional=2 --set zoned.maxOpen=4 --set zoned.maxActive=6 --set zoned.readOnly=[61] --set zoned.offline=[60]
      queue=/sys/block/\${DEV#/dev/}/queue
      echo queue $(cat $queue/zoned) $(cat $queue/nr_zones) $(cat $queue/chunk_sectors) open $(cat $queue/max_open_zones) active $(cat $queue/max_active_zones)
      blkzone report $DEV | grep -c start
      blkzone report -c 1 $DEV | grep -q CONVENTIONAL && echo first is conventional
      show 60; show 61
      dd if=$DEV of=/dev/null bs=4k count=1 skip=$((60 * zone_sectors / 8)) iflag=direct 2>/dev/null || echo offline cannot be read

      on 3 open; show 3
      on 3 close; show 3
      write_block 3 0; show 3
      on 3 close; show 3
      write_block 20 5 || echo not at the write pointer: refused
      write_block 3 1; show 3
      on 3 finish; show 3
      write_block 3 2 || echo full: refused
      dd if=$DEV bs=4k count=3 skip=$((3 * zone_sectors / 8)) iflag=direct 2>/dev/null | tail -c 4096 | cmp -n 4096 - /dev/zero && echo beyond the data are zeroes
      on 3 reset; show 3
      dd if=$DEV bs=4k count=1 skip=$((3 * zone_sectors / 8)) iflag=direct 2>/dev/null | cmp -n 4096 - /dev/zero && echo reset reads as zeroes

      for zone in 4 5 6 7; do on $zone open; done
      fails on 8 open
      for zone in 4 5; do write_block $zone 0; on $zone close; done
      for zone in 8 9; do on $zone open; done
      fails on 10 open
      blkzone reset -o $((2 * zone_sectors)) -l $((58 * zone_sectors)) $DEV
      echo empty $(blkzone report $DEV | grep -c '(em)')

      # Everything at once, by the one operation for it: the kernel asks for that when the range is the whole device.
      write_block 4 0
      blkzone reset $DEV
      echo empty $(blkzone report $DEV | grep -c '(em)')

      fio --name=zbd --filename=$DEV --zonemode=zbd --max_open_zones=4 --direct=1 \\
          --offset=32M --size=320M --io_size=24M --rw=randwrite --bs=16k --ioengine=libaio --iodepth=8 \\
          --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/tmp/fio.out >/tmp/fio.err 2>&1 &&
        echo verified || cat /tmp/fio.out /tmp/fio.err
      stop; echo status $?`,
      { tools: ["blkzone"] },
    );
    const lines = stdout.split("\n");
    const at = (blocks: number) => `0x${(blocks * 8).toString(16).padStart(6, "0")}`;
    expect(lines).toContain(`queue host-managed 64 ${zoneSectors} open 4 active 6`);
    expect(lines).toContain("64");
    const expected = [
      "first is conventional",
      "zone 60: of 0x008000",
      "zone 61: ro 0x008000",
      "offline cannot be read",
      `zone 3: oe ${at(0)}`,
      `zone 3: em ${at(0)}`,
      `zone 3: oi ${at(1)}`,
      `zone 3: cl ${at(1)}`,
      "not at the write pointer: refused",
      `zone 3: oi ${at(2)}`,
      "zone 3: fu 0x008000",
      "full: refused",
      "beyond the data are zeroes",
      "reset reads as zeroes",
      "empty 60",
      "verified",
      "status 0",
    ];
    for (const line of expected) expect(lines).toContain(line);
    // ETOOMANYREFS and EOVERFLOW, in the C library's words.
    expect(stdout).toMatch(/BLKOPENZONE ioctl.*Too many references/);
    expect(stdout).toMatch(/BLKOPENZONE ioctl.*Value too large/);
  });

  test("a disk of 52156 zones is reported in pieces", async () => {
    const { stdout } = await ublkGuest(
      `start /tmp/s smr-host-managed --queues 1
      echo $(blkzone report $DEV | grep -c start) zones, $(blkzone report $DEV | grep -c CONVENTIONAL) conventional
      echo open $(cat /sys/block/\${DEV#/dev/}/queue/max_open_zones)
      stop`,
      { tools: ["blkzone"] },
    );
    expect(stdout).toContain("52156 zones, 521 conventional");
    expect(stdout).toContain("open 128");
  });
});

describeWith(["qemu-system-x86_64", "mkfs.btrfs"], "a file system on zones", () => {
  test("btrfs appends its data, and finds it again", async () => {
    const { stdout } = await ublkGuest(
      `modprobe btrfs
      # With batched commands where there are any, which have a place of their own for where an append went.
      start /tmp/b instant --size 2G --queues 2 --batch auto --api $BLKFORGE_API --set zoned.zoneSize=32M
      mkfs.btrfs -q -d single -m single -O zoned $DEV
      mount -t btrfs $DEV /mnt
      fio --name=f --directory=/mnt --rw=write --bs=64k --size=8m --ioengine=psync --fsync_on_close=1 \\
          --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/dev/null && echo verified
      sha256sum < /mnt/f.0.0 > /tmp/before
      umount /mnt
      mount -t btrfs $DEV /mnt
      sha256sum < /mnt/f.0.0 | cmp - /tmp/before && echo found again
      umount /mnt
      blkforge stats --json | node -e '
        const { append } = JSON.parse(require("fs").readFileSync(0)).operations;
        console.log(append.count > 0 && append.errors === 0 ? "appended" : JSON.stringify(append));'
      stop`,
      { tools: ["mkfs.btrfs"], modules: ["btrfs"] },
    );
    for (const line of ["verified", "found again", "appended"]) expect(stdout.split("\n")).toContain(line);
  });
});
