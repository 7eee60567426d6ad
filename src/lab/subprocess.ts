/** Running the machine's own small tools (ldd, xz, apt-get, dpkg-deb) to their end. */
import { spawn } from "node:child_process";

export interface ToolResult {
  status: number;
  stdout: Buffer;
  stderr: string;
}

export interface ToolOptions {
  cwd?: string;
  signal?: AbortSignal;
  /** Milliseconds after which the tool is killed. */
  timeoutMs?: number;
}

/** Runs a tool and collects what it says; messages come in English whatever the user's locale. */
export function runTool(argv: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    });
    const stdout: Buffer[] = [];
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-64 * 1024);
    });
    child.on("error", reject);
    child.on("close", (status) => resolve({ status: status ?? 1, stdout: Buffer.concat(stdout), stderr }));
  });
}
