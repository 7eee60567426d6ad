/** A worker thread with a clock in each state it may be in when the thread ends: idle, closing, armed, met. */
import { parentPort } from "node:worker_threads";
import { LiveClock } from "../../src/device/live-clock.js";

new LiveClock();
const closing = new LiveClock();
const armed = new LiveClock();
armed.arm(3600e9);
const met = new LiveClock();
met.onDeadline = () => {
  closing.close();
  parentPort?.postMessage(met.nowNs());
};
met.arm(1e6);
