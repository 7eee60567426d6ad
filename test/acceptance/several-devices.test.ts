/** Several devices in one server: exports, faults, streams, threads that die, and an end that leaves nothing. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { DeviceSpec } from "../../src/device/spec.js";
import { loadProfile } from "../../src/profile/load.js";
import { blkforge, command, scratchDirectory, serve, succeed } from "../support/blkforge.js";
import { deviceSpec } from "../support/device-spec.js";
import { describeWith } from "../support/requires.js";

const mebibyte = 1 << 20;

function uriOf(socketPath: string, name: string): string {
  return `nbd+unix:///${name}?socket=${socketPath}`;
}

describeWith(["nbdinfo", "nbdcopy"], "several devices at one address", () => {
  test("are exports of their names with their own descriptions and bytes, the first the default", async () => {
    const server = await serve(["a=instant", "b=fixed", "--size", "1M"]);
    const { exports } = JSON.parse(await succeed("nbdinfo", ["--list", "--json", server.uri])) as {
      exports: { "export-name": string; description: string }[];
    };
    expect(exports.map((exported) => exported["export-name"])).toEqual(["a", "b"]);
    expect(exports[0].description).toBe(loadProfile("instant").description);
    expect(exports[1].description).toBe(loadProfile("fixed").description);
    expect(server.uris).toEqual(["a", "b"].map((name) => uriOf(server.socketPath, name)));

    const directory = scratchDirectory();
    const images = ["a", "b"].map((name) => {
      const image = randomBytes(mebibyte);
      writeFileSync(join(directory, name), image);
      return image;
    });
    await succeed("nbdcopy", [join(directory, "a"), server.uri]);
    await succeed("nbdcopy", [join(directory, "b"), uriOf(server.socketPath, "b")]);
    for (const [index, name] of ["a", "b"].entries()) {
      await succeed("nbdcopy", [uriOf(server.socketPath, name), join(directory, "out")]);
      expect(readFileSync(join(directory, "out")).equals(images[index])).toBe(true);
    }
    expect(await server.stop()).toBe(0);
    expect(existsSync(server.socketPath)).toBe(false);
  });

  test("a fault of one does not touch the others, and the API speaks of each", async () => {
    const directory = scratchDirectory();
    const api = `unix:${join(directory, "api.sock")}`;
    const server = await serve(["a=instant", "b=instant", "--size", "1M", "--api", api]);
    await blkforge(["fault", "add", "error", "--device", "b", "--ops", "read", "--api", api]);
    const copy = (name: string) =>
      command("nbdcopy", ["--no-extents", uriOf(server.socketPath, name), join(directory, "out")]);
    expect((await copy("b")).status).not.toBe(0);
    expect((await copy("a")).status).toBe(0);
    const stats = async (name: string) =>
      JSON.parse((await blkforge(["stats", "--json", "--device", name, "--api", api])).stdout);
    expect(await stats("a")).toMatchObject({ device: "a", faults: [], operations: { read: { errors: 0 } } });
    expect((await stats("b")).operations.read.errors).toBeGreaterThan(0);
    const unnamed = await blkforge(["stats", "--api", api]);
    expect(unnamed.stderr).toContain("2 devices are served");
    expect(unnamed.stderr).toContain("Name one of a, b");
  });
});

describeWith(["qemu-io"], "a file of devices", () => {
  test("gives each its profile, size, settings, image, faults and address", async () => {
    const directory = scratchDirectory();
    const config = join(directory, "devices.yaml");
    const own = join(directory, "own.sock");
    writeFileSync(
      config,
      `
devices:
  - name: log
    profile: instant
    size: 1M
    faults: [{ kind: error, trigger: { ops: [write] } }]
  - name: data
    profile: fixed
    size: 4M
    set: { latency: 1ms, latency.read: 2ms }
    file: data.img
    timing: sleep
    listen: nbd+unix:///?socket=${own}
`,
    );
    const server = await serve(["--config", config]);
    const shown = JSON.parse(await succeed("nbdinfo", ["--json", `nbd+unix:///?socket=${own}`]));
    expect(shown.exports[0]).toMatchObject({ "export-name": "data", "export-size": 4 * mebibyte });
    // Files lie beside the file of devices.
    expect(existsSync(join(directory, "data.img"))).toBe(true);
    expect((await command("qemu-io", ["-f", "raw", "-c", "write 0 4k", server.uri])).status).toBe(1);
    await succeed("qemu-io", ["-f", "raw", "-c", "write 0 4k", "-c", "flush", `nbd+unix:///?socket=${own}`]);
    expect(await server.stop()).toBe(0);
  });
});

test.each([
  ["devices:\n  - { name: a }\n", /devices\.yaml:2:\d+: devices\.0\.profile is missing/],
  [
    "devices:\n  - { profile: instant, sise: 1M }\n",
    /devices\.yaml:2:\d+: devices\.0 has no "sise"\. Did you mean "size"\?/,
  ],
  ["devices: []\n", /must have at least one device/],
  [
    "devices:\n  - { profile: instant, size: [1] }\n",
    /devices\.0\.size must be a size, such as 10G, not \[1\]/,
  ],
  ["device: 1\n", /has no "device"\. Did you mean "devices"\?/],
  [
    "devices:\n  - { profile: instant, size: 1M, faults: [{ kind: nothing }] }\n",
    /BLK_E_FAULT_INVALID.*device "instant"/,
  ],
])("a file of devices that says %j is refused with its line", async (text, message) => {
  const directory = scratchDirectory();
  writeFileSync(join(directory, "devices.yaml"), text);
  const { status, stderr } = await blkforge(["serve", "--config", join(directory, "devices.yaml")]);
  expect(stderr).toMatch(message);
  expect(status).toBe(2);
});

describe("a start that fails", () => {
  test("undoes what other devices, on other threads too, had begun", async () => {
    const directory = scratchDirectory();
    const config = join(directory, "devices.yaml");
    const line = (name: string, file: string) =>
      `  - { name: ${name}, profile: instant, size: 1M, file: ${file}, listen: "nbd+unix:///?socket=${join(directory, `${name}.sock`)}" }\n`;
    writeFileSync(
      config,
      `devices:\n${line("a", "a.img")}${line("b", "missing/b.img")}${line("c", "c.img")}`,
    );
    const { status, stderr } = await blkforge(["serve", "--config", config]);
    expect(status).toBe(2);
    expect(stderr).toContain("missing/b.img");
    expect(readdirSync(directory)).toEqual(["devices.yaml"]);
  });

  test("of two devices with one name says how to name them", async () => {
    const { status, stderr } = await blkforge(["serve", "instant", "instant"]);
    expect(status).toBe(2);
    expect(stderr).toContain('two devices are called "instant"');
    expect(stderr).toContain("instant-1=instant");
  });
});

describeWith(["fio"], "what a device decides", () => {
  /** One request in two delayed by chance: which ones are is the stream. */
  async function hitsOf(devices: string[]): Promise<Record<string, unknown>> {
    const directory = scratchDirectory();
    const api = `unix:${join(directory, "api.sock")}`;
    const server = await serve([...devices, "--size", "1M", "--seed", "11", "--api", api]);
    const names = devices.map((device) => device.split("=")[0]);
    const seen: Record<string, unknown> = {};
    for (const name of names) {
      await blkforge(
        ["fault", "add", "error", "--ops", "read", "--probability", "0.5"].concat([
          "--device",
          name,
          "--api",
          api,
        ]),
      );
      // Reads of 4 KiB in order; those that failed tell the stream.
      const reads = Array.from({ length: 64 }, (_, i) => ["-c", `read ${i * 4}k 4k`]).flat();
      const { stdout, stderr } = await command("qemu-io", [
        "-f",
        "raw",
        ...reads,
        uriOf(server.socketPath, name),
      ]);
      seen[name] = `${stdout}${stderr}`
        .split("\n")
        .filter((line) => /^read (failed|4096)/.test(line))
        .map((line) => line.includes("failed"));
    }
    await server.stop();
    return seen;
  }

  test("differs from its siblings of the same seed and profile, and is the same whoever they are", async () => {
    const alone = await hitsOf(["a=instant", "b=instant"]);
    expect(alone.a).toHaveLength(64);
    expect(alone.a).not.toEqual(alone.b);
    const among = await hitsOf(["b=instant", "z=fixed", "a=instant"]);
    expect(among.a).toEqual(alone.a);
    expect(among.b).toEqual(alone.b);
  });
});

describeWith(["nbdinfo"], "--max-connections", () => {
  test("holds over all devices, on whatever threads they are", async () => {
    const directory = scratchDirectory();
    const sockets = ["a", "b"].map((name) => join(directory, `${name}.sock`));
    const server = await serve(
      [
        ...["a=instant", "b=instant", "--size", "1M", "--threads", "2", "--max-connections", "1"],
        ...["a", "b"].flatMap((name, i) => ["--listen", uriOf(sockets[i], name)]),
      ],
      { isListening: false },
    );
    const client = connect(sockets[0]);
    // The greeting: it is counted.
    await once(client, "data");
    const refused = await command("nbdinfo", [uriOf(sockets[1], "b")]);
    expect(refused.status).not.toBe(0);
    await expect.poll(() => server.stderr(), { timeout: 20_000 }).toContain("refused a client");
    client.destroy();
    await expect
      .poll(async () => (await command("nbdinfo", [uriOf(sockets[1], "b")])).status, { timeout: 20_000 })
      .toBe(0);
  });
});

describeWith(["nbdinfo"], "a thread that dies", () => {
  test("takes its own devices, says so, and leaves the others serving", async () => {
    const { startServer } = (await import(
      resolve("dist/device/host.js")
    )) as typeof import("../../src/device/host.js");
    const directory = scratchDirectory();
    const device = (name: string, socket: string, latencyNs: number) =>
      deviceSpec({
        name,
        profile: {
          ...loadProfile("fixed", { size: "1M" }),
          // Not a number: no profile can say that, and the thread cannot bear it.
          parameters: { latency: [latencyNs, latencyNs, latencyNs, latencyNs, latencyNs] },
        } as DeviceSpec["profile"],
        listen: [`nbd+unix:///?socket=${join(directory, socket)}`],
      });
    const server = await startServer({
      devices: [
        device("broken", "1.sock", Number.NaN),
        device("sibling", "1.sock", 0),
        device("apart", "2.sock", 0),
      ],
      tls: { mode: "off", certificate: null, key: null, authority: null, presharedKeys: null },
      maximumThreads: 2,
      maximumConnections: 8,
      logLevel: "silent",
    });
    onTestFinished(() => server.close());
    await command("qemu-io", ["-f", "raw", "-c", "read 0 4k", uriOf(join(directory, "1.sock"), "broken")]);
    await expect(server.devices[0].ended).rejects.toThrow(/devices "broken", "sibling" died/);
    expect(server.devices.map(({ description }) => description.state)).toEqual(["lost", "lost", "serving"]);
    await expect(server.devices[1].report()).rejects.toThrow(/died/);
    // Its socket went with it.
    await expect.poll(() => existsSync(join(directory, "1.sock")), { timeout: 20_000 }).toBe(false);
    await succeed("nbdinfo", [uriOf(join(directory, "2.sock"), "apart")]);
    await server.close();
    await server.ended.then(
      () => expect.unreachable("a death is not forgotten"),
      (death) => expect(String(death)).toContain("broken"),
    );
    expect(existsSync(join(directory, "2.sock"))).toBe(false);
  });
});

test("the server says how it waits for due times, and why so", async () => {
  const server = await serve(["a=instant", "b=instant", "--size", "1M", "--timing", "sleep"]);
  expect(server.devices).toMatchObject([
    { name: "a", timing: "sleep", timingReason: "asked for" },
    { name: "b", timing: "sleep", timingReason: "asked for" },
  ]);
  const [chosen] = (await serve(["instant", "--size", "1M"])).devices;
  const processors = availableParallelism();
  expect(chosen.timing).toBe(processors > 1 ? "hybrid" : "sleep");
  expect(chosen.timingReason).toMatch(new RegExp(`^${processors} processors?$`));
});
