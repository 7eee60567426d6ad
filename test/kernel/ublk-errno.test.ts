/** docs/errno.md proved: each status a fault can inject arrives over ublk as the errno it says. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { failureNames } from "../../src/base/status.js";
import { hostErrorOfStatus, linuxErrors } from "../../src/ublk/errno.js";
import { describeWith } from "../support/requires.js";
import { ublkGuest } from "../support/ublk.js";

describeWith(["qemu-system-x86_64", "fio"], "errno over ublk", () => {
  test("pread and pwrite with O_DIRECT and fsync give the errno of the device's status", async () => {
    const { stdout } = await ublkGuest(
      `start /tmp/e instant --name disk --size 64M --cache write-back --api $BLKFORGE_API
      node /tmp-files/errno.mjs $DEV \${BLKFORGE_API#unix:} ${failureNames.join(" ")}
      stop`,
      {
        files: {
          "/tmp-files/errno.mjs": readFileSync(
            new URL("../support/guest/errno.mjs", import.meta.url),
            "utf8",
          ),
        },
      },
    );
    const seen = stdout.trim().split("\n");
    const expected = failureNames.flatMap((status) => {
      const errno = linuxErrors[hostErrorOfStatus(status)!];
      // Whoever cannot flush has nothing to flush: the kernel takes EOPNOTSUPP for success (blkdev_fsync in block/fops.c).
      const ofFlush = status === "notsupp" ? 0 : errno;
      return [`${status} read ${errno}`, `${status} write ${errno}`, `${status} flush ${ofFlush}`];
    });
    expect(seen).toEqual(expected);
  });
});
