/** The zones of a device in the kernel's words: `struct blk_zone` of `include/uapi/linux/blkzoned.h`, for a report of zones. */
import { ZoneCondition, type ZoneView } from "../base/zone.js";

export const blkZoneBytes = 64;

/** `enum blk_zone_type`. */
const conventionalType = 1;
const sequentialType = 2;

const sectorBytes = 512;

export class ZoneReport {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(
    private readonly zones: ZoneView,
    /** Longest report, in bytes; the driver asks for no longer one. */
    largestBytes: number,
  ) {
    this.bytes = new Uint8Array(Math.min(largestBytes, zones.count * blkZoneBytes));
    this.view = new DataView(this.bytes.buffer);
  }

  /** The zones that begin in the range. The bytes are good until the next call. */
  write(offsetBytes: number, lengthBytes: number): Uint8Array {
    const { zones, bytes } = this;
    const first = Math.ceil(offsetBytes / zones.zoneBytes);
    const wanted = Math.ceil(lengthBytes / zones.zoneBytes);
    const count = Math.min(wanted, zones.count - first, Math.floor(bytes.length / blkZoneBytes));
    for (let index = 0; index < count; index++) this.writeZone(index * blkZoneBytes, first + index);
    return bytes.subarray(0, count * blkZoneBytes);
  }

  private writeZone(at: number, zone: number): void {
    const { zones, view } = this;
    const startBytes = zone * zones.zoneBytes;
    const condition = zones.condition(zone);
    this.writeSectors(at, startBytes);
    this.writeSectors(at + 8, zones.zoneBytes);
    this.writeSectors(at + 16, startBytes + this.writePointerBytes(zone, condition));
    view.setUint8(at + 24, zones.isConventional(zone) ? conventionalType : sequentialType);
    view.setUint8(at + 25, condition);
    // Non-sequential resources, reset recommended, and what is reserved: none of it.
    view.setUint32(at + 26, 0);
    view.setUint16(at + 30, 0);
    this.writeSectors(at + 32, zones.capacityBytes(zone));
  }

  /** What has no write pointer shows the zone's end, as disks do. */
  private writePointerBytes(zone: number, condition: number): number {
    const { zones } = this;
    switch (condition) {
      case ZoneCondition.conventional:
      case ZoneCondition.readOnly:
      case ZoneCondition.offline:
        return zones.zoneBytes;
      default:
        return zones.writePointerBytes(zone);
    }
  }

  /** A u64 in two halves: no BigInt. */
  private writeSectors(at: number, bytes: number): void {
    const sectors = bytes / sectorBytes;
    this.view.setUint32(at, sectors % 2 ** 32, true);
    this.view.setUint32(at + 4, Math.floor(sectors / 2 ** 32), true);
  }
}
