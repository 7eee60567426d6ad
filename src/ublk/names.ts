/** What a ublk device is called. */
export function deviceName(id: number): string {
  return `ublkb${id}`;
}

export function devicePath(id: number): string {
  return `/dev/${deviceName(id)}`;
}

/** The n of "/dev/ublkbn"; null when it is no such path. */
export function readDeviceId(path: string): number | null {
  const match = /^(?:\/dev\/)?ublk[bc]?(\d{1,6})$/.exec(path);
  return match === null ? null : Number(match[1]);
}
