/**
 * What a request must be refused with, by the protocol and by what was agreed on in the handshake.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`, "Request types", "Command flags" and "Error values".
 */
import { Command, CommandFlag, maximumPayloadBytes, WireError } from "./constants.js";

/** What holds for every request of a connection. */
export interface RequestRules {
  sizeBytes: number;
  isReadOnly: boolean;
  canTrim: boolean;
  canZeroFast: boolean;
  /** A power of two; 1 when alignment is not enforced. */
  alignmentBytes: number;
  /** Structured replies or extended headers: then DF is known. */
  isChunked: boolean;
  /** Extended headers: then every write carries PAYLOAD_LEN. */
  isExtended: boolean;
  hasContexts: boolean;
}

/** The error, `none` when the request is good. The order of the checks is the clients' business too. */
export function checkRequest(
  rules: RequestRules,
  command: number,
  flags: number,
  offsetBytes: number,
  lengthBytes: number,
): number {
  if ((flags & ~allowedFlags(rules, command)) !== 0) return WireError.EINVAL;
  if (command === Command.flush) return WireError.none;
  const isChange = command === Command.write || command === Command.trim || command === Command.writeZeroes;
  const isAboutBlocks = command === Command.read || command === Command.cache;
  if (!isChange && !isAboutBlocks && command !== Command.blockStatus) return WireError.EINVAL;
  if (command === Command.write && rules.isExtended && (flags & CommandFlag.payloadLength) === 0) {
    return WireError.EINVAL;
  }
  if (isChange && rules.isReadOnly) return WireError.EPERM;
  if (command === Command.trim && !rules.canTrim) return WireError.EINVAL;
  if (command === Command.blockStatus && (!rules.hasContexts || lengthBytes === 0)) return WireError.EINVAL;
  const isLarge = lengthBytes > maximumPayloadBytes;
  if (isLarge && (command === Command.read || command === Command.write)) return WireError.EINVAL;
  if (offsetBytes > rules.sizeBytes || lengthBytes > rules.sizeBytes - offsetBytes) {
    const isGrowth = command === Command.write || command === Command.writeZeroes;
    return isGrowth ? WireError.ENOSPC : WireError.EINVAL;
  }
  // A hint need not be taken, but a caching of everything at once would occupy the device for hours.
  if (isLarge && command === Command.cache) return WireError.EOVERFLOW;
  // Both are within the device here, so their remainders are exact.
  if (offsetBytes % rules.alignmentBytes !== 0 || lengthBytes % rules.alignmentBytes !== 0) {
    return WireError.EINVAL;
  }
  if ((flags & CommandFlag.fastZero) !== 0) {
    const isFast = rules.canZeroFast && (flags & CommandFlag.noHole) === 0;
    if (!isFast) return WireError.ENOTSUP;
  }
  return WireError.none;
}

/** FUA is allowed on every command, even where it means nothing. */
function allowedFlags(rules: RequestRules, command: number): number {
  switch (command) {
    case Command.read:
      return rules.isChunked ? CommandFlag.fua | CommandFlag.df : CommandFlag.fua;
    case Command.write:
      return rules.isExtended ? CommandFlag.fua | CommandFlag.payloadLength : CommandFlag.fua;
    case Command.writeZeroes:
      return CommandFlag.fua | CommandFlag.noHole | CommandFlag.fastZero;
    case Command.blockStatus:
      return CommandFlag.fua | CommandFlag.requestOne;
    default:
      return CommandFlag.fua;
  }
}
