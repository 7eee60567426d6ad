/**
 * Seeded randomness: each consumer draws from a stream of its own, derived from the run's seed and the stream's
 * name, so adding one consumer never changes another's decisions.
 *
 * The generator is sfc32 (C. Doty-Humphrey, PractRand; passes PractRand to 2^40 bytes and more), four 32-bit words
 * of state: it needs only 32-bit integer arithmetic and allocates nothing. Not for cryptography.
 */

export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;
  private spareNormal = Number.NaN;

  /** @param seed any integer up to 2^53. @param stream the consumer's name, such as "fault/error-1". */
  constructor(seed: number, stream: string) {
    // FNV-1a spreads the name; the two halves of the seed fill the other words; twelve rounds mix them.
    let hash = 0x811c9dc5;
    for (let i = 0; i < stream.length; i++) {
      hash = Math.imul(hash ^ stream.charCodeAt(i), 0x01000193);
    }
    this.a = seed | 0;
    this.b = Math.floor(seed / 2 ** 32) | 0;
    this.c = hash | 0;
    for (let i = 0; i < 12; i++) this.nextUint32();
  }

  /** Uniform in [0, 2^32). */
  nextUint32(): number {
    const sum = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum;
    this.c |= 0;
    return sum >>> 0;
  }

  /** Uniform in [0, 1), with 53 bits. */
  next(): number {
    const high = this.nextUint32() >>> 5;
    const low = this.nextUint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Uniform integer in [0, bound), bound up to 2^53. */
  nextInteger(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** Standard normal, by Marsaglia's polar method (two values a round, the second kept). */
  nextNormal(): number {
    if (!Number.isNaN(this.spareNormal)) {
      const value = this.spareNormal;
      this.spareNormal = Number.NaN;
      return value;
    }
    for (;;) {
      const u = 2 * this.next() - 1;
      const v = 2 * this.next() - 1;
      const s = u * u + v * v;
      if (s > 0 && s < 1) {
        const factor = Math.sqrt((-2 * Math.log(s)) / s);
        this.spareNormal = v * factor;
        return u * factor;
      }
    }
  }

  /** Exponential with the given mean. */
  nextExponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }
}
