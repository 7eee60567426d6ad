import { expect, test } from "vitest";
import { failureNames, Status } from "../../src/base/status.js";
import { hostViewOfStatus } from "../../src/fault/host-view.js";
import { WireError } from "../../src/nbd/constants.js";
import { wireErrorOfStatus } from "../../src/nbd/wire-errors.js";
import { hostErrorOfStatus } from "../../src/ublk/errno.js";
import { FaultBench } from "./support.js";

test.each(failureNames)("what is said of status %s is what the servers send", (status) => {
  const sent = Object.entries(WireError).find(([, code]) => code === wireErrorOfStatus[Status[status]]);
  const ublk = hostErrorOfStatus(status);
  expect(hostViewOfStatus(status)).toEqual({ "nbd-kernel": "EIO", "nbd-user": sent?.[0], ublk });
});

test.each(failureNames)("an error fault injects status %s", (status) => {
  const bench = new FaultBench();
  const report = bench.faults.add({ kind: "error", options: { status } });
  expect(bench.judge({ op: "read" }).status).toBe(Status[status]);
  expect(report.hostView).toEqual(hostViewOfStatus(status));
});
