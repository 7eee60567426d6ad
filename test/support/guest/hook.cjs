/**
 * Preloaded into a server in the guest (NODE_OPTIONS): lets a test make its device threads throw, or collect garbage for
 * about as long as it says, by creating files.
 */
const { isMainThread } = require("node:worker_threads");
const fs = require("node:fs");

if (!isMainThread) {
  require("node:v8").setFlagsFromString("--expose-gc");
  const gc = require("node:vm").runInNewContext("gc");
  const heap = [];

  /** One full collection, in milliseconds. */
  const collect = () => {
    const begun = process.hrtime.bigint();
    gc();
    return Number(process.hrtime.bigint() - begun) / 1e6;
  };

  setInterval(() => {
    if (fs.existsSync("/tmp/crash")) throw new Error("crashed on purpose");
    if (!fs.existsSync("/tmp/gc")) return;
    const wantedMs = Number(fs.readFileSync("/tmp/gc", "utf8"));
    fs.rmSync("/tmp/gc");
    // Filled while no request is looked at; what counts is a collection of the wanted length afterwards.
    while (collect() < wantedMs) for (let i = 0; i < 10_000; i++) heap.push({ i, more: [i] });
    fs.writeFileSync("/tmp/gc.ready", "");
    const pauses = [];
    const again = setInterval(() => {
      pauses.push(collect());
      if (pauses.length < 10) return;
      clearInterval(again);
      fs.writeFileSync("/tmp/gc.log.new", `${Math.min(...pauses)} ${Math.max(...pauses)}\n`);
      fs.renameSync("/tmp/gc.log.new", "/tmp/gc.log");
    }, 150);
  }, 20).unref();
}
