/** A server on a private Unix socket for one test, closed after it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { NbdServer, type NbdServerOptions } from "../../../src/nbd/server.js";

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "blkforge-nbd-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export async function serve(options: NbdServerOptions): Promise<{ server: NbdServer; path: string }> {
  const path = join(temporaryDirectory(), "nbd.sock");
  const server = new NbdServer(options);
  onTestFinished(() => server.close({ deadlineMs: 0 }));
  await server.listen(`nbd+unix:///${encodeURIComponent(options.exports[0].name)}?socket=${path}`);
  return { server, path };
}
