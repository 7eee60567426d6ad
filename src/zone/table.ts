/**
 * The zones of a host-managed zoned device: what may be written where, and what state that leaves a zone in.
 *
 * The state machine is that of the NVMe Zoned Namespace Command Set (figure "Zone State Machine") and of ZBC, which agree but
 * for these points; what Linux and its null_blk (`drivers/block/null_blk/zoned.c`) do is named with them:
 *
 * - A zone that was opened and never written becomes empty when it is closed, as in ZBC and null_blk. ZNS makes it closed.
 * - Closing an empty or full zone fails, as in ZNS and null_blk. ZBC lets it pass.
 * - Finishing an empty or closed zone takes no open zone for the moment, as in ZNS. ZBC and null_blk want one to be free.
 * - A closed zone that is written or opened when every open zone is in use makes way by closing an implicitly open one,
 *   whatever the limit of active zones, as in ZNS and ZBC: their number does not change. null_blk refuses at that limit.
 * - Reads may cross zones and go beyond the write pointer, where they give zeroes: ZNS with "Read Across Zone Boundaries",
 *   ZBC with "unrestricted reads" (URSWRZ). A read of an offline zone fails.
 * - Writing zeroes is a write. A trim frees bytes and leaves the write pointer where it is.
 *
 * Of the implicitly open zones the one longest open is closed for another; the standards leave the choice to the device.
 *
 * A request is judged first and told of afterwards, when its bytes are there (`judge`, `wrote`): a store that has no room
 * leaves the write pointer alone. States live in typed arrays, and nothing is allocated per request.
 */
import { Op, type RequestSlot, type RequestTable } from "../base/request.js";
import { Status } from "../base/status.js";
import { ZoneCondition, type ZoneLayout, type ZoneView } from "../base/zone.js";

const noZone = -1;

export class ZoneTable implements ZoneView {
  readonly zoneBytes: number;
  readonly count: number;
  readonly maxOpen: number;
  readonly maxActive: number;
  readonly maxAppendBytes: number;
  /** Zones that are implicitly open, explicitly open, closed. */
  implicitlyOpenCount = 0;
  explicitlyOpenCount = 0;
  closedCount = 0;

  private readonly conventionalCount: number;
  private readonly sequentialCapacityBytes: number;
  private readonly conditions: Uint8Array;
  private readonly writtenBytes: Float64Array;
  /** Implicitly open zones in the order they were opened: a list through both arrays, from `oldest` to `newest`. */
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private oldest = noZone;
  private newest = noZone;

  /**
   * @param sizeBytes whole zones, as the profile's loader has checked.
   * @param free called for the bytes of a zone that is reset: from then on they read as zero.
   */
  constructor(
    layout: ZoneLayout,
    sizeBytes: number,
    private readonly free: (offsetBytes: number, lengthBytes: number) => Status,
  ) {
    this.zoneBytes = layout.zoneBytes;
    this.count = sizeBytes / layout.zoneBytes;
    this.maxOpen = layout.maxOpen;
    this.maxActive = layout.maxActive;
    this.maxAppendBytes = layout.maxAppendBytes;
    this.conventionalCount = layout.conventionalCount;
    this.sequentialCapacityBytes = layout.capacityBytes;
    this.conditions = new Uint8Array(this.count).fill(ZoneCondition.empty);
    this.conditions.fill(ZoneCondition.conventional, 0, layout.conventionalCount);
    this.writtenBytes = new Float64Array(this.count);
    this.next = new Int32Array(this.count).fill(noZone);
    this.previous = new Int32Array(this.count).fill(noZone);
    for (const zone of layout.readOnly) this.conditions[zone] = ZoneCondition.readOnly;
    for (const zone of layout.offline) this.conditions[zone] = ZoneCondition.offline;
  }

  /** The zone in which a request begins. */
  zoneOf(requests: RequestTable, slot: RequestSlot): number {
    return Math.floor(requests.offsetBytes[slot] / this.zoneBytes);
  }

  isConventional(zone: number): boolean {
    return zone < this.conventionalCount;
  }

  capacityBytes(zone: number): number {
    return this.isConventional(zone) ? this.zoneBytes : this.sequentialCapacityBytes;
  }

  condition(zone: number): number {
    return this.conditions[zone];
  }

  writePointerBytes(zone: number): number {
    return this.conditions[zone] === ZoneCondition.full ? this.zoneBytes : this.writtenBytes[zone];
  }

  /**
   * Whether the rules allow the request; for zone management, does it. An append gets its place:
   * `requests.offsetBytes[slot]` becomes where it will be written.
   *
   * Errors are what the block layer gives for the like of them (`nvme_error_status` in `drivers/nvme/host/core.c`, null_blk):
   * `io` for a broken rule, `openzones` and `activezones` for a limit.
   */
  judge(requests: RequestTable, slot: RequestSlot): Status {
    const offsetBytes = requests.offsetBytes[slot];
    const lengthBytes = requests.lengthBytes[slot];
    const zone = this.zoneOf(requests, slot);
    switch (requests.op[slot]) {
      case Op.read:
        return this.judgeRead(zone, offsetBytes + lengthBytes);
      case Op.write:
      case Op.zeroes:
        return this.judgeWrite(zone, offsetBytes, lengthBytes);
      case Op.append: {
        if (this.isConventional(zone)) return Status.io;
        if (offsetBytes !== zone * this.zoneBytes || lengthBytes > this.maxAppendBytes) return Status.inval;
        const placeBytes = offsetBytes + this.writtenBytes[zone];
        const status = this.judgeWrite(zone, placeBytes, lengthBytes);
        if (status === Status.ok) requests.offsetBytes[slot] = placeBytes;
        return status;
      }
      case Op.trim:
        return this.judgeTrim(zone, offsetBytes + lengthBytes);
      case Op.zoneOpen:
        return this.isConventional(zone) ? Status.io : this.open(zone);
      case Op.zoneClose:
        return this.isConventional(zone) ? Status.io : this.close(zone);
      case Op.zoneFinish:
        return this.isConventional(zone) ? Status.io : this.finish(zone);
      case Op.zoneReset:
        return this.isConventional(zone) ? Status.io : this.reset(zone);
      case Op.zoneResetAll:
        return this.resetAll();
      default:
        // Flushes and reports.
        return Status.ok;
    }
  }

  /** The bytes of a write, append or write-zeroes that `judge` allowed are there. */
  wrote(requests: RequestTable, slot: RequestSlot): void {
    const zone = this.zoneOf(requests, slot);
    if (this.isConventional(zone)) return;
    this.writtenBytes[zone] += requests.lengthBytes[slot];
    if (this.writtenBytes[zone] === this.sequentialCapacityBytes) this.move(zone, ZoneCondition.full);
  }

  private judgeRead(zone: number, endBytes: number): Status {
    for (let each = zone; each * this.zoneBytes < endBytes; each++) {
      if (this.conditions[each] === ZoneCondition.offline) return Status.io;
    }
    return Status.ok;
  }

  private judgeTrim(zone: number, endBytes: number): Status {
    for (let each = zone; each * this.zoneBytes < endBytes; each++) {
      const condition = this.conditions[each];
      if (condition === ZoneCondition.offline || condition === ZoneCondition.readOnly) return Status.io;
    }
    return Status.ok;
  }

  /** Opens the zone implicitly when the write is good and the zone is not open. */
  private judgeWrite(zone: number, offsetBytes: number, lengthBytes: number): Status {
    const startBytes = zone * this.zoneBytes;
    const endBytes = offsetBytes + lengthBytes - startBytes;
    if (this.isConventional(zone)) {
      // One that runs on into a sequential zone would have to begin at that zone's write pointer.
      return endBytes <= this.zoneBytes ||
        this.isConventional(zone + Math.ceil(endBytes / this.zoneBytes) - 1)
        ? Status.ok
        : Status.io;
    }
    const condition = this.conditions[zone];
    switch (condition) {
      case ZoneCondition.full:
      case ZoneCondition.readOnly:
      case ZoneCondition.offline:
        return Status.io;
    }
    if (offsetBytes - startBytes !== this.writtenBytes[zone]) return Status.io;
    if (endBytes > this.sequentialCapacityBytes) return Status.io;
    if (condition === ZoneCondition.empty || condition === ZoneCondition.closed) {
      const status = this.makeRoom(condition);
      if (status !== Status.ok) return status;
      this.move(zone, ZoneCondition.implicitlyOpen);
    }
    return Status.ok;
  }

  private open(zone: number): Status {
    const condition = this.conditions[zone];
    switch (condition) {
      case ZoneCondition.explicitlyOpen:
        return Status.ok;
      case ZoneCondition.empty:
      case ZoneCondition.closed: {
        const status = this.makeRoom(condition);
        if (status !== Status.ok) return status;
        break;
      }
      case ZoneCondition.implicitlyOpen:
        break;
      default:
        return Status.io;
    }
    this.move(zone, ZoneCondition.explicitlyOpen);
    return Status.ok;
  }

  private close(zone: number): Status {
    switch (this.conditions[zone]) {
      case ZoneCondition.closed:
        return Status.ok;
      case ZoneCondition.implicitlyOpen:
      case ZoneCondition.explicitlyOpen:
        this.move(zone, this.writtenBytes[zone] === 0 ? ZoneCondition.empty : ZoneCondition.closed);
        return Status.ok;
      default:
        return Status.io;
    }
  }

  private finish(zone: number): Status {
    switch (this.conditions[zone]) {
      case ZoneCondition.readOnly:
      case ZoneCondition.offline:
        return Status.io;
      default:
        this.move(zone, ZoneCondition.full);
        return Status.ok;
    }
  }

  private reset(zone: number): Status {
    switch (this.conditions[zone]) {
      case ZoneCondition.readOnly:
      case ZoneCondition.offline:
        return Status.io;
      default:
        this.move(zone, ZoneCondition.empty);
        if (this.writtenBytes[zone] === 0) return Status.ok;
        this.writtenBytes[zone] = 0;
        return this.free(zone * this.zoneBytes, this.zoneBytes);
    }
  }

  /** Zones that cannot be written any more are passed over. */
  private resetAll(): Status {
    let status: Status = Status.ok;
    for (let zone = this.conventionalCount; zone < this.count; zone++) {
      const condition = this.conditions[zone];
      if (condition === ZoneCondition.readOnly || condition === ZoneCondition.offline) continue;
      const failure = this.reset(zone);
      if (failure !== Status.ok) status = failure;
    }
    return status;
  }

  /** Sees to it that one more zone, now empty or closed, can be opened. */
  private makeRoom(condition: number): Status {
    const openCount = this.implicitlyOpenCount + this.explicitlyOpenCount;
    const isNewlyActive = condition === ZoneCondition.empty;
    if (isNewlyActive && this.maxActive > 0 && openCount + this.closedCount >= this.maxActive) {
      return Status.activezones;
    }
    if (this.maxOpen === 0 || openCount < this.maxOpen) return Status.ok;
    if (this.oldest === noZone) return Status.openzones;
    this.close(this.oldest);
    return Status.ok;
  }

  /** Puts a zone into another condition, and into the counts and the list that go with it. */
  private move(zone: number, condition: number): void {
    switch (this.conditions[zone]) {
      case ZoneCondition.implicitlyOpen:
        this.implicitlyOpenCount--;
        this.unlink(zone);
        break;
      case ZoneCondition.explicitlyOpen:
        this.explicitlyOpenCount--;
        break;
      case ZoneCondition.closed:
        this.closedCount--;
        break;
    }
    this.conditions[zone] = condition;
    switch (condition) {
      case ZoneCondition.implicitlyOpen:
        this.implicitlyOpenCount++;
        this.link(zone);
        break;
      case ZoneCondition.explicitlyOpen:
        this.explicitlyOpenCount++;
        break;
      case ZoneCondition.closed:
        this.closedCount++;
        break;
    }
  }

  private link(zone: number): void {
    this.previous[zone] = this.newest;
    this.next[zone] = noZone;
    if (this.newest === noZone) this.oldest = zone;
    else this.next[this.newest] = zone;
    this.newest = zone;
  }

  private unlink(zone: number): void {
    const before = this.previous[zone];
    const after = this.next[zone];
    if (before === noZone) this.oldest = after;
    else this.next[before] = after;
    if (after === noZone) this.newest = before;
    else this.previous[after] = before;
  }
}
