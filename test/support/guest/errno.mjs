/**
 * In the guest: lets each status end a read, a write and a flush of a block device, and prints the errno that pread, pwrite (with
 * O_DIRECT, by fio) and fsync gave. Arguments: the device, the API's socket, the statuses.
 */
import { execFile } from "node:child_process";
import { closeSync, fsyncSync, openSync } from "node:fs";
import { request } from "node:http";
import { promisify } from "node:util";

const [device, socketPath, ...statuses] = process.argv.slice(2);
const run = promisify(execFile);

function ask(method, path, body) {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? "" : JSON.stringify(body);
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
    const call = request({ socketPath, method, path, headers }, (answer) => {
      let said = "";
      answer.on("data", (part) => {
        said += part;
      });
      answer.on("end", () => (answer.statusCode < 300 ? resolve(said) : reject(new Error(said))));
    });
    call.once("error", reject);
    call.end(text);
  });
}

async function readOrWrite(op) {
  const job = ["--name=e", `--filename=${device}`, `--rw=${op}`, "--bs=4k", "--number_ios=1", "--size=4k"];
  const how = ["--direct=1", "--ioengine=psync", "--output-format=json"];
  // fio ends with a status of its own when a request fails; what it prints has the errno.
  const { stdout } = await run("fio", [...job, ...how]).catch((failed) => failed);
  return JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs[0].error;
}

function flush() {
  const fd = openSync(device, "r+");
  try {
    fsyncSync(fd);
    return 0;
  } catch (error) {
    return -error.errno;
  } finally {
    closeSync(fd);
  }
}

for (const status of statuses) {
  for (const op of ["read", "write", "flush"]) {
    const fault = { kind: "error", name: "e", options: { status }, trigger: { ops: [op] } };
    await ask("POST", "/devices/disk/faults", fault);
    const errno = op === "flush" ? flush() : await readOrWrite(op);
    await ask("DELETE", "/devices/disk/faults/e");
    console.log(`${status} ${op} ${errno}`);
  }
}
