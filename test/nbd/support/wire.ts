/** What a client writes and expects, byte by byte, with the protocol's numbers written out: an oracle of its own. */

export function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 255]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

export function option(type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from("IHAVEOPT"), u32(type), u32(data.length), data]);
}

/** Data of INFO (6) and GO (7). */
export function infoRequest(name: string, infos: number[] = []): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([u32(bytes.length), bytes, u16(infos.length), ...infos.map(u16)]);
}

export interface RequestFields {
  type: number;
  flags?: number;
  cookie?: bigint;
  offset?: bigint | number;
  length?: number;
  payload?: Buffer;
}

/** A request with extended headers; a payload sets PAYLOAD_LEN (32) unless told otherwise. */
export function extendedRequest({
  type,
  flags,
  cookie = 1n,
  offset = 0,
  length,
  payload,
}: Omit<RequestFields, "length"> & { length?: number | bigint }): Buffer {
  return Buffer.concat([
    u32(0x21e41c71),
    u16(flags ?? (payload === undefined ? 0 : 32)),
    u16(type),
    u64(cookie),
    u64(offset),
    u64(length ?? payload?.length ?? 0),
    payload ?? Buffer.alloc(0),
  ]);
}

/** Data of LIST_META_CONTEXT (9) and SET_META_CONTEXT (10). */
export function metaQuery(name: string, queries: string[]): Buffer {
  const strings = queries.map((query) => Buffer.concat([u32(Buffer.byteLength(query)), Buffer.from(query)]));
  return Buffer.concat([u32(Buffer.byteLength(name)), Buffer.from(name), u32(queries.length), ...strings]);
}

export function request({
  type,
  flags = 0,
  cookie = 1n,
  offset = 0,
  length,
  payload,
}: RequestFields): Buffer {
  return Buffer.concat([
    u32(0x25609513),
    u16(flags),
    u16(type),
    u64(cookie),
    u64(offset),
    u32(length ?? payload?.length ?? 0),
    payload ?? Buffer.alloc(0),
  ]);
}

export const cmd = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  zeroes: 6,
  status: 7,
  resize: 8,
};
export const errno = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
};
