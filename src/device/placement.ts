/**
 * Which devices share a thread, and who listens where.
 *
 * Devices that share a listening address share a thread, since a client says only after it was accepted which of them it means.
 * Beyond that devices are kept apart, up to a number of threads: on one thread a garbage collection, a file that blocks or a busy
 * device delays its siblings, which shows as their lateness. What must be exact weighs more, so it is the last to get company.
 */
import { assert } from "../base/assert.js";
import { BlkError } from "../base/errors.js";
import { formatNbdUri, type NbdUri, parseNbdUri } from "../nbd/uri.js";
import type { Timing } from "./live-clock.js";
import type { AddressSpec, DeviceSpec } from "./spec.js";

export interface PlacedThread {
  /** Positions in the server's list of devices. */
  devices: number[];
  addresses: AddressSpec[];
}

/** How much a device minds company: one that spins takes its processor anyway. */
const weightOfTiming: Record<Timing, number> = { sleep: 1, hybrid: 2, spin: 4 };

/** An address, with positions in the server's list of devices. */
interface Address {
  uri: NbdUri;
  exports: { device: number; name: string }[];
}

/**
 * @throws BlkError BLK_E_NBD_URI for a URI that cannot be read, or two exports of one name at one address
 */
export function placeDevices(
  devices: readonly Pick<DeviceSpec, "name" | "listen" | "timing">[],
  maximumThreads: number,
): PlacedThread[] {
  assert(devices.length > 0 && maximumThreads > 0, "there is something to place, and a place");
  const { addresses, isClear } = readAddresses(devices);
  const groups = groupByAddress(devices.length, addresses);
  const weightOf = (group: readonly number[]) =>
    group.reduce((sum, device) => sum + weightOfTiming[devices[device].timing], 0);
  const threads = Array.from({ length: Math.min(groups.length, maximumThreads) }, () => ({
    devices: [] as number[],
    weight: 0,
  }));
  // The heaviest first, each to the thread with the least on it; ties keep the order people gave.
  for (const group of groups.toSorted((a, b) => weightOf(b) - weightOf(a))) {
    const lightest = threads.reduce((best, thread) => (thread.weight < best.weight ? thread : best));
    lightest.devices.push(...group);
    lightest.weight += weightOf(group);
  }
  return threads.map((thread) => {
    const placed = thread.devices.toSorted((a, b) => a - b);
    return {
      devices: placed,
      addresses: addresses
        .filter(({ exports }) => placed.includes(exports[0].device))
        .map(({ uri, exports }) => ({
          uri,
          exports: exports.map(({ device, name }) => ({
            device: placed.indexOf(device),
            name,
            isTlsRequired: !isClear.has(device),
          })),
        })),
    };
  });
}

/** Every address once, with the devices exported there; and the devices that some address offers in the clear. */
function readAddresses(devices: readonly Pick<DeviceSpec, "name" | "listen">[]): {
  addresses: Address[];
  isClear: Set<number>;
} {
  const addresses = new Map<string, Address>();
  const isClear = new Set<number>();
  for (const [device, { name: deviceName, listen }] of devices.entries()) {
    for (const text of listen) {
      const uri = parseNbdUri(text);
      if (uri.isTls !== true) isClear.add(device);
      const key = formatNbdUri({ ...uri, exportName: "", isTls: false });
      const address = addresses.get(key) ?? { uri, exports: [] };
      addresses.set(key, address);
      // Whoever demands TLS here demands it of all.
      if (uri.isTls === true) address.uri = uri;
      const name = uri.exportName === "" ? deviceName : uri.exportName;
      const other = address.exports.find((exported) => exported.name === name);
      if (other !== undefined) {
        throw new BlkError(
          "BLK_E_NBD_URI",
          other.device === device
            ? `"${text}" is given twice`
            : `"${text}" names the export "${name}", which is that of device "${devices[other.device].name}" there`,
          other.device === device ? "Leave one out" : "Give them different names",
        );
      }
      address.exports.push({ device, name });
    }
  }
  return { addresses: [...addresses.values()], isClear };
}

/** Devices that share an address, directly or by way of others, in one group. */
function groupByAddress(deviceCount: number, addresses: readonly Address[]): number[][] {
  const groupOf = Array.from({ length: deviceCount }, (_, device) => device);
  for (const { exports } of addresses) {
    const members = new Set(exports.map(({ device }) => groupOf[device]));
    const [first] = members;
    for (let device = 0; device < deviceCount; device++) {
      if (members.has(groupOf[device])) groupOf[device] = first;
    }
  }
  const groups = new Map<number, number[]>();
  for (const [device, group] of groupOf.entries()) groups.set(group, [...(groups.get(group) ?? []), device]);
  return [...groups.values()];
}
