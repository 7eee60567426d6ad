/**
 * Listening on one address, and saying clearly why it cannot be done.
 */
import { type AddressInfo, createServer, type ListenOptions, type Server, type Socket } from "node:net";
import { BlkError } from "../base/errors.js";
import { listenUnix } from "../base/unix-socket.js";
import { formatNbdUri, type InheritedUri, type NbdUri } from "./uri.js";

export interface Listener {
  server: Server;
  /** Where clients reach it: with the real port when any was asked for. */
  uri: NbdUri;
}

/** @throws BlkError BLK_E_LISTEN */
export async function listenOn(
  uri: NbdUri,
  keepAliveMs: number,
  onConnection: (socket: Socket) => void,
): Promise<Listener> {
  // Half-open: a client may close its side after DISC and still wait for replies.
  const server = createServer(
    { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs },
    onConnection,
  );
  if (uri.transport === "fd") {
    await listenPlainly(server, { fd: uri.fd }, (error) => explainInherited(uri, error));
    return { server, uri: whereItListens(server, uri) };
  }
  if (uri.transport === "unix") {
    await listenUnix(server, uri.path);
    return { server, uri };
  }
  await listenPlainly(server, { host: uri.host, port: uri.port }, (error) => explain(uri, error));
  return { server, uri: { ...uri, port: (server.address() as AddressInfo).port } };
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
  const [what, hint] = reason(uri, error);
  return new BlkError("BLK_E_LISTEN", `cannot listen on ${formatNbdUri(uri)}: ${what}`, hint, {
    cause: error,
  });
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
