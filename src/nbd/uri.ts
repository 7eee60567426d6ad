/**
 * NBD URIs: where a server listens and which export is meant, the one notation all NBD tools share.
 *
 *   nbd://host[:port]/export              TCP, port 10809 by default, IPv6 hosts in brackets
 *   nbd+unix:///export?socket=PATH        Unix socket
 *   nbds://…  nbds+unix://…               the same, with TLS
 *   fd:3/export                           a socket somebody else has opened and listens on, by its descriptor
 *
 * Source: NetworkBlockDevice/nbd, `doc/uri.md`. Left out, with a message saying so: vsock. `fd:` is
 * our own. Also left out are abstract Unix sockets (`socket=%00name`): Node 20 fills their names up with NULs to 108 bytes
 * (libuv's uv_pipe_bind), and no other program would find them.
 */
import { BlkError } from "../base/errors.js";
import { maximumStringBytes } from "./constants.js";

export const defaultPort = 10809;

/** `sun_path` of `struct sockaddr_un` has 108 bytes on Linux, the closing NUL among them. */
const maximumSocketPathBytes = 107;

export type NbdUri = (TcpUri | UnixUri | InheritedUri) & {
  /** Whether clients must switch to TLS here. */
  isTls?: boolean;
};

export interface TcpUri {
  transport: "tcp";
  /** Name or address; IPv6 without brackets. */
  host: string;
  port: number;
  exportName: string;
}

export interface InheritedUri {
  transport: "fd";
  fd: number;
  exportName: string;
}

export interface UnixUri {
  transport: "unix";
  path: string;
  exportName: string;
}

const examples = "Write nbd://127.0.0.1:10809/name or nbd+unix:///name?socket=/path";

/**
 * @example
 * parseNbdUri("nbd://127.0.0.1/disk"); // { transport: "tcp", host: "127.0.0.1", port: 10809, exportName: "disk" }
 *
 * @throws BlkError BLK_E_NBD_URI
 */
export function parseNbdUri(text: string): NbdUri {
  const inherited = /^fd:(\d{1,6})(?:\/(.*))?$/is.exec(text);
  if (inherited !== null) {
    return { transport: "fd", fd: Number(inherited[1]), exportName: parseName(text, inherited[2] ?? "") };
  }
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?(#.*)?$/is.exec(text);
  if (match === null) throw fault(text, "is not an NBD URI", examples);
  const [, scheme, authority, path = "", query = "", fragment] = match;
  if (fragment !== undefined) throw fault(text, "has a fragment, which means nothing here", "Write # as %23");
  const exportName = parseName(text, path);
  switch (scheme.toLowerCase()) {
    case "nbd":
      return parseTcp(text, authority, parseQuery(text, query), exportName);
    case "nbd+unix":
      return parseUnix(text, authority, parseQuery(text, query), exportName);
    case "nbds":
      return { ...parseTcp(text, authority, parseQuery(text, query), exportName), isTls: true };
    case "nbds+unix":
      return { ...parseUnix(text, authority, parseQuery(text, query), exportName), isTls: true };
    case "nbd+vsock":
    case "nbds+vsock":
      throw fault(
        text,
        "asks for vsock, which is not supported",
        "Listen on a Unix socket and bridge it: socat VSOCK-LISTEN:10809,fork UNIX-CONNECT:/path",
      );
    default:
      throw fault(text, `has the scheme "${scheme}", which is none of NBD's`, examples);
  }
}

/** The URI a client can be given; the inverse of `parseNbdUri`. */
export function formatNbdUri(uri: NbdUri): string {
  const name = encodePath(uri.exportName);
  const scheme = uri.isTls === true ? "nbds" : "nbd";
  if (uri.transport === "fd") return `fd:${uri.fd}/${name}`;
  if (uri.transport === "unix") return `${scheme}+unix:///${name}?socket=${encodePath(uri.path)}`;
  const host = uri.host.includes(":") ? `[${uri.host}]` : uri.host;
  return `${scheme}://${host}${uri.port === defaultPort ? "" : `:${uri.port}`}/${name}`;
}

function parseName(text: string, path: string): string {
  const name = decode(text, path);
  if (name.includes("\0")) throw fault(text, "has a NUL in the export name", "Leave out %00");
  if (Buffer.byteLength(name) > maximumStringBytes) {
    throw fault(text, "has an export name of more than 4096 bytes", "Choose a shorter one");
  }
  return name;
}

function parseTcp(text: string, authority: string, query: Map<string, string>, exportName: string): TcpUri {
  if (query.has("socket")) {
    throw fault(text, "is a TCP address but names a socket", "Write nbd+unix:// for a Unix socket");
  }
  if (authority.includes("@")) {
    throw fault(text, "names a user, which only TLS could use", "Leave out what precedes the @");
  }
  const match = /^(?:\[([0-9a-f:.]+(?:%25[^\]]+)?)\]|([^:[\]]*))(?::(\d*))?$/i.exec(authority);
  if (match === null) {
    throw fault(text, `has the host "${authority}", which cannot be read`, "Write IPv6 hosts as [::1]");
  }
  const [, bracketed, plain, portText = ""] = match;
  const host = decode(text, bracketed ?? plain ?? "");
  const port = portText === "" ? defaultPort : Number(portText);
  if (port > 65535) throw fault(text, `has the port ${portText}`, "Choose one from 0 (any) to 65535");
  return { transport: "tcp", host: host === "" ? "localhost" : host, port, exportName };
}

function parseUnix(text: string, authority: string, query: Map<string, string>, exportName: string): UnixUri {
  if (authority !== "") {
    throw fault(
      text,
      `names the host "${authority}", but a Unix socket has none`,
      "Write three slashes: nbd+unix:///name?socket=/path",
    );
  }
  const path = query.get("socket");
  if (path === undefined || path === "") {
    throw fault(text, "names no socket", "Add ?socket=/path");
  }
  if (path.startsWith("\0")) {
    throw fault(text, "names an abstract socket, which is not supported", "Name a file: ?socket=/path");
  }
  if (path.includes("\0")) throw fault(text, "has a NUL in the socket's path", "Leave out %00");
  const pathBytes = Buffer.byteLength(path);
  if (pathBytes > maximumSocketPathBytes) {
    throw fault(
      text,
      `names a socket with a path of ${pathBytes} bytes`,
      `Choose one of at most ${maximumSocketPathBytes}, which is all a socket address holds`,
    );
  }
  return { transport: "unix", path, exportName };
}

/** Parameters `x-…` are private to other programs and left alone; all others but `socket` are diagnosed. */
function parseQuery(text: string, query: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const part of query.split(/[&;]/)) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const name = decode(text, equals === -1 ? part : part.slice(0, equals));
    const value = equals === -1 ? "" : decode(text, part.slice(equals + 1));
    if (/^tls-/i.test(name)) {
      throw fault(text, `has the parameter "${name}", which is for clients`, "Give --tls-cert or --tls-psk");
    }
    if (name !== "socket" && !/^x-/i.test(name)) {
      throw fault(text, `has the unknown parameter "${name}"`, "The one known is socket");
    }
    if (parameters.has(name)) throw fault(text, `has the parameter "${name}" twice`, "Leave one out");
    parameters.set(name, value);
  }
  return parameters;
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw fault(text, "has a % that is not followed by two digits of UTF-8", "Write a lone % as %25");
  }
}

/** Percent-encodes all but what may stand in a path, slashes included. */
function encodePath(path: string): string {
  return encodeURIComponent(path).replaceAll("%2F", "/");
}

function fault(text: string, message: string, hint: string): BlkError {
  return new BlkError("BLK_E_NBD_URI", `"${text}" ${message}`, hint);
}
