/**
 * Every number of the NBD protocol the server speaks, named as in the protocol document, with the section each
 * comes from.
 *
 * Source: NetworkBlockDevice/nbd, `doc/proto.md`. All integers on the wire are big-endian; values of 64 bits stand
 * here as their two 32-bit halves, so that nothing on the hot path needs a BigInt.
 */

/** "Newstyle negotiation": the server's greeting is "NBDMAGIC", then "IHAVEOPT", then its handshake flags. */
export const greetingMagic = Object.freeze({ high: 0x4e42444d, low: 0x41474943 });
/** Also opens every option the client sends. */
export const optionMagic = Object.freeze({ high: 0x49484156, low: 0x454f5054 });
/** "Fixed newstyle negotiation": opens every reply to an option. */
export const optionReplyMagic = Object.freeze({ high: 0x0003e889, low: 0x045565a9 });

export const greetingBytes = 18;
export const clientFlagsBytes = 4;
export const optionHeaderBytes = 16;
export const optionReplyHeaderBytes = 20;
/** Zeros after the answer to EXPORT_NAME, unless both sides set NO_ZEROES. */
export const exportNamePaddingBytes = 124;

/** "Handshake flags" and "Client flags": the same bits in both directions. */
export const HandshakeFlag = Object.freeze({ fixedNewstyle: 1, noZeroes: 2 });

/** "Option types". */
export const Option = Object.freeze({
  exportName: 1,
  abort: 2,
  list: 3,
  starttls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
});

/** "Option reply types". Errors have the top bit set. */
export const OptionReply = Object.freeze({
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: 0x80000001,
  errPolicy: 0x80000002,
  errInvalid: 0x80000003,
  errTlsRequired: 0x80000005,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
  errBlockSizeRequired: 0x80000008,
  errExtendedHeadersRequired: 0x8000000a,
});

/** "Information types" in answers to INFO and GO. */
export const Info = Object.freeze({ export: 0, name: 1, description: 2, blockSize: 3 });

/** "Transmission flags". */
export const TransmissionFlag = Object.freeze({
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
});

/** "Request message". */
export const requestMagic = 0x25609513;
export const requestHeaderBytes = 28;
/** "Simple reply message". */
export const simpleReplyMagic = 0x67446698;
export const simpleReplyBytes = 16;

/** "Structured reply chunk message". */
export const structuredReplyMagic = 0x668e33ef;
export const structuredReplyBytes = 20;

/** "Extended headers": both directions, 64-bit lengths. */
export const extendedRequestMagic = 0x21e41c71;
export const extendedReplyMagic = 0x6e8a278c;
export const extendedHeaderBytes = 32;

/** "Structured reply flags". */
export const ChunkFlag = Object.freeze({ done: 1 << 0 });

/** "Structured reply types". Errors have the top bit set. */
export const ChunkType = Object.freeze({
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  blockStatusExtended: 6,
  error: 0x8001,
  errorOffset: 0x8002,
});

/** "Request types". */
export const Command = Object.freeze({
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
});

/** "Command flags". */
export const CommandFlag = Object.freeze({
  fua: 1 << 0,
  noHole: 1 << 1,
  df: 1 << 2,
  requestOne: 1 << 3,
  fastZero: 1 << 4,
  payloadLength: 1 << 5,
});

/** "Error values": these and no others may stand on the wire. */
export const WireError = Object.freeze({
  none: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
});

/** "Values" of strings: names, descriptions and error texts must not be longer. */
export const maximumStringBytes = 4096;

/** "Size constraints": what every client may rely on when it has not asked for block sizes, and what we advertise. */
export const maximumPayloadBytes = 32 * 1024 * 1024;
