/** For what *we* got wrong: a broken promise inside blkforge, never bad input. Cheap enough to leave on. */
export function assert(condition: boolean, promise: string): asserts condition {
  if (!condition) throw new Error(`blkforge broke a promise of its own: ${promise}. Please report this.`);
}
