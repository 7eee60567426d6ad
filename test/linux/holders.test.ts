/** Who holds a device, read from trees made for the test as the kernel makes them. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { findHolders, mountsIn } from "../../src/linux/holders.js";
import { scratchDirectory } from "../support/blkforge.js";

function machine() {
  const root = scratchDirectory();
  const file = (path: string, content: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  };
  const link = (path: string, target: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    symlinkSync(target, join(root, path));
  };
  file("sys/block/nbd1023/dev", "43:32736\n");
  file("sys/block/nbd1023/nbd1023p1/dev", "43:32737\n");
  file("proc/swaps", "Filename Type Size Used Priority\n");
  return {
    file,
    link,
    holders: () => findHolders("nbd1023", { proc: join(root, "proc"), sys: join(root, "sys") }),
  };
}

test("a device nobody holds is free", () => {
  expect(machine().holders()).toEqual([]);
});

test("mounts are found in every mount namespace, once each", () => {
  const { file, link, holders } = machine();
  link("proc/1/ns/mnt", "mnt:[1]");
  file("proc/1/mountinfo", "30 1 43:32737 / /data\\040one rw - ext4 /dev/nbd1023p1 rw\n");
  link("proc/2/ns/mnt", "mnt:[2]");
  file("proc/2/mountinfo", "31 1 0:40 / /pool rw - btrfs /dev/nbd1023 rw\n");
  link("proc/3/ns/mnt", "mnt:[1]");
  file("proc/3/mountinfo", "30 1 43:32737 / /not/read/twice rw - ext4 /dev/nbd1023p1 rw\n");
  expect(holders()).toEqual(["mounted on /data one", "mounted on /pool"]);
});

test("swap, devices on top, loop devices and programs are named", () => {
  const { file, link, holders } = machine();
  file("proc/swaps", "Filename Type Size Used Priority\n/dev/nbd1023p1 partition 1024 0 -2\n");
  file("sys/block/nbd1023/holders/dm-3/dev", "253:3\n");
  file("sys/block/loop4/loop/backing_file", "/dev/nbd1023\n");
  file("proc/77/comm", "fio\n");
  link("proc/77/fd/3", "/dev/nbd1023");
  link("proc/77/fd/4", "socket:[5]");
  expect(holders()).toEqual([
    "used for swap as /dev/nbd1023p1",
    "part of /dev/dm-3",
    "behind /dev/loop4",
    "open in fio (pid 77)",
  ]);
});

test("a mount table without the device, or with less than whole lines, has no mount of it", () => {
  const target = { paths: new Set(["/dev/nbd0"]), numbers: new Set(["43:0"]) };
  expect(mountsIn("30 1 8:1 / / rw - ext4 /dev/sda1 rw\n\n43:0\n", target)).toEqual([]);
  expect(mountsIn("30 1 43:0 / /a rw shared:1 - xfs /dev/nbd0 rw", target)).toEqual(["/a"]);
});
