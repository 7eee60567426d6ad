/**
 * Where the lab keeps what is costly to make: kernels, parts of images, the answer whether KVM works.
 *
 * Everything in it is named by its content or by what it was made from, so nothing ever becomes stale, and all of it
 * can be deleted at any time (`blkforge lab clean`). Several processes may use it at once: an entry is made under a
 * name of its own and then renamed, so a reader sees all of it or none.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { BlkError, isSystemError } from "../base/errors.js";

/** Image parts beyond this are dropped, least recently used first. About ten versions of everything. */
const segmentsLimitBytes = 2 * 2 ** 30;
/** A part used within this time is never dropped: another process may be about to read it. */
const segmentGraceMs = 3600_000;

export class Cache {
  readonly folder: string;

  constructor(folder: string = defaultCacheFolder()) {
    this.folder = folder;
    try {
      for (const name of ["segments", "kernels", "runs", "apt"])
        mkdirSync(join(folder, name), { recursive: true });
    } catch (error) {
      throw new BlkError(
        "BLK_E_VM",
        `the cache folder ${folder} cannot be created (${error instanceof Error ? error.message : error})`,
        "Set BLKFORGE_CACHE to a folder that can be written",
      );
    }
    this.#sweepRuns();
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  /** The path of a cached entry, made by `make` (which is given a path of its own to fill) where it is missing. */
  async entry(
    kind: "segments" | "kernels",
    name: string,
    make: (path: string) => Promise<void>,
  ): Promise<string> {
    const path = this.path(kind, name);
    if (existsSync(path)) {
      const now = new Date();
      utimesSync(path, now, now);
      return path;
    }
    const own = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
    try {
      await make(own);
      renameSync(own, path);
    } catch (error) {
      rmSync(own, { recursive: true, force: true });
      // Another process was faster with the same entry: a folder cannot be renamed onto one that is there.
      const wasFaster = isSystemError(error, "ENOTEMPTY") || isSystemError(error, "EEXIST");
      if (!(wasFaster && existsSync(path))) throw error;
    }
    return path;
  }

  /** A folder for one run of a guest. Whoever asked removes it; what a killed process left, the next start removes. */
  runFolder(): string {
    const path = this.path("runs", `${process.pid}-${randomBytes(4).toString("hex")}`);
    mkdirSync(path);
    return path;
  }

  /** Keeps the image parts below their limit. */
  prune(): void {
    const parts = readdirSync(this.path("segments"))
      .map((name) => ({ path: this.path("segments", name), ...sizeAndTime(this.path("segments", name)) }))
      .sort((a, b) => b.usedMs - a.usedMs);
    let totalBytes = 0;
    for (const part of parts) {
      totalBytes += part.sizeBytes;
      const isIdle = Date.now() - part.usedMs > segmentGraceMs;
      if (isIdle && (totalBytes > segmentsLimitBytes || part.path.endsWith(".tmp"))) {
        rmSync(part.path, { force: true });
      }
    }
  }

  /** Removes everything, and returns how many bytes that freed. */
  clean(): number {
    const freedBytes = treeBytes(this.folder);
    rmSync(this.folder, { recursive: true, force: true });
    return freedBytes;
  }

  #sweepRuns(): void {
    for (const name of readdirSync(this.path("runs"))) {
      const pid = Number(name.split("-")[0]);
      if (!isAlive(pid)) rmSync(this.path("runs", name), { recursive: true, force: true });
    }
  }
}

/** $BLKFORGE_CACHE, else the user's cache folder as the XDG base directory specification has it. */
export function defaultCacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.BLKFORGE_CACHE) return env.BLKFORGE_CACHE;
  return join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "blkforge");
}

function sizeAndTime(path: string): { sizeBytes: number; usedMs: number } {
  const stat = statSync(path, { throwIfNoEntry: false });
  return { sizeBytes: stat?.size ?? 0, usedMs: stat?.mtimeMs ?? 0 };
}

function treeBytes(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    bytes += entry.isDirectory() ? treeBytes(path) : sizeAndTime(path).sizeBytes;
  }
  return bytes;
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives, but is somebody else's.
    return isSystemError(error, "EPERM");
  }
}
