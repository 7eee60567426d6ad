import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { command } from "../../src/cli/health.js";
import { type ApiServer, listenApi } from "../../src/control/listen.js";
import { fakeDevice, healthLog } from "../control/support.js";

let directory: string;
let server: ApiServer;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blkforge-"));
  const api = `unix:${join(directory, "api")}`;
  server = await listenApi(api, [fakeDevice("ssd", healthLog).control, fakeDevice("disk").control]);
  vi.stubEnv("BLKFORGE_API", api);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await server.close();
  rmSync(directory, { recursive: true });
});

async function run(...args: string[]): Promise<Buffer> {
  const printed: Uint8Array[] = [];
  const stdout = vi
    .spyOn(process.stdout, "write")
    .mockImplementation((data) => printed.push(Buffer.from(data)) > 0);
  try {
    await command.parseAsync(args, { from: "user" });
  } finally {
    stdout.mockRestore();
  }
  return Buffer.concat(printed);
}

test("health names the device as an argument and prints what nvme smart-log prints", async () => {
  const text = (await run("ssd")).toString();
  expect(text).toMatch(/^Smart Log for NVME device:ssd namespace-id:ffffffff\n/);
  expect(text).toContain("Data Units Written                      : 2 (1.02 MB)\n");
});

test("health --json has the keys of nvme-cli", async () => {
  expect(JSON.parse((await run("ssd", "--json")).toString())).toMatchObject({
    temperature: 311,
    data_units_written: 2,
    thm_temp2_total_time: 12,
  });
});

test("health --binary prints the 512 bytes of the log page", async () => {
  const page = await run("ssd", "--binary");
  expect(page.length).toBe(512);
  expect(page.readUInt16LE(1)).toBe(311);
});

test("health refuses a device that keeps no log, by name", async () => {
  await expect(run("disk")).rejects.toMatchObject({
    code: "BLK_E_HEALTH",
    message: '"disk" keeps no health log',
  });
});
