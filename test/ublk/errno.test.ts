import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { describe, expect, test } from "vitest";
import { Status, type StatusName, statusNames } from "../../src/base/status.js";
import { WireError } from "../../src/nbd/constants.js";
import { wireErrorOfStatus } from "../../src/nbd/wire-errors.js";
import { hostErrorOfStatus, linuxErrors, ublkErrors, ublkResultOfStatus } from "../../src/ublk/errno.js";

/** `blk_errors[]` of block/blk-core.c, Linux 6.12: what an errno survives as. */
const blockLayerErrors = [
  ...[
    "EOPNOTSUPP",
    "ETIMEDOUT",
    "ENOSPC",
    "ENOLINK",
    "EREMOTEIO",
    "EBADE",
    "ENODATA",
    "EILSEQ",
    "ENOMEM",
    "EBUSY",
  ],
  ...["EINVAL", "EAGAIN", "ENODEV", "EREMCHG", "ETOOMANYREFS", "EOVERFLOW", "ETIME", "EIO"],
];

describe("errno over ublk", () => {
  test.each(statusNames)("status %s is committed as 0 or a negative errno", (name) => {
    const error = ublkErrors[name];
    expect(ublkResultOfStatus[Status[name]]).toBe(error === null ? 0 : -linuxErrors[error]);
  });

  test.each(statusNames.filter((name) => name !== "ok"))(
    "the host sees of %s what the block layer lets through",
    (name) => {
      const error = ublkErrors[name]!;
      expect(hostErrorOfStatus(name)).toBe(blockLayerErrors.includes(error) ? error : "EIO");
    },
  );

  test.runIf(process.platform === "linux")("the numbers are this kernel's, as far as Node knows them", () => {
    const known = constants.errno as Record<string, number>;
    for (const [name, number] of Object.entries(linuxErrors)) {
      if (known[name] !== undefined) expect([name, number]).toEqual([name, known[name]]);
    }
  });
});

test("docs/errno.md has the truth of every transport", () => {
  const page = readFileSync(new URL("../../docs/errno.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `(\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$/gm)];
  const written = new Map(
    rows.map(([, name, ...cells]) => [name, cells.slice(1).map((cell) => cell.trim())]),
  );
  const wireName = (name: StatusName) =>
    Object.entries(WireError).find(([, code]) => code === wireErrorOfStatus[Status[name]])?.[0];
  for (const name of statusNames) {
    if (name === "ok") continue;
    expect([name, written.get(name)]).toEqual([
      name,
      [wireName(name), "EIO", ublkErrors[name], hostErrorOfStatus(name)],
    ]);
  }
  expect(written.size).toBe(statusNames.length - 1);
});
