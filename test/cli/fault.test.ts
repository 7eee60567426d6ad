import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { command as faultCommand } from "../../src/cli/fault.js";
import { command as statsCommand } from "../../src/cli/stats.js";
import { type ApiServer, listenApi } from "../../src/control/listen.js";
import { type FakeDevice, fakeDevice } from "../control/support.js";

let directory: string;
let device: FakeDevice;
let server: ApiServer;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blkforge-"));
  device = fakeDevice();
  const api = `unix:${join(directory, "api")}`;
  server = await listenApi(api, [device.control]);
  vi.stubEnv("BLKFORGE_API", api);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await server.close();
  rmSync(directory, { recursive: true });
});

/** Runs a command line against the device and returns what it printed. */
async function run(line: string): Promise<string> {
  const [name, ...args] = line.split(" ");
  const printed: string[] = [];
  const stdout = vi
    .spyOn(process.stdout, "write")
    .mockImplementation((text) => printed.push(String(text)) > 0);
  try {
    await (name === "fault" ? faultCommand : statsCommand).parseAsync(args, { from: "user" });
  } finally {
    stdout.mockRestore();
  }
  return printed.join("");
}

describe("fault add brings arguments into the shape of a fault", () => {
  test.each([
    ["error", {}, { status: "io" }],
    ["error status=nospc --ops write,flush", { ops: ["write", "flush"] }, { status: "nospc" }],
    ["delay delay=5ms --nth 3", { nth: 3 }, { delay: "5ms" }],
    [
      "delay distribution=lognormal median=2ms sigma=0.5 --every 7",
      { every: 7 },
      { distribution: "lognormal", median: "2ms", sigma: 0.5 },
    ],
    [
      "hang --range 1G+64M --range 0+512 --after 2 --times 1",
      {
        ranges: [
          { offset: "1G", length: "64M" },
          { offset: "0", length: "512" },
        ],
        after: 2,
        times: 1,
      },
      {},
    ],
    ["hang --probability 10% --seed 9 --queue 0", { probability: "10%", seed: 9, queue: 0 }, {}],
    ["hang --probability 1:10", { probability: "1:10" }, {}],
    ["hang --probability 0.25", { probability: 0.25 }, {}],
    ["hang --disarmed", { armed: false }, {}],
  ])("%s", async (args, trigger, options) => {
    const json = JSON.parse(await run(`fault add ${args} --name f --json`));
    expect(json).toMatchObject({ name: "f", kind: args.split(" ")[0], options });
    expect(json.trigger).toEqual({ after: 0, armed: true, ...trigger });
    expect(device.bench.faults.get("f")).toEqual(json);
  });

  test.each([
    ["error broken", /"broken" is not an option of a fault/],
    ["error --range 5", /--range 5 is not a range/],
    ["error --nth third", /trigger\.nth must be a whole number, 1 or more; given "third"/],
    ["error --ops read,fsync", /trigger\.ops\.1 must be one of read, write/],
    ["delay", /options need either delay/],
  ])("%s is refused", async (args, message) => {
    await expect(run(`fault add ${args}`)).rejects.toThrowError(message);
    expect(device.bench.faults.list()).toEqual([]);
  });

  test("for people, it says what the host will see", async () => {
    expect(await run("fault add error status=nospc --ops flush --nth 3")).toBe(
      "error-1: error status=nospc on flush, nth 3 (armed, seed 42)\n" +
        "host sees over the kernel's NBD client: EIO\n" +
        "host sees with an NBD client in user space: ENOSPC\n" +
        "host sees over ublk: ENOSPC\n",
    );
  });
});

describe("the life of a fault on the command line", () => {
  test("list, arm, release, rm", async () => {
    expect(await run("fault list")).toBe("no fault is set\n");
    await run("fault add hang --ops read --disarmed");
    await run("fault add delay delay=5ms --range 1M+64K --probability 10%");
    expect(await run("fault arm hang-1")).toBe("hang-1 is armed\n");
    device.bench.judge({ op: "read" });
    expect(await run("fault list")).toBe(
      [
        "fault    state  matched  hits  held  does",
        "hang-1   armed        1     1     1  hang on read",
        "delay-1  armed        0     0     0  delay delay=5ms on all in 1M+64K, probability 10%",
        "",
      ].join("\n"),
    );
    expect(await run("fault release hang-1")).toBe("released 1 held by hang-1\n");
    expect(await run("fault disarm hang-1")).toBe("hang-1 is disarmed\n");
    expect(await run("fault rm hang-1")).toBe("removed hang-1: matched 1, hits 1\n");
    expect(JSON.parse(await run("fault list --json"))).toMatchObject([{ name: "delay-1" }]);
  });

  test("reset always works", async () => {
    await run("fault add hang");
    device.bench.judge({ op: "write" });
    expect(await run("fault reset")).toBe("removed hang-1: matched 1, hits 1, released 1\n");
    expect(await run("fault reset")).toBe("no fault was set\n");
  });

  test("kinds are listed without a running device", async () => {
    vi.stubEnv("BLKFORGE_API", undefined);
    const text = await run("fault kinds");
    expect(text).toContain("error: completes requests with an error");
    expect(text).toContain("one of io, medium, nospc");
    expect(text).toContain("over the kernel's NBD client: EIO, whatever the status");
    expect(JSON.parse(await run("fault kinds --json"))).toMatchObject([
      { name: "error" },
      { name: "delay" },
      { name: "hang" },
    ]);
  });

  test("without an address the error tells how to get one", async () => {
    vi.stubEnv("BLKFORGE_API", undefined);
    await expect(run("fault list")).rejects.toMatchObject({
      code: "BLK_E_USAGE",
      hint: expect.stringContaining("--api unix:PATH"),
    });
  });
});

describe("stats", () => {
  test("for people: one table, the lateness, and the faults", async () => {
    await run("fault add error --ops flush");
    const text = await run("stats");
    expect(text).toMatch(/^iops credits +1234$/m);
    expect(text).toMatch(/^waited +2\.00 s$/m);
    expect(text).toContain("disk: up 5.00 s, 2 in flight, 1 held by faults, 64K allocated");
    expect(text).toMatch(/^read +1 +4K +0 +1\.00 ms/m);
    expect(text).not.toMatch(/^trim/m);
    expect(text).toMatch(/^lateness +1 /m);
    expect(text).toMatch(/^error-1 +armed +0 +0 +0 {2}error status=io on flush$/m);
  });

  test("for programs: JSON and nothing else", async () => {
    expect(JSON.parse(await run("stats --json --device disk"))).toMatchObject({
      schemaVersion: 1,
      device: "disk",
    });
  });

  test("of a device that is not there", async () => {
    await expect(run("stats --device other")).rejects.toMatchObject({ code: "BLK_E_DEVICE_UNKNOWN" });
  });
});
