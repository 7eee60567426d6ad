/**
 * What is remembered of an attached ublk device outside of its server, in one file per device: who serves it, and how to
 * serve it again. The kernel knows a device's size and queues; what it behaves like is known here only.
 *
 * The file is written before the device can be used and removed when it is gone, so one that is left tells of a server
 * that was killed. It lies where everything ends with the machine, as ublk devices do.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isSystemError } from "../base/errors.js";

/** Everybody has his own. */
function stateFolder(): string {
  return process.geteuid?.() === 0
    ? "/run/blkforge/ublk"
    : join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), "blkforge-ublk");
}

export interface UblkState {
  schemaVersion: 1;
  id: number;
  /** What the device is called, and its profile. */
  name: string;
  server: ProcessIdentity;
  /** Whether a new server may take the device over. */
  isRecoverable: boolean;
  /** An image that was made for this device and goes with it; null when there is none. */
  ownImage: string | null;
  /** The command line's arguments, for a new server: `attach` reads them again. */
  command: { profile: string; options: Record<string, unknown>; workingDirectory: string };
}

/** Process numbers are used again; with the time of its start, a process is known for sure. */
export interface ProcessIdentity {
  pid: number;
  /** In ticks since the machine's start; null when it is not known. */
  startTicks: string | null;
}

export function identityOf(pid: number): ProcessIdentity {
  return { pid, startTicks: startTicks(pid) };
}

export function isAlive({ pid, startTicks: began }: ProcessIdentity): boolean {
  const ticks = startTicks(pid);
  return ticks !== null && (began === null || began === ticks);
}

export function saveState(state: UblkState): void {
  mkdirSync(stateFolder(), { recursive: true, mode: 0o700 });
  const path = pathOf(state.id);
  // Written aside: who reads it sees all of it or nothing.
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Null when nothing is remembered of it. */
export function loadState(id: number): UblkState | null {
  try {
    const state = JSON.parse(readFileSync(pathOf(id), "utf8")) as UblkState;
    return state.schemaVersion === 1 && state.id === id ? state : null;
  } catch (error) {
    if (isSystemError(error, "ENOENT") || error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Forgets a device, and removes the image that was made for it. */
export function removeState(id: number): void {
  const image = loadState(id)?.ownImage ?? null;
  if (image !== null) rmSync(image, { force: true });
  rmSync(pathOf(id), { force: true });
}

/** Numbers of the devices something is remembered of. */
export function rememberedIds(): number[] {
  try {
    return readdirSync(stateFolder())
      .map((name) => /^(\d+)\.json$/.exec(name)?.[1])
      .filter((id) => id !== undefined)
      .map(Number)
      .sort((a, b) => a - b);
  } catch {
    return [];
  }
}

function pathOf(id: number): string {
  return join(stateFolder(), `${id}.json`);
}

/** Field 22 of /proc/PID/stat; the name before it may contain anything, so it is counted from its end. Null for no process. */
function startTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie serves nobody any more.
    return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
