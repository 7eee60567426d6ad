/**
 * Runs of bytes with something in common: what stores tell of their holes, and faults of the places they lie in wait.
 */

/** A run of bytes that are all held, or all a hole (which reads as zero). */
export interface Extent {
  offsetBytes: number;
  lengthBytes: number;
  isAllocated: boolean;
}

/** A run of bytes that the same operations may be hit in by an armed fault. */
export interface FaultExtent {
  offsetBytes: number;
  lengthBytes: number;
  /** One bit per operation code (`Op`); 0 where no fault is armed. */
  opMask: number;
}
