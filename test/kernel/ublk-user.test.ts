/** A user who is not root attaches a device of his own, where udev (played by a loop here) gives him its nodes. */
import { expect, test } from "vitest";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

describeWith(["qemu-system-x86_64", "fio"], "a user's own device", () => {
  test("is attached, used and detached without root, once its nodes are his", async () => {
    const { stdout } = await ublkGuest(
      `modprobe ublk_drv
      chmod 666 /dev/ublk-control
      mkdir /tmp/home; chown 1000:1000 /tmp/home; cd /tmp/home
      user="node /tmp-files/as-user.cjs"
      fails $user blkforge attach instant --size 64M --ublk --copy kernel

      (while :; do
        for node in /dev/ublkc* /dev/ublkb*; do if [ -e $node ]; then chown 1000:1000 $node 2>/dev/null || true; fi; done
        usleep 10000
      done) & udev=$!
      fails $user blkforge attach instant --size 64M --ublk --copy user
      $user blkforge attach instant --size 64M --ublk --copy kernel >/tmp/log 2>/tmp/err & server=$!
      until grep -qs ready /tmp/log; do
        kill -0 $server 2>/dev/null || { cat /tmp/err >&2; exit 1; }
        usleep 20000
      done
      DEV=$(grep -oE '/dev/ublkb[0-9]+' /tmp/log)
      until ls -ln $DEV | grep -q ' 1000 '; do usleep 20000; done
      # Dropping the page cache is for root.
      $user fio --name=v --filename=$DEV --rw=randwrite --bs=4k --size=4m --ioengine=psync --direct=1 --invalidate=0 \\
          --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/tmp/home/fio.out && echo verified
      $user blkforge list
      kill -INT $server; wait $server && echo detached
      [ -e $DEV ] || echo gone
      kill $udev || true`,
      { cpus: 2 },
    );
    expect(stdout).toMatch(/ublkc0 could not be used by this user within 10 s: EACCES/);
    expect(stdout).toContain("--copy user is for devices of root");
    expect(stdout).toMatch(/^verified$[\s\S]*\/dev\/ublkb\d+ +live [\s\S]*^detached$\n^gone$/m);
  });
});
