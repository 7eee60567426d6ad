/**
 * Where the modules are that a process or thread of its own begins with.
 *
 * A build (scripts/build.mjs) joins the others into a few files: Node then opens ten of them instead of 480, and a server is ready
 * a third sooner. These stay files of their own, in the folders the sources have them in.
 */

/** @param path without extension, from the root of the sources, as in "device/worker" */
export function entryUrl(path: string): URL {
  // As far below `src` as this file is below `dist` once it is built. A loader such as tsx runs the sources.
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return new URL(`../${path}.${extension}`, import.meta.url);
}
