/** What docs/faults.md shows is run: every command of its `sh` blocks, every fault of its `json` blocks. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { failureNames } from "../../src/base/status.js";
import { command as fault } from "../../src/cli/fault.js";
import { command as stats } from "../../src/cli/stats.js";
import { type ApiServer, listenApi } from "../../src/control/listen.js";
import { hostViewOfStatus } from "../../src/fault/host-view.js";
import { faultKinds } from "../../src/fault/kinds.js";
import { triggerSchema } from "../../src/fault/trigger.js";
import { type FakeDevice, fakeDevice } from "../control/support.js";

const page = readFileSync(new URL("../../docs/faults.md", import.meta.url), "utf8");

let directory: string;
let device: FakeDevice;
let server: ApiServer;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blkforge-"));
  device = fakeDevice();
  const api = `unix:${join(directory, "api")}`;
  server = await listenApi(api, [device.control]);
  vi.stubEnv("BLKFORGE_API", api);
  vi.spyOn(process.stdout, "write").mockReturnValue(true);
});

afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await server.close();
  rmSync(directory, { recursive: true });
});

function blocks(language: string): string[] {
  return [...page.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms"))].map((match) => match[1]);
}

describe("docs/faults.md", () => {
  test.each(blocks("sh").map((block) => [block.trim().split("\n")]))("runs: %j", async (lines) => {
    for (const line of lines) {
      if (line.startsWith("export BLKFORGE_API=")) continue;
      const [program, name, ...args] = line.split(/\s+/);
      expect(program).toBe("blkforge");
      await (name === "fault" ? fault : stats).parseAsync(args, { from: "user" });
    }
  });

  test.each(blocks("json"))("shows a fault that can be set: %s", (text) => {
    const { name } = JSON.parse(text) as { name: string };
    expect(device.bench.faults.add(JSON.parse(text)).name).toBe(name);
  });

  test("names every kind, option, status and field of the trigger", () => {
    for (const kind of faultKinds) {
      expect(page).toContain(`### ${kind.name}\n`);
      for (const option of kind.optionNames) expect(page).toContain(`| \`${option}\` |`);
    }
    for (const status of failureNames) expect(page).toContain(`\`${status}\``);
    for (const field of Object.keys(triggerSchema.shape)) expect(page).toContain(`| \`${field}\` | \`--`);
  });

  test("says of each status what the host sees", () => {
    const others = /^\| all others \| EIO \| (\w+) \|$/m.exec(page)?.[1];
    for (const status of failureNames) {
      const row = new RegExp(`^\\| [^|]*\`${status}\`[^|]* \\| EIO \\| (\\w+) \\|$`, "m").exec(page)?.[1];
      expect([status, row ?? others]).toEqual([status, hostViewOfStatus(status)["nbd-user"]]);
    }
  });
});
