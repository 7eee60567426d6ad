import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { ensurePackages, type PackageHost } from "../../src/lab/packages.js";

/** A machine that has only these programs, and whose apt-get answers with these statuses, one after the other. */
function machine(have: string[], statuses: number[] = [], isRoot = true) {
  const ran: string[] = [];
  const host: PackageHost = {
    isRoot,
    findProgram: (name) => (have.includes(name) ? `/usr/bin/${name}` : undefined),
    async run(argv) {
      ran.push(argv.filter((word) => !/^-o$|::/.test(word)).join(" "));
      const status = statuses.shift() ?? 0;
      if (status === 0 && argv.includes("install"))
        have.push("nbdinfo", "nbdsh", "qemu-img", "nbdkit", "fio");
      return { status, output: "Reading...\nE: Unable to locate package nbdkit\n" };
    },
    confirm: async () => false,
  };
  return { host, ran };
}

const install = "apt-get install -y --no-install-recommends libnbd-bin nbdkit python3-libnbd";

beforeEach(() => vi.stubEnv("CI", ""));
afterEach(() => vi.unstubAllEnvs());

async function refusal(running: Promise<unknown>): Promise<BlkError> {
  const error = await running.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(BlkError);
  return error as BlkError;
}

describe("installing packages", () => {
  test("nothing is run when every program is there", async () => {
    const { host, ran } = machine(["nbdinfo", "nbdsh", "qemu-img", "nbdkit", "fio"]);
    expect(await ensurePackages(["clients"], {}, host)).toEqual([]);
    expect(ran).toEqual([]);
  });

  test("root installs what is missing, and only that", async () => {
    const { host, ran } = machine(["apt-get", "fio", "qemu-img"]);
    expect(await ensurePackages(["clients"], { yes: true }, host)).toEqual([
      "libnbd-bin",
      "nbdkit",
      "python3-libnbd",
    ]);
    expect(ran).toEqual([install]);
  });

  test("a failed install is tried again after an update of the lists", async () => {
    const { host, ran } = machine(["apt-get", "fio", "qemu-img"], [100, 0, 0]);
    await ensurePackages(["clients"], { yes: true }, host);
    expect(ran).toEqual([install, "apt-get update", install]);
  });

  test("what apt said last is in the error", async () => {
    const { host } = machine(["apt-get", "fio", "qemu-img"], [100, 0, 100]);
    const error = await refusal(ensurePackages(["clients"], { yes: true }, host));
    expect(error.message).toContain("E: Unable to locate package nbdkit");
  });

  test("who is not root is told the exact command", async () => {
    const { host, ran } = machine(["apt-get", "fio", "qemu-img"], [], false);
    const error = await refusal(ensurePackages(["clients"], { yes: true }, host));
    expect(error.hint).toBe(`Run: sudo ${install}`);
    expect(ran).toEqual([]);
  });

  test("nothing is installed without consent, except in CI", async () => {
    const asked = machine(["apt-get", "fio", "qemu-img"]);
    await refusal(ensurePackages(["clients"], { interactive: true }, asked.host));
    await refusal(ensurePackages(["clients"], { interactive: false }, asked.host));
    expect(asked.ran).toEqual([]);
    vi.stubEnv("CI", "true");
    await ensurePackages(["clients"], { interactive: false }, asked.host);
    expect(asked.ran).toEqual([install]);
  });
});
