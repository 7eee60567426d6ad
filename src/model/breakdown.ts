/**
 * Where the time of each request went, by slot of the request table: typed arrays a model fills as it goes.
 *
 * The parts add up to the response time (completion minus arrival) when the request completes, and hold until its
 * slot is used again. A model leaves at zero what its
 * device does not have.
 */
export class Breakdown {
  /** Waiting for other requests: in front of the device, in its queue, or behind a flush. */
  readonly queueNs: Float64Array;
  /** The controller: decoding, cache look-up. */
  readonly overheadNs: Float64Array;
  /** Arm movement and settling, power-up included. */
  readonly seekNs: Float64Array;
  /** Rotational delay, retries included. */
  readonly rotationNs: Float64Array;
  /** Flash cells being sensed, or another medium at work that does not turn. */
  readonly mediaNs: Float64Array;
  /** Data under the head or on a channel, and over the interface. */
  readonly transferNs: Float64Array;
  /** Waiting for the cache: room for a write, the drain of a flush, read-ahead on its way. */
  readonly cacheNs: Float64Array;

  constructor(readonly capacity: number) {
    this.queueNs = new Float64Array(capacity);
    this.overheadNs = new Float64Array(capacity);
    this.seekNs = new Float64Array(capacity);
    this.rotationNs = new Float64Array(capacity);
    this.mediaNs = new Float64Array(capacity);
    this.transferNs = new Float64Array(capacity);
    this.cacheNs = new Float64Array(capacity);
  }

  reset(slot: number): void {
    this.queueNs[slot] = 0;
    this.overheadNs[slot] = 0;
    this.seekNs[slot] = 0;
    this.rotationNs[slot] = 0;
    this.mediaNs[slot] = 0;
    this.transferNs[slot] = 0;
    this.cacheNs[slot] = 0;
  }
}
