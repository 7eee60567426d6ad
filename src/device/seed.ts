/**
 * The seed of one device among several of a server.
 *
 * It depends on the server's seed and on the device's name and on nothing else, so what a device decides is the same whoever is
 * served beside it. A device called as its profile keeps the seed as given: `blkforge simulate` with the same seed decides alike.
 */
import { Random } from "../base/random.js";

export function deviceSeed(serverSeed: number, name: string, profileName: string): number {
  return name === profileName ? serverSeed : seedFor(serverSeed, name);
}

/** Of a device's faults: apart for each name, since devices of different profiles may have the same seed. */
export function faultSeed(seed: number, name: string): number {
  return seedFor(seed, name);
}

function seedFor(seed: number, name: string): number {
  return new Random(seed, `device/${name}`).nextInteger(2 ** 53);
}
