/**
 * Two permutations that need no memory and are quick both ways, for the layout of a drive that was filled at random.
 *
 * `Shuffle` looks random: a Feistel network over the halves of a number of as few bits as will do; results beyond the
 * count are sent through again. `Lattice` only spreads: index i goes to i * a + c modulo the count, a near the golden
 * section of it, so that any run of indices is spread evenly.
 */
import type { Random } from "../../base/random.js";

const keys = 4;

export class Shuffle {
  private readonly rightBits: number;
  private readonly rightMask: number;
  private readonly leftMask: number;
  private readonly key = new Int32Array(keys);

  /** @param count how many numbers are permuted, 1 to 2^32. */
  constructor(
    private readonly count: number,
    random: Random,
  ) {
    const bits = Math.max(2, Math.ceil(Math.log2(count)));
    this.rightBits = bits - (bits >> 1);
    this.rightMask = 2 ** this.rightBits - 1;
    this.leftMask = 2 ** (bits >> 1) - 1;
    for (let i = 0; i < keys; i++) this.key[i] = random.nextUint32();
  }

  /** The number at a place. */
  at(place: number): number {
    const { key, rightBits, rightMask, leftMask, count } = this;
    let value = place;
    do {
      let left = value >>> rightBits;
      let right = value & rightMask;
      right ^= mix(left ^ key[0]) & rightMask;
      left ^= mix(right ^ key[1]) & leftMask;
      right ^= mix(left ^ key[2]) & rightMask;
      left ^= mix(right ^ key[3]) & leftMask;
      value = ((left << rightBits) | right) >>> 0;
    } while (value >= count);
    return value;
  }

  /** The place of a number: the inverse of `at`. */
  placeOf(number: number): number {
    const { key, rightBits, rightMask, leftMask, count } = this;
    let value = number;
    do {
      let left = value >>> rightBits;
      let right = value & rightMask;
      left ^= mix(right ^ key[3]) & leftMask;
      right ^= mix(left ^ key[2]) & rightMask;
      left ^= mix(right ^ key[1]) & leftMask;
      right ^= mix(left ^ key[0]) & rightMask;
      value = ((left << rightBits) | right) >>> 0;
    } while (value >= count);
    return value;
  }
}

export class Lattice {
  private readonly factor: number;
  private readonly inverse: number;

  /** @param count how many numbers are permuted, 1 to 2^26: products of two of them must be exact. */
  constructor(private readonly count: number) {
    let factor = Math.max(1, Math.round(count * 0.6180339887));
    while (greatestCommonDivisor(factor, count) !== 1) factor++;
    this.factor = factor % count;
    this.inverse = inverseModulo(this.factor, count);
  }

  /** The number at a place of the permutation turned by `turn`. */
  at(place: number, turn: number): number {
    return this.modulo(place * this.factor + turn);
  }

  placeOf(number: number, turn: number): number {
    return this.modulo((number - turn + (number < turn ? this.count : 0)) * this.inverse);
  }

  private modulo(value: number): number {
    return value - Math.floor(value / this.count) * this.count;
  }
}

/** 32 mixed bits (a shortened finalizer of MurmurHash3, A. Appleby). */
function mix(value: number): number {
  let hash = Math.imul(value ^ (value >>> 15), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** x with factor * x = 1 modulo count, by Euclid's extended algorithm. */
function inverseModulo(factor: number, count: number): number {
  let [r0, r1, s0, s1] = [count, factor, 0, 1];
  while (r1 !== 0) {
    const quotient = Math.floor(r0 / r1);
    [r0, r1] = [r1, r0 - quotient * r1];
    [s0, s1] = [s1, s0 - quotient * s1];
  }
  return count === 1 ? 0 : ((s0 % count) + count) % count;
}
