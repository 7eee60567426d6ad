#!/usr/bin/env node
import module from "node:module";
import { availableParallelism } from "node:os";

// From Node 22 on compiled code is kept for the next start.
module.enableCompileCache?.();

const args = process.argv.slice(2);
// A device thread takes as long to load its code as the command line does: they do it at the same time.
if (["serve", "run", "attach"].includes(args[0]) && !args.includes("--help")) {
  const { prepareThreads } = await import("../dist/device/thread.js");
  const addresses = args.filter((arg) => /^--listen(=|$)/.test(arg)).length;
  prepareThreads(Math.max(1, Math.min(addresses, availableParallelism())));
}
const { main } = await import("../dist/cli/main.js");
process.exitCode = await main(args);
