/**
 * Puts the control API on a Unix socket that only the user who serves may use: no port, no token, no browser that
 * could be talked into calling it. The HTTP server is loaded when it is asked for.
 */
import type { Server } from "node:http";
import { listenUnix } from "../base/unix-socket.js";
import { packageVersion } from "../base/version.js";
import { parseApiAddress } from "./address.js";
import type { DeviceControl } from "./control.js";

/** Clients are people and test scripts: more connections than this are a mistake. */
const maximumConnections = 64;

/** A client that sends half a request is let go after this. */
const requestTimeoutMs = 10_000;

/** Calls under way at close may still be answered for this long. */
const closeDeadlineMs = 1000;

export interface ApiServer {
  /** Answers what is under way, ends every connection, removes the socket. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Serves the control API of `devices` at `unix:PATH`.
 *
 * @throws BlkError BLK_E_USAGE for another kind of address, BLK_E_LISTEN when it cannot be had
 */
export async function listenApi(address: string, devices: readonly DeviceControl[]): Promise<ApiServer> {
  const path = parseApiAddress(address);
  const [{ createAdaptorServer }, { createApi }] = await Promise.all([
    import("@hono/node-server"),
    import("./api.js"),
  ]);
  const app = createApi({ version: packageVersion(), devices });
  const server = createAdaptorServer({
    fetch: app.fetch,
    // The process belongs to the user's device, or to a test that embeds it: its globals stay Node's own.
    overrideGlobalObjects: false,
    serverOptions: { requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs },
  }) as Server;
  server.maxConnections = maximumConnections;
  await listenUnix(server, path);
  let closing: Promise<void> | null = null;
  return {
    close: () => {
      closing ??= close(server);
      return closing;
    },
  };
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const deadline = setTimeout(() => server.closeAllConnections(), closeDeadlineMs);
    server.close(() => {
      clearTimeout(deadline);
      resolve();
    });
    server.closeIdleConnections();
  });
}
