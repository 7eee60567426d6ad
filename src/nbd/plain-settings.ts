/**
 * What native code has to know of a connection to answer its plain requests: reads and writes that are good beyond doubt, of a device
 * that takes the same time for each. Everything else comes to `Transmission`.
 */
import type { NativeService } from "../base/target.js";
import { maximumPayloadBytes, TransmissionFlag } from "./constants.js";
import { minimumBlockBytesOf } from "./export.js";
import type { Session } from "./handshake.js";
import type { NbdLimits } from "./limits.js";
import { keptBytes } from "./moved-socket.js";
import { smallestHoleBytes } from "./read-reply.js";
import type { ReplyMode } from "./replies.js";

const replyModes: readonly ReplyMode[] = ["simple", "structured", "extended"];

/** In the order of `Setting` in native/nbd/plain-requests.h. */
export function plainSettings(
  session: Session,
  { queuedReplyBytes, requestsPerConnection }: NbdLimits,
  { limitBytes }: NativeService,
): Float64Array {
  const mayWrite = (session.transmissionFlags & TransmissionFlag.readOnly) === 0;
  return Float64Array.of(
    replyModes.indexOf(session.replyMode),
    mayWrite ? 1 : 0,
    minimumBlockBytesOf(session.export),
    maximumPayloadBytes,
    smallestHoleBytes,
    keptBytes,
    queuedReplyBytes,
    limitBytes,
    requestsPerConnection,
  );
}
