/**
 * One device as its thread serves it: everything built from its spec, what the main thread may ask of it, and its end.
 */
import { existsSync, rmSync } from "node:fs";
import type { Logger } from "pino";
import { BlkError } from "../base/errors.js";
import { RequestTable } from "../base/request.js";
import { type FaultReport, FaultSet, type FaultSpec } from "../fault/set.js";
import { createModel } from "../model/create.js";
import type { NbdServer } from "../nbd/server.js";
import { openFileStore } from "../store/file.js";
import { MemoryStore } from "../store/memory.js";
import type { Store } from "../store/store.js";
import { UblkChannel } from "../ublk/channel.js";
import type { ChannelSetup } from "../ublk/threads.js";
import { Device } from "./device.js";
import { floorsByOperation } from "./floor.js";
import { IdleStates } from "./idle-states.js";
import { KernelLinks } from "./kernel-links.js";
import { LiveClock, spinNsOfTiming } from "./live-clock.js";
import { openRecording, type Recording } from "./recording.js";
import { faultSeed } from "./seed.js";
import type { DeviceDescription, DeviceSpec } from "./spec.js";
import { DeviceStats } from "./stats.js";
import { createZones, refuseZonesInFile, refuseZonesOverNbd } from "./zones.js";

/** Requests in flight over all connections: 8 queues as deep as the Linux client's (128), and room for hung ones. */
const smallestCapacity = 4096;

export interface ServedDeviceOptions {
  spec: DeviceSpec;
  /** Where its counters lie, for the main thread to read. */
  statsBuffer: SharedArrayBuffer;
  log: Logger;
}

export type DeviceMethods = ServedDevice["methods"];

export class ServedDevice {
  readonly spec: DeviceSpec;
  readonly device: Device;

  private readonly log: Logger;
  private readonly clock: LiveClock;
  private readonly store: Store;
  private readonly faults: FaultSet;
  private readonly recording: Recording | null = null;
  /** Whether the image was made by this start: what is undone leaves none behind. */
  private readonly isNewFile: boolean;
  private kernelLinks: KernelLinks | null = null;
  private channel: UblkChannel | null = null;

  /** @throws BlkError what cannot be had; nothing is left behind then. */
  constructor({ spec, statsBuffer, log }: ServedDeviceOptions) {
    this.spec = spec;
    this.log = log;
    if (spec.listen.length > 0) refuseZonesOverNbd(spec);
    refuseZonesInFile(spec);
    this.isNewFile = spec.file !== null && !existsSync(spec.file);
    this.store = openStore(spec);
    const { idleLimitUs = null } = spec;
    this.clock = new LiveClock({
      timing: spec.timing,
      idleStates: idleLimitUs === null ? null : IdleStates.open(idleLimitUs),
    });
    try {
      const { profile } = spec;
      const { sizeBytes } = this.store;
      if (spec.isBlockSizeEnforced && sizeBytes % profile.logicalBlockBytes !== 0) {
        throw new BlkError(
          "BLK_E_SIZE",
          `${sizeBytes} bytes are not whole blocks of ${profile.logicalBlockBytes}`,
          "Choose another --size, or leave out --strict-blocks",
        );
      }
      const requests = new RequestTable(Math.max(smallestCapacity, spec.requestCapacity ?? 0));
      this.faults = new FaultSet({
        seed: faultSeed(spec.seed, spec.name),
        requests,
        sizeBytes,
        onRelease: (holder) => this.device.release(holder),
      });
      for (const fault of spec.faults) this.addFirstFault(fault);
      if (spec.record !== null) this.recording = openRecording(spec, requests, sizeBytes);
      this.device = new Device({
        identity: { ...profile, name: spec.name, isReadOnly: spec.isReadOnly },
        requests,
        store: this.store,
        model: createModel({ profile, requests, seed: spec.seed, sizeBytes }),
        faults: this.faults,
        clock: this.clock,
        stats: new DeviceStats(statsBuffer),
        observer: this.recording?.writer ?? null,
        zones: createZones(spec, this.store),
        floorsNs: spec.floor === undefined ? null : floorsByOperation(spec.floor),
      });
    } catch (error) {
      this.undo();
      throw error;
    }
  }

  /** What the main thread may call. */
  readonly methods = {
    report: () => ({
      uptimeNs: this.clock.nowNs(),
      store: { allocatedBytes: this.store.allocatedBytes() },
      faults: this.faults.list(),
      model: this.device.modelReport(),
    }),
    health: () => this.device.health(),
    addFault: (fault: FaultSpec): FaultReport => {
      // Before it is set: what arrives afterwards is judged by it.
      this.channel?.decideNatively(null);
      const report = this.changed(() => this.faults.add(fault));
      this.log.info({ fault: report }, "fault added");
      return report;
    },
    listFaults: () => this.faults.list(),
    getFault: (name: string) => this.faults.get(name),
    armFault: ({ name, isArmed }: { name: string; isArmed: boolean }) => this.faults.arm(name, isArmed),
    removeFault: (name: string) => this.changed(() => this.faults.remove(name)),
    releaseFault: (name: string) => this.faults.release(name),
    resetFaults: () => this.changed(() => this.faults.reset()),
    openKernelLinks: (wanted: number) => {
      refuseZonesOverNbd(this.spec);
      return this.links().open(wanted);
    },
    nextKernelLinkEnd: () => this.links().nextEnd(),
    openUblk: (setup: ChannelSetup) => this.openUblk(setup),
    closeUblk: () => this.closeUblk(),
    resize: (sizeBytes: number) => this.resize(sizeBytes),
  };

  /** Where connections to the kernel's client are served. */
  linkThrough(server: NbdServer): void {
    this.kernelLinks = new KernelLinks(server, { name: this.spec.name, target: this.device }, this.log);
  }

  describe(uris: string[]): DeviceDescription {
    const { spec } = this;
    return {
      name: spec.name,
      state: "serving",
      profile: spec.profile.name,
      description: spec.profile.description,
      sizeBytes: this.device.sizeBytes,
      seed: spec.seed,
      isReadOnly: spec.isReadOnly,
      timing: spec.timing,
      floorNs: spec.floor ?? null,
      timingReason: spec.timingReason,
      idleLimitUs: spec.idleLimitUs ?? null,
      uris,
    };
  }

  /** Lets every held request go: nobody can release them any more, and a client should not wait for its timeout. */
  releaseAll(): void {
    this.faults.reset();
  }

  /** Once nothing reaches it any more. */
  close(): void {
    this.closeUblk();
    this.clock.close();
    this.recording?.close();
    this.store.close();
  }

  /** Closes a device whose server did not come to be: as if it had never been started. */
  undo(): void {
    this.close();
    if (this.spec.file !== null && this.isNewFile) rmSync(this.spec.file, { force: true });
  }

  /** The message says whose fault it is: nobody is at hand who has just asked for it. */
  private addFirstFault(fault: FaultSpec): void {
    try {
      this.faults.add(fault);
    } catch (error) {
      if (!(error instanceof BlkError)) throw error;
      throw new BlkError(error.code, `device "${this.spec.name}": ${error.message}`, error.hint, {
        cause: error,
      });
    }
  }

  /** Joins the device with the queue threads of a ublk device; they are started afterwards. */
  private openUblk(setup: ChannelSetup): void {
    const { device, clock, spec } = this;
    this.channel = new UblkChannel(device, this.store, {
      ...setup,
      originNs: clock.monotonicOriginNs,
      spinNs: spinNsOfTiming(spec.timing),
    });
    this.channel.decideNatively(device.constantLatenciesNs);
  }

  private closeUblk(): void {
    this.channel?.close();
    this.channel = null;
  }

  /** Whoever changes the faults may change who decides. */
  private changed<T>(change: () => T): T {
    try {
      return change();
    } finally {
      this.channel?.decideNatively(this.device.constantLatenciesNs);
    }
  }

  private links(): KernelLinks {
    if (this.kernelLinks === null) throw new BlkError("BLK_E_INTERNAL", "the device is not served yet");
    return this.kernelLinks;
  }

  /** Answers with the new size. */
  private resize(sizeBytes: number): number {
    const { logicalBlockBytes } = this.spec.profile;
    if (sizeBytes % logicalBlockBytes !== 0) {
      throw new BlkError(
        "BLK_E_SIZE",
        `${sizeBytes} bytes are not a multiple of the ${logicalBlockBytes}-byte logical block`,
        `Choose ${Math.ceil(sizeBytes / logicalBlockBytes) * logicalBlockBytes}`,
      );
    }
    this.device.grow(sizeBytes);
    this.log.info({ sizeBytes }, "resized");
    return this.device.sizeBytes;
  }
}

function openStore(spec: DeviceSpec): Store {
  const { sizeBytes, logicalBlockBytes } = spec.profile;
  if (spec.file === null) {
    const { memoryLimitBytes: limitBytes, isPreallocated = false } = spec;
    return new MemoryStore({ sizeBytes, limitBytes, isPreallocated });
  }
  return openFileStore({
    path: spec.file,
    sizeBytes,
    blockBytes: logicalBlockBytes,
    isSizeGiven: spec.isSizeGiven,
    isReadOnly: spec.isReadOnly,
  });
}
