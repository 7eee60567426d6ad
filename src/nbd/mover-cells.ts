/** Cells of the state a `NativeSocketMover` shares. */
export const moverCells = Object.freeze({
  /** Bytes in the input buffer. */
  input: 0,
  /** Bytes at its front that are to be kept: written here, read by the addon. */
  kept: 1,
  received: 2,
  sent: 3,
  /** Errno of a broken socket. */
  error: 4,
  count: 5,
});
