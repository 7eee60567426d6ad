/**
 * NBD URIs: where a server listens and which export is meant, the one notation all NBD tools share.
 *
 *   nbd://host[:port]/export              TCP, port 10809 by default, IPv6 hosts in brackets
 *   nbd+unix:///export?socket=PATH        Unix socket
 *                                         …?socket=%00NAME: an abstract one
 *   nbd+vsock://[cid][:port]/export       between a virtual machine and its host; without a CID for whoever connects
 *   nbds://…  nbds+unix://…  nbds+vsock://…   the same, with TLS
 *   fd:3/export                           a socket somebody else has opened and listens on, by its descriptor
 *
 * Source: NetworkBlockDevice/nbd, `doc/uri.md`. `fd:` and abstract names are our own.
 */
import { BlkError } from "../base/errors.js";
import { maximumStringBytes } from "./constants.js";

export const defaultPort = 10809;

/** `sun_path` of `struct sockaddr_un` has 108 bytes on Linux, the closing NUL among them. */
const maximumSocketPathBytes = 107;

export type NbdUri = (TcpUri | UnixUri | VsockUri | InheritedUri) & {
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
  /** Of the socket's file; after a NUL, an abstract name. */
  path: string;
  exportName: string;
}

export interface VsockUri {
  transport: "vsock";
  /** Address of a machine: 2 the host, 1 this one; null for all this machine has. */
  cid: number | null;
  port: number;
  exportName: string;
}

export function isAbstract({ path }: UnixUri): boolean {
  return path.startsWith("\0");
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
      return parseVsock(text, authority, parseQuery(text, query), exportName);
    case "nbds+vsock":
      return { ...parseVsock(text, authority, parseQuery(text, query), exportName), isTls: true };
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
  const port = uri.port === defaultPort ? "" : `:${uri.port}`;
  if (uri.transport === "vsock") return `${scheme}+vsock://${uri.cid ?? ""}${port}/${name}`;
  const host = uri.host.includes(":") ? `[${uri.host}]` : uri.host;
  return `${scheme}://${host}${port}/${name}`;
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
  if (path === "\0") throw fault(text, "names no socket", "Write the abstract name after %00");
  if (path.includes("\0", 1)) throw fault(text, "has a NUL in the socket's path", "Leave out %00");
  const pathBytes = Buffer.byteLength(path);
  // An abstract name needs no NUL at its end.
  if (pathBytes > maximumSocketPathBytes + (path.startsWith("\0") ? 1 : 0)) {
    throw fault(
      text,
      `names a socket with a path of ${pathBytes} bytes`,
      `Choose one of at most ${maximumSocketPathBytes}, which is all a socket address holds`,
    );
  }
  return { transport: "unix", path, exportName };
}

function parseVsock(
  text: string,
  authority: string,
  query: Map<string, string>,
  exportName: string,
): VsockUri {
  if (query.has("socket")) {
    throw fault(text, "is a vsock address but names a socket", "Write nbd+unix:// for a Unix socket");
  }
  const match = /^(\d{0,10})(?::(\d{0,10}))?$/.exec(authority);
  if (match === null) {
    throw fault(
      text,
      `has the address "${authority}", which is not CID:port`,
      "Write nbd+vsock://:10809/name, or the number of a machine before the colon",
    );
  }
  const [, cid, port = ""] = match;
  // 4294967295 is "any" for the kernel: said here by leaving the CID out, and by port 0.
  for (const number of [cid, port]) {
    if (Number(number) >= 0xff_ff_ff_ff)
      throw fault(text, `has the number ${number}`, "CIDs and ports have 32 bits");
  }
  return {
    transport: "vsock",
    cid: cid === "" ? null : Number(cid),
    port: port === "" ? defaultPort : Number(port),
    exportName,
  };
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
