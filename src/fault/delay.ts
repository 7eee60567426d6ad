/**
 * delay: a request completes later than the model says, by a fixed time or by a lognormal sample.
 *
 * The delay is pure latency, added after the device: it occupies no head, channel or thread, so a thousand delayed
 * requests wait side by side and the requests behind them are not slowed. (nbdkit's delay filter sleeps in one of 16
 * threads per connection; dm-delay is as this, with constant milliseconds.)
 *
 * Lognormal, because service times of storage under load have a long right tail and are never negative: the
 * logarithm of the delay is normal with mean ln(median) and standard deviation sigma. The mean is
 * median * exp(sigma^2 / 2), the 99th percentile median * exp(2.326 sigma). Samples are cut at an hour.
 *
 * Host sees    a slow request; the kernel's NBD client gives up only where it was attached with a timeout.
 */
import { operations } from "../base/request.js";
import { parseDuration } from "../base/units.js";
import { defineFault } from "./define.js";
import { duration, numberBetween, oneOf, strictFields } from "./schema.js";

const longest = "1h";
const longestNs = parseDuration(longest);

/** e^4 is a factor of 55 for one standard deviation: no device is so uneven, and samples stay far from overflow. */
const largestSigma = 4;

const late = {
  "nbd-kernel":
    "success, late; with a timeout set (nbd-client -t) the request may be sent again or fail with EIO",
  "nbd-user": "success, late",
  ublk: "success, late",
};

export const delay = defineFault({
  name: "delay",
  summary: "completes requests later, by a fixed or a lognormal time",
  ops: operations,
  options: strictFields({
    delay: duration(longest).optional().describe("a fixed time, such as 5ms"),
    distribution: oneOf(["lognormal"]).optional().describe("a time drawn anew for every hit"),
    median: duration(longest).optional().describe("median of the distribution"),
    sigma: numberBetween(0, largestSigma).optional().describe("spread: standard deviation of the logarithm"),
  }),
  check({ delay, distribution, median, sigma }) {
    if (delay !== undefined) {
      return (distribution ?? median ?? sigma) === undefined
        ? null
        : "take either delay or distribution, median and sigma, not both";
    }
    return distribution === undefined || median === undefined || sigma === undefined
      ? 'need either delay ("5ms"), or distribution (lognormal) with median ("2ms") and sigma (0.5)'
      : null;
  },
  /** A fixed delay is the distribution without spread. */
  prepare: ({ delay, median, sigma }) => ({
    medianNs: parseDuration(delay ?? median ?? "0"),
    sigma: sigma ?? 0,
  }),
  onHit(verdict, { medianNs, sigma }, random) {
    const sampleNs = sigma === 0 ? medianNs : medianNs * Math.exp(sigma * random.nextNormal());
    verdict.delayNs += Math.min(sampleNs, longestNs);
  },
  hostView: () => late,
  hostViewInGeneral: late,
});
