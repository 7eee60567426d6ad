/**
 * Listening on one address, and saying clearly why it cannot be done.
 */
import { type AddressInfo, createServer, type ListenOptions, type Server } from "node:net";
import { getSystemErrorName } from "node:util";
import { BlkError } from "../base/errors.js";
import { loadNative } from "../base/native.js";
import { listenUnix } from "../base/unix-socket.js";
import type { ByteStream } from "./connection.js";
import {
  formatNbdUri,
  type InheritedUri,
  isAbstract,
  type NbdUri,
  type UnixUri,
  type VsockUri,
} from "./uri.js";
import { listenVsock } from "./vsock-listener.js";

export interface Listener {
  /** Where clients reach it: with the real port when any was asked for. */
  uri: NbdUri;
  /** Accepts nobody any more, and removes a Unix socket's file. */
  close(): void;
}

/**
 * @param onError what went wrong while a client was accepted, out of descriptors, say: that client is lost, the listener is not
 * @throws BlkError BLK_E_LISTEN
 */
export async function listenOn(
  uri: NbdUri,
  keepAliveMs: number,
  onConnection: (socket: ByteStream) => void,
  onError: (error: Error) => void,
): Promise<Listener> {
  if (uri.transport === "vsock") {
    const { port, close } = listenVsock(uri, onConnection, onError);
    return { uri: { ...uri, port }, close };
  }
  // Half-open: a client may close its side after DISC and still wait for replies.
  const server = createServer(
    { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs },
    onConnection,
  );
  const told = await listenWithNet(server, uri);
  server.on("error", onError);
  return { uri: told, close: () => server.close() };
}

/** Returns where clients reach it. */
async function listenWithNet(server: Server, uri: Exclude<NbdUri, VsockUri>): Promise<NbdUri> {
  switch (uri.transport) {
    case "fd":
      await listenPlainly(server, { fd: uri.fd }, (error) => explainInherited(uri, error));
      return whereItListens(server, uri);
    case "unix":
      if (isAbstract(uri)) {
        await listenPlainly(server, { fd: bindAbstract(uri) }, (error) => explain(uri, error));
      } else {
        await listenUnix(server, uri.path);
      }
      return uri;
    case "tcp":
      await listenPlainly(server, { host: uri.host, port: uri.port }, (error) => explain(uri, error));
      return { ...uri, port: (server.address() as AddressInfo).port };
  }
}

/** Node 20 fills abstract names up with NULs to 108 bytes (libuv's uv_pipe_bind), and no other program would find them. */
function bindAbstract(uri: NbdUri & UnixUri): number {
  const { bindAbstract: bind } = loadNative();
  if (bind === undefined) {
    throw cannotListen(uri, "there are no abstract sockets on this system", "Name a file: ?socket=/path");
  }
  const fd = bind(Buffer.from(uri.path.slice(1)));
  if (fd >= 0) return fd;
  const name = getSystemErrorName(fd);
  throw cannotListen(
    uri,
    name === "EADDRINUSE" ? "another process listens there" : name,
    "Choose another name",
  );
}

function listenPlainly(
  server: Server,
  where: ListenOptions | { fd: number },
  explained: (error: NodeJS.ErrnoException) => BlkError,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException) => reject(explained(error));
    server.once("error", onError);
    server.listen(where, () => {
      server.off("error", onError);
      resolve();
    });
  });
}

/** What clients can reach an inherited socket by: Node tells the address of TCP sockets only. */
function whereItListens(server: Server, uri: NbdUri & InheritedUri): NbdUri {
  const { exportName, isTls = false } = uri;
  const address = server.address() ?? "";
  if (typeof address === "string") return uri;
  return { transport: "tcp", host: address.address, port: address.port, exportName, isTls };
}

function explainInherited(uri: InheritedUri, error: NodeJS.ErrnoException): BlkError {
  return new BlkError(
    "BLK_E_LISTEN",
    `descriptor ${uri.fd} cannot be listened on: ${error.message}`,
    "Hand over a bound Unix or TCP socket, as systemd's socket units do; a connection that somebody else has accepted " +
      "(inetd, Accept=yes) is not served",
    { cause: error },
  );
}

function explain(uri: NbdUri, error: NodeJS.ErrnoException): BlkError {
  return cannotListen(uri, ...reason(uri, error), error);
}

function cannotListen(uri: NbdUri, what: string, hint: string, cause?: Error): BlkError {
  return new BlkError("BLK_E_LISTEN", `cannot listen on ${formatNbdUri(uri)}: ${what}`, hint, { cause });
}

function reason(uri: NbdUri, error: NodeJS.ErrnoException): [what: string, hint: string] {
  if (uri.transport !== "tcp") return [error.message, "Choose another name"];
  switch (error.code) {
    case "EADDRINUSE":
      return [
        `port ${uri.port} is in use by another process`,
        "Choose another port (0 takes any), or stop the server that listens there",
      ];
    case "EACCES":
      return [`port ${uri.port} is reserved to root`, "Choose one of 1024 or more"];
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return [
        `"${uri.host}" is not an address of this machine`,
        "Choose 127.0.0.1 for clients on this machine, 0.0.0.0 for all",
      ];
    default:
      return [error.message, "Choose another address"];
  }
}
