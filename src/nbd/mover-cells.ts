/** Cells of the state a `NativeSocketMover` shares: `Cell` in native/nbd/socket-mover.cc. */
export const moverCells = Object.freeze({
  /** The bytes in the input buffer that are new, or have been kept. */
  inputFrom: 0,
  inputEnd: 1,
  /** Bytes at its front that are to be kept: written here, read by the addon. */
  kept: 2,
  received: 3,
  /** Bytes to be sent since the start, the sent ones included. */
  queued: 4,
  sent: 5,
  /** Errno of a broken socket. */
  error: 6,
  /** Whether the next byte is the first of a request and nothing waits for its turn: written here. */
  idle: 7,
  /** Requests that have arrived and will be answered by the addon. */
  inHand: 8,
  count: 9,
});
