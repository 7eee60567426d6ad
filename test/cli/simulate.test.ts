import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { main } from "../../src/cli/main.js";

const folder = mkdtempSync(join(tmpdir(), "blkforge-simulate-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let stdout = "";
let stderr = "";

beforeEach(() => {
  stdout = "";
  stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += text;
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
});

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe("blkforge simulate", () => {
  test("prints JSON with a schema version, and logs every request", async () => {
    const job = file("job.fio", "[job]\nrw=randread\nnumber_ios=20\n");
    const log = join(folder, "requests.csv");
    const status = await main([
      "simulate",
      "fixed",
      "--workload",
      job,
      "--json",
      "--seed",
      "9",
      "--log",
      log,
    ]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ schemaVersion: 1, seed: 9, count: 20, elapsedNs: 20e6 });
    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    expect(lines).toHaveLength(21);
    expect(lines[0]).toBe("operation,offset_bytes,length_bytes,queue,wanted_ns,arrival_ns,completion_ns");
    expect(lines[20]).toMatch(/^read,\d+,4096,0,19000000,19000000,20000000$/);
  });

  test("settings, size and traces are taken", async () => {
    const trace = file("trace.csv", "7,R,0,4096,1000\n7,W,1048576,4096,2000\n");
    const status = await main([
      "simulate",
      "fixed",
      "--trace",
      trace,
      "--size",
      "1M",
      "--wrap",
      "--set",
      "latency=2ms",
      "--json",
    ]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      device: { profile: "fixed", sizeBytes: 2 ** 20, settings: ["latency=2ms"] },
      input: { kind: "trace", format: "alibaba", loop: "open" },
      elapsedNs: 3e6,
    });
  });

  test.each([
    [[], "BLK_E_USAGE  simulate needs either --workload or --trace. Give one: --workload job.fio"],
    [["--workload", "/nowhere/job.fio"], "BLK_E_WORKLOAD  job file /nowhere/job.fio cannot be read: ENOENT"],
    [["--trace", "/nowhere/trace"], "BLK_E_TRACE  trace /nowhere/trace cannot be read: ENOENT"],
  ])("says in one line what is wrong, with exit status 2 (%#)", async (args, message) => {
    expect(await main(["simulate", "fixed", ...args])).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stdout).toBe("");
  });

  test("an unknown job option is refused before anything is simulated", async () => {
    const job = file("bad.fio", "[job]\niodeph=4\n");
    expect(await main(["simulate", "fixed", "--workload", job])).toBe(2);
    expect(stderr).toContain(`${job}:2: unknown option "iodeph". Did you mean iodepth?`);
  });
});
