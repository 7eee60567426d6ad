/**
 * Whether KVM works here, found out by using it.
 *
 * `/dev/kvm` being there proves nothing: in a nested or restricted VM, QEMU may abort or hang with it. So a tiny guest
 * is booted under KVM with a deadline, once per host boot, kernel and QEMU, and the answer is kept in the cache.
 */
import { createHash } from "node:crypto";
import { accessSync, constants, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BlkError } from "../base/errors.js";
import type { Cache } from "./cache.js";
import { renderCommand, renderConfig } from "./guest-init.js";
import { baseEntries, kernelEntries, segment, writeInitramfs } from "./image.js";
import type { Kernel } from "./kernel.js";
import { type Accelerator, startMachine } from "./machine.js";
import { findProgram } from "./packages.js";
import { runSession } from "./session.js";
import { runTool } from "./subprocess.js";

/** Under KVM a guest this small is up in about a second; QEMU that has not got there by now hangs. */
const probeDeadlineMs = 20_000;

interface Verdict {
  works: boolean;
  reason: string;
}

/**
 * @param wanted "kvm" insists, "tcg" needs no probe, "auto" takes KVM where it works.
 * @throws BlkError BLK_E_VM when KVM is insisted on and does not work.
 */
export async function chooseAccelerator(
  cache: Cache,
  kernel: Kernel,
  wanted: Accelerator | "auto",
  options: { onProgress?: (text: string) => void; signal?: AbortSignal } = {},
): Promise<Accelerator> {
  if (wanted === "tcg") return "tcg";
  const verdict = deviceVerdict() ?? (await cachedVerdict(cache, kernel, options));
  if (verdict.works) return "kvm";
  if (wanted === "auto") return "tcg";
  throw new BlkError(
    "BLK_E_VM",
    `KVM does not work here: ${verdict.reason}`,
    "Use --accel tcg, or leave it out",
  );
}

function deviceVerdict(): Verdict | undefined {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return { works: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

async function cachedVerdict(
  cache: Cache,
  kernel: Kernel,
  options: { onProgress?: (text: string) => void; signal?: AbortSignal },
): Promise<Verdict> {
  const version = await runTool([findProgram("qemu-system-x86_64") ?? "qemu-system-x86_64", "--version"]);
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8");
  const key = createHash("sha256")
    .update(`${version.stdout}${bootId}${kernel.release}`)
    .digest("hex")
    .slice(0, 16);
  const path = cache.path(`kvm-${key}.json`);
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Verdict;
  } catch {
    // Not probed yet.
  }
  options.onProgress?.("Trying KVM");
  const verdict = await probe(cache, kernel, options.signal);
  writeFileSync(`${path}.${process.pid}`, JSON.stringify(verdict));
  renameSync(`${path}.${process.pid}`, path);
  return verdict;
}

async function probe(cache: Cache, kernel: Kernel, signal?: AbortSignal): Promise<Verdict> {
  const folder = cache.runFolder();
  try {
    const config = renderConfig({
      hasDevice: false,
      transport: "nbd",
      connections: 1,
      blockSizeBytes: 512,
      input: "none",
      rows: 25,
      columns: 80,
    });
    const initramfsPath = join(folder, "initramfs");
    const segments = [
      await segment(cache, "base", baseEntries()),
      await segment(cache, "modules", await kernelEntries(kernel, [], signal)),
    ];
    await writeInitramfs(initramfsPath, segments, [
      { kind: "file", path: "lab/config", content: Buffer.from(config), isExecutable: false },
      {
        kind: "file",
        path: "lab/command.sh",
        content: Buffer.from(renderCommand(["true"])),
        isExecutable: false,
      },
    ]);
    const machine = startMachine({
      kernel,
      initramfsPath,
      folder,
      accelerator: "kvm",
      time: "real",
      cpus: 1,
      memoryBytes: 256 * 2 ** 20,
      hasConsole: false,
      seed: 1,
    });
    await runSession(machine, {
      hasDevice: false,
      deadlinesMs: {
        boot: probeDeadlineMs,
        serve: probeDeadlineMs,
        attach: probeDeadlineMs,
        command: probeDeadlineMs,
        detach: probeDeadlineMs,
        "power off": probeDeadlineMs,
      },
      ...(signal === undefined ? {} : { signal }),
    });
    return { works: true, reason: "" };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof BlkError)) throw error;
    return { works: false, reason: error.message.trim() };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
