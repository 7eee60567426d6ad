/**
 * TLS on a connection: what a server has to show (a certificate, pre-shared keys, or both), and the switch of a socket.
 *
 * `require` is the protocol's FORCEDTLS; `allow` is SELECTIVETLS, where only the exports marked so need TLS.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "TLS support": TLS 1.2 at least.
 */
import { constants } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import { createServer, type Server, type TlsOptions } from "node:tls";
import { BlkError } from "../base/errors.js";
import type { ByteStream } from "./connection.js";

export type TlsMode = "off" | "allow" | "require";

/** Where the secrets lie, as people name them. */
export interface TlsFiles {
  mode: TlsMode;
  /** PEM files. */
  certificate: string | null;
  key: string | null;
  /** With it clients must show a certificate that this authority has signed. */
  authority: string | null;
  /** Lines of `name:key in hexadecimal`, as GnuTLS's psktool writes them. */
  presharedKeys: string | null;
}

export interface TlsSettings {
  mode: "allow" | "require";
  handshakes: TlsHandshakes;
}

/** Without a certificate a PSK has to do, which Node's default list of ciphers leaves out. */
const ciphersWithPsk = "HIGH:!aNULL:!eNULL:!MD5:!RC4:!3DES:!CAMELLIA:!SRP";

/** More handshakes at once are rare, and cost a server each. */
const maximumIdleServers = 16;

/** @throws BlkError BLK_E_TLS, also for what only shows when certificate and key are put together. */
export function loadTls(files: TlsFiles): TlsSettings | null {
  const { mode, certificate, key, authority, presharedKeys } = files;
  if (mode === "off") return null;
  if ((certificate === null) !== (key === null)) {
    throw fault("a certificate and its key belong together", "Give --tls-cert and --tls-key");
  }
  if (certificate === null && presharedKeys === null) {
    throw fault("TLS needs a certificate or pre-shared keys", "Give --tls-cert and --tls-key, or --tls-psk");
  }
  if (authority !== null && certificate === null) {
    throw fault(
      "clients are verified only beside a certificate of the server's own",
      "Give --tls-cert and --tls-key",
    );
  }
  // No tickets: each client shows each time what it has to show, since nobody could tell from a session what else it was good for.
  const options: TlsOptions = { minVersion: "TLSv1.2", secureOptions: constants.SSL_OP_NO_TICKET };
  if (certificate !== null && key !== null) {
    options.cert = read(certificate);
    options.key = read(key);
  }
  if (authority !== null) {
    options.ca = read(authority);
    options.requestCert = true;
    options.rejectUnauthorized = true;
  }
  if (presharedKeys !== null) {
    const keys = parsePresharedKeys(presharedKeys, read(presharedKeys).toString("utf8"));
    options.ciphers = ciphersWithPsk;
    options.pskCallback = (_socket, identity) => keys.get(identity) ?? null;
  }
  try {
    return { mode, handshakes: new TlsHandshakes(options) };
  } catch (error) {
    throw fault(
      `TLS cannot use what it was given: ${(error as Error).message}`,
      "Give PEM files; the key must be that of the certificate, and not encrypted",
      error,
    );
  }
}

/**
 * The server's part of TLS handshakes.
 *
 * Node checks a client's certificate for a `tls.Server` only, not for a bare `TLSSocket`, and such a server does not tell which of
 * its sockets has become secure. So each handshake has a server to itself, one that never listens, and leaves it to the next when it
 * is over. They are not made anew each time: a server's certificates, keys and list of ciphers lie outside V8's heap, which takes them
 * for a kilobyte and so is in no hurry to collect them.
 */
export class TlsHandshakes {
  private readonly options: TlsOptions;
  private readonly idle: Server[] = [];

  /** @throws Error what OpenSSL has against the options */
  constructor(options: TlsOptions) {
    this.options = options;
    this.idle.push(this.newServer());
  }

  /** `onSecure` is given the stream to go on with. A handshake that fails destroys the socket, which its owner sees as its close. */
  begin(socket: ByteStream, onSecure: (secure: ByteStream) => void, onFailure: (error: Error) => void): void {
    const server = this.idle.pop() ?? this.newServer();
    // One of the two comes, and only once: a socket that closes before it is secure has failed.
    server.once("secureConnection", (secure) => {
      this.leave(server);
      onSecure(secure);
    });
    server.once("tlsClientError", (error) => {
      this.leave(server);
      onFailure(error);
      socket.destroy();
    });
    server.emit("connection", socket as Duplex);
  }

  private newServer(): Server {
    return createServer({ ...this.options, allowHalfOpen: true });
  }

  private leave(server: Server): void {
    server.removeAllListeners("secureConnection");
    server.removeAllListeners("tlsClientError");
    if (this.idle.length < maximumIdleServers) this.idle.push(server);
  }
}

function parsePresharedKeys(path: string, text: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const match = /^([^:]+):((?:[0-9a-f]{2})+)$/i.exec(line.trim());
    if (match === null) {
      throw fault(`"${path}" line ${index + 1} is not a key`, "Write name:key, the key in hexadecimal");
    }
    keys.set(match[1], Buffer.from(match[2], "hex"));
  }
  if (keys.size === 0) throw fault(`"${path}" holds no key`, "Write name:key, the key in hexadecimal");
  return keys;
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fault(
      `"${path}" cannot be read: ${(error as Error).message}`,
      "Check the path and its permissions",
      error,
    );
  }
}

function fault(message: string, hint: string, cause?: unknown): BlkError {
  return new BlkError("BLK_E_TLS", message, hint, { cause });
}
