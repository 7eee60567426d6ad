/**
 * A random permutation of 0 .. n-1 that needs no memory: place i of a shuffled list is computed, not looked up. It
 * covers every block of a device of any size exactly once in random order, and scatters popular blocks over it.
 *
 * A Feistel network over mixed radices: a number is written as (left, right) with left < a, right < b and a * b just
 * above n; each round adds a keyed hash of one half to the other, modulo its radix, which can be undone and so is
 * one-to-one. Results of n and more are sent through again ("cycle walking"), seldom needed as a * b is close to n.
 * (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002.) Not for cryptography.
 */
import type { Random } from "../base/random.js";

/** An even number; six pass the uniformity tests here, the two more cost 10 ns. */
const rounds = 8;

export class Permutation {
  /** Radices of the two halves. */
  private readonly leftCount: number;
  private readonly rightCount: number;
  private readonly keys = new Int32Array(rounds);

  /** @param count how many numbers are permuted, 1 to 2^53. @param random where the keys come from. */
  constructor(
    readonly count: number,
    random: Random,
  ) {
    this.leftCount = Math.max(1, Math.floor(Math.sqrt(count)));
    this.rightCount = Math.ceil(count / this.leftCount);
    this.rekey(random);
  }

  /** Becomes another permutation of the same numbers. */
  rekey(random: Random): void {
    for (let round = 0; round < rounds; round++) this.keys[round] = random.nextUint32();
  }

  /** The number at place `index`, 0 .. count - 1. */
  at(index: number): number {
    let value = index;
    do value = this.encrypt(value);
    while (value >= this.count);
    return value;
  }

  private encrypt(value: number): number {
    const { leftCount, rightCount, keys } = this;
    let left = Math.floor(value / rightCount);
    let right = value - left * rightCount;
    for (let round = 0; round < rounds; round += 2) {
      left += Math.floor((mix(right, keys[round]) / 4294967296) * leftCount);
      if (left >= leftCount) left -= leftCount;
      right += Math.floor((mix(left, keys[round + 1]) / 4294967296) * rightCount);
      if (right >= rightCount) right -= rightCount;
    }
    return left * rightCount + right;
  }
}

/** 32 well-mixed bits of a half and a key (the finalizer of MurmurHash3, A. Appleby). */
function mix(half: number, key: number): number {
  let hash = (half | 0) ^ key;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
