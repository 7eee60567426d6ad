/**
 * Listening on one address, and saying clearly why it cannot be done.
 */
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { BlkError } from "../base/errors.js";
import { listenUnix } from "../base/unix-socket.js";
import { formatNbdUri, type NbdUri, type TcpUri } from "./uri.js";

export interface Listener {
  server: Server;
  /** Where clients reach it: with the real port when any was asked for. */
  uri: NbdUri;
}

/** @throws BlkError BLK_E_LISTEN */
export async function listenOn(uri: NbdUri, onConnection: (socket: Socket) => void): Promise<Listener> {
  // Half-open: a client may close its side after DISC and still wait for replies.
  const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, onConnection);
  if (uri.transport === "unix") {
    await listenUnix(server, uri.path);
    return { server, uri };
  }
  await listenTcp(server, uri);
  return { server, uri: { ...uri, port: (server.address() as AddressInfo).port } };
}

function listenTcp(server: Server, uri: TcpUri): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException) => reject(explain(uri, error));
    server.once("error", onError);
    server.listen({ host: uri.host, port: uri.port }, () => {
      server.off("error", onError);
      resolve();
    });
  });
}

function explain(uri: TcpUri, error: NodeJS.ErrnoException): BlkError {
  const [what, hint] = reason(uri, error);
  return new BlkError("BLK_E_LISTEN", `cannot listen on ${formatNbdUri(uri)}: ${what}`, hint, {
    cause: error,
  });
}

function reason(uri: TcpUri, error: NodeJS.ErrnoException): [what: string, hint: string] {
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
