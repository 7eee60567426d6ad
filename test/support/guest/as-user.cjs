/** Runs a program as user 1000, and passes SIGINT on to it. */
const { spawn } = require("node:child_process");

process.setgroups([]);
process.setgid(1000);
process.setuid(1000);
const [file, ...args] = process.argv.slice(2);
const child = spawn(file, args, {
  stdio: "inherit",
  env: { ...process.env, XDG_RUNTIME_DIR: process.cwd() },
});
process.on("SIGINT", () => child.kill("SIGINT"));
child.on("exit", (status) => process.exit(status ?? 1));
