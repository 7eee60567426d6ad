/**
 * What the main thread tells the device threads, and what they tell it back. Plain data: it crosses by structured clone.
 */
import type { FaultReport, FaultSpec } from "../fault/set.js";
import type { ModelReport } from "../model/model.js";
import type { NbdLimits } from "../nbd/limits.js";
import type { TlsFiles } from "../nbd/tls.js";
import type { NbdUri } from "../nbd/uri.js";
import type { Profile } from "../profile/load.js";
import type { Floor } from "./floor.js";
import type { Timing } from "./live-clock.js";
import type { DeviceCounters } from "./stats.js";

/** One device. */
export interface DeviceSpec {
  /** What people call it: `GET /devices/NAME`, and the export's name. Unique in the server. */
  name: string;
  profile: Profile;
  /** Whether the capacity was asked for; if not, an existing file keeps its own. */
  isSizeGiven: boolean;
  /** Raw image that holds the bytes; memory when null. */
  file: string | null;
  /** Memory the bytes may take when there is no file; a write beyond it ends in `nospc`. */
  memoryLimitBytes: number;
  /** Whether all of that memory is had from the start. */
  isPreallocated?: boolean;
  isReadOnly: boolean;
  /** Whether NBD clients must keep to the profile's logical block. */
  isBlockSizeEnforced: boolean;
  /** Seed of this device alone, see `deviceSeed`. */
  seed: number;
  /** `path=value` as given, for the recording's header. */
  settings: string[];
  /** File to record arrivals and completions in; none when null. */
  record: string | null;
  /** Faults it starts with. */
  faults: FaultSpec[];
  /** NBD URIs to listen on. Devices may share an address; an empty export name stands for the device's own. */
  listen: string[];
  /** How the device waits for the moment a reply is due. */
  timing: Timing;
  /** Why so, for people: "2 processors". */
  timingReason: string;
  /**
   * Idle states of the processors that take longer to leave are kept away, in microseconds, while requests are under way; nothing is asked of
   * them when it is null or left out.
   */
  idleLimitUs?: number | null;
  /** Requests in flight at once, where that is more than the usual. */
  requestCapacity?: number;
  /** What the transport takes by itself, to be taken off the model's latencies. */
  floor?: Floor;
}

/** A server: devices in one process. */
export interface ServerSpec {
  /** At least one, in the order people gave. */
  devices: readonly DeviceSpec[];
  tls: TlsFiles;
  /** Device threads at most. */
  maximumThreads: number;
  /** Clients connected at once, over all devices. */
  maximumConnections: number;
  logLevel: string;
}

export interface DeviceDescription {
  name: string;
  /** "lost" when its thread has died; nothing can be done with it then. */
  state: "serving" | "lost";
  profile: string;
  description: string;
  sizeBytes: number;
  seed: number;
  isReadOnly: boolean;
  timing: Timing;
  timingReason: string;
  /** Idle states of the processors slower than this are kept away while requests are under way; null when they are left alone. */
  idleLimitUs: number | null;
  /** What is taken off the model's latencies for the transport, in nanoseconds; null when nothing is. */
  floorNs: Floor | null;
  uris: string[];
}

export interface DeviceReport extends DeviceCounters {
  uptimeNs: number;
  /** By hardware queue; over ublk only, and part of the whole. */
  queues?: DeviceCounters[];
  store: { allocatedBytes: number };
  faults: FaultReport[];
  /** What the model tells of its state, such as the credits of a cloud volume; empty for most. */
  model: ModelReport;
}

/** An address to listen on, and what is exported there. The first export is the default one. */
export interface AddressSpec {
  /** Its export name means nothing. */
  uri: NbdUri;
  exports: {
    /** Position in the thread's list of devices. */
    device: number;
    name: string;
    /** No address offers it in the clear. */
    isTlsRequired: boolean;
  }[];
}

/** What one device thread serves. */
export interface ThreadSpec {
  devices: { spec: DeviceSpec; statsBuffer: SharedArrayBuffer }[];
  addresses: AddressSpec[];
  tls: TlsFiles;
  limits: Partial<NbdLimits>;
  /** What `ConnectionCount` counts on, and which cell is this thread's. */
  connectionCounts: SharedArrayBuffer;
  index: number;
  logLevel: string;
}
