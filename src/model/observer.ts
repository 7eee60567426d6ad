/** Who is told what a device does inside, for timelines. Where there is none, nothing is spent on it. */
export interface ModelObserver {
  /** Something on a resource (`track` and its number) took from `startNs` to `endNs`. */
  span(track: string, number: number, name: string, startNs: number, endNs: number): void;
  /** A quantity changed to `value` at `nowNs`. */
  level(name: string, nowNs: number, value: number): void;
}
