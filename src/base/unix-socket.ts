/**
 * Listening on a Unix socket so that a crash leaves no trouble behind: a socket file that nobody listens on any more
 * is recognised and replaced, one in use is an error that says so, anything else at the path is left alone.
 *
 * Whether somebody listens is asked by connecting: a dead server's socket refuses. Two servers that start at the same
 * instant on the same stale file may both replace it; the later one wins.
 */
import { chmodSync, existsSync, lstatSync, unlinkSync } from "node:fs";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";
import { isMainThread } from "node:worker_threads";
import { BlkError, isSystemError } from "./errors.js";

/** `sun_path` of `struct sockaddr_un` is 108 bytes on Linux and 104 on macOS, the ending zero included. */
const longestPathBytes = process.platform === "linux" ? 107 : 103;

/**
 * Listens on `path`; resolves when clients can connect. Only the user who runs this may connect, unless `mode` says
 * otherwise. Closing the server removes the file.
 *
 * @throws BlkError BLK_E_LISTEN
 */
export async function listenUnix(server: Server, path: string, mode = 0o600): Promise<void> {
  if (Buffer.byteLength(path) > longestPathBytes) {
    throw new BlkError(
      "BLK_E_LISTEN",
      `the socket path "${path}" is longer than the ${longestPathBytes} bytes a Unix socket can have`,
      "Choose a shorter path, in /tmp or /run for example",
    );
  }
  try {
    await listen(server, path, mode);
  } catch (error) {
    if (!isSystemError(error, "EADDRINUSE")) throw cannotListen(path, error);
    await removeStaleSocket(path);
    try {
      await listen(server, path, mode);
    } catch (again) {
      throw cannotListen(path, again);
    }
  }
  chmodSync(path, mode);
}

/** @throws BlkError BLK_E_LISTEN when the file is not a socket, or somebody listens on it. */
async function removeStaleSocket(path: string): Promise<void> {
  const file = lstatSync(path, { throwIfNoEntry: false });
  if (file === undefined) return;
  if (!file.isSocket()) {
    throw new BlkError(
      "BLK_E_LISTEN",
      `"${path}" exists and is not a socket`,
      "Choose another path, or remove it if it is not needed",
    );
  }
  if (await isListening(path)) {
    throw new BlkError(
      "BLK_E_LISTEN",
      `the socket "${path}" is in use by another process`,
      "Choose another path, or stop the server that listens there",
    );
  }
  unlinkSync(path);
}

function listen(server: Server, path: string, mode: number): Promise<void> {
  // The socket is made inside `listen`. Without the mask others could connect before its mode is set; a worker
  // thread may not set the mask, and there the user's own (022 as a rule, which lets nobody else connect) must do.
  const mask = isMainThread ? process.umask(0o777 & ~mode) : null;
  try {
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } finally {
    if (mask !== null) process.umask(mask);
  }
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    // Refused is the mark of a dead server. Any other failure (a full backlog, say) does not prove it dead.
    probe.once("error", (error) => resolve(!isSystemError(error, "ECONNREFUSED")));
  });
}

function cannotListen(path: string, error: unknown): BlkError {
  if (error instanceof BlkError) return error;
  const [what, hint] = reason(path, error);
  return new BlkError("BLK_E_LISTEN", `cannot listen on the socket "${path}": ${what}`, hint, {
    cause: error,
  });
}

function reason(path: string, error: unknown): [what: string, hint: string] {
  // libuv reports a missing directory as EACCES, for likeness with Windows (uv_pipe_bind), so the directory is asked.
  if (!existsSync(dirname(path))) return ["its directory does not exist", "Create the directory first"];
  if (isSystemError(error, "EACCES")) return ["permission denied", "Choose a directory you may write to"];
  if (isSystemError(error, "EADDRINUSE")) {
    return ["another process took it at the same moment", "Choose another path"];
  }
  return [error instanceof Error ? error.message : String(error), "Choose another path"];
}
