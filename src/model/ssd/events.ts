/** What happens in a drive, as its event queue holds it: a kind, and below it the slot, lane, die or channel it happens to. */

export const eventBits = 24;
export const eventMask = (1 << eventBits) - 1;

export const Event = Object.freeze({
  /** The firmware has decoded a command. */
  decoded: 0,
  /** The data of a write have come in. */
  received: 1 << eventBits,
  /** A command is complete. */
  complete: 2 << eventBits,
  channel: 3 << eventBits,
  sensed: 4 << eventBits,
  die: 5 << eventBits,
  /** The controller can fetch its next command. */
  fetch: 6 << eventBits,
  /** The drive may have been idle for long enough. */
  idle: 7 << eventBits,
  /** Collection goes on looking. */
  collect: 8 << eventBits,
  /** A read's place has been looked up. */
  mapped: 9 << eventBits,
});

/** The first kinds of event mostly end in the order they began. */
export const orderlyKinds = 4;

/** Events of the controller that are not of a command: fetch, idle, collect. */
export const timers = 3;
