/**
 * Accepts clients on vsock, the sockets between a virtual machine and its host, which Node's `net` does not know.
 *
 * Source: vsock(7).
 */
import { randomInt } from "node:crypto";
import { getSystemErrorName } from "node:util";
import { BlkError } from "../base/errors.js";
import { loadNative } from "../base/native.js";
import { DescriptorStream } from "./descriptor-stream.js";
import { formatNbdUri, type NbdUri, type VsockUri } from "./uri.js";

/** VMADDR_CID_ANY of linux/vm_sockets.h. */
const anyCid = 0xff_ff_ff_ff;

/**
 * Where a free port is looked for: the range RFC 6335 sets aside for such. The kernel would choose one of 32 bits, which
 * libnbd cannot read in a URI.
 */
const freePorts = { from: 49_152, to: 65_536 };
/** With a thousand ports in use, all of so many tries hit one with a probability of 1e-38. */
const tries = 32;

/**
 * @param onError what went wrong while a client was accepted, out of descriptors, say: that client is lost, the listener is not
 * @returns the port, the real one when 0 asked for any, and what ends it
 * @throws BlkError BLK_E_LISTEN
 */
export function listenVsock(
  uri: NbdUri & VsockUri,
  onConnection: (stream: DescriptorStream) => void,
  onError: (error: Error) => void,
): { port: number; close(): void } {
  const { bindVsock, Acceptor } = loadNative();
  if (bindVsock === undefined || Acceptor === undefined) {
    throw cannotListen(
      uri,
      "there is no vsock on this system",
      "vsock is Linux's; choose TCP or a Unix socket",
    );
  }
  let { port } = uri;
  let fd = -1;
  for (let i = 0; i < tries; i++) {
    if (uri.port === 0) port = randomInt(freePorts.from, freePorts.to);
    fd = bindVsock(uri.cid ?? anyCid, port);
    if (fd >= 0 || uri.port !== 0 || getSystemErrorName(fd) !== "EADDRINUSE") break;
  }
  if (fd < 0) throw cannotListen(uri, ...reason(uri, fd));
  try {
    const acceptor = new Acceptor(fd, (client) => {
      if (client >= 0) accepted(client, onConnection, onError);
      else onError(new Error(getSystemErrorName(client)));
    });
    return { port, close: () => acceptor.close() };
  } catch (error) {
    throw cannotListen(uri, (error as Error).message, "Choose another address");
  }
}

function accepted(
  fd: number,
  onConnection: (stream: DescriptorStream) => void,
  onError: (error: Error) => void,
): void {
  let stream: DescriptorStream;
  try {
    stream = new DescriptorStream(fd);
  } catch (error) {
    onError(error as Error);
    return;
  }
  onConnection(stream);
}

function reason(uri: VsockUri, errno: number): [what: string, hint: string] {
  const name = getSystemErrorName(errno);
  switch (name) {
    case "EADDRINUSE":
      return [`port ${uri.port} is in use by another process`, "Choose another port; 0 takes any"];
    case "EADDRNOTAVAIL":
      return [
        `${uri.cid} is not an address (CID) of this machine`,
        "Leave it out: nbd+vsock:///name listens for every machine",
      ];
    case "EACCES":
      return [`port ${uri.port} is reserved to root`, "Choose one of 1024 or more"];
    case "EAFNOSUPPORT":
      return ["this kernel has no vsock", "Load its module (modprobe vsock), or choose TCP or a Unix socket"];
    default:
      return [name, "Choose another address"];
  }
}

function cannotListen(uri: NbdUri, what: string, hint: string): BlkError {
  return new BlkError("BLK_E_LISTEN", `cannot listen on ${formatNbdUri(uri)}: ${what}`, hint);
}
