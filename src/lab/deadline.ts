/** A deadline for work that goes on outside of a guest: downloading a kernel, building an image. */
import { BlkError } from "../base/errors.js";

/**
 * Gives `work` a signal that is aborted at the deadline, or when the caller's own signal is.
 *
 * @throws BlkError BLK_E_VM_DEADLINE with the stage's name.
 */
export async function withDeadline<T>(
  stage: string,
  deadlineMs: number,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const missed = new BlkError(
    "BLK_E_VM_DEADLINE",
    `the stage "${stage}" did not finish within ${deadlineMs / 1000} s`,
    "Check the network and the free space of the cache folder",
  );
  const timer = setTimeout(() => deadline.abort(missed), deadlineMs);
  const both = signal === undefined ? deadline.signal : AbortSignal.any([deadline.signal, signal]);
  const aborted = new Promise<never>((_, reject) => {
    both.addEventListener("abort", () => reject(both.reason), { once: true });
  });
  aborted.catch(() => {});
  try {
    both.throwIfAborted();
    return await Promise.race([work(both), aborted]);
  } finally {
    clearTimeout(timer);
  }
}
