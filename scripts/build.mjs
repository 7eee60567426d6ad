/**
 * Builds `dist/` from `src/`: everything a command or a device thread loads, with the packages it needs, joined into a few files.
 *
 * Node 20 spends most of a start on finding and opening modules, of which there would be some 480 for `blkforge serve`; joined, a
 * server is ready in two thirds of the time. Names and lines stay readable in stack traces: nothing is minified. Types are
 * checked by `npm run check`, not here.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What bin/ imports, and what processes and threads of their own begin with (src/base/entry.ts). */
const entries = ["cli/main", "device/thread", "device/worker", "nbd/kernel/watchdog-main"];
/** What tests use by itself: in a guest, where nothing loads TypeScript, or with the threads as they are built. */
const testEntries = [
  "cli/serving",
  "cli/serve-options",
  "device/host",
  "ublk/attachment",
  "ublk/control",
  "ublk/abi",
];

rmSync(join(root, "dist"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: [...entries, ...testEntries].map((entry) => `src/${entry}.ts`),
  outdir: "dist",
  outbase: "src",
  // One folder down, as the files of the sources that look for the package's other folders are.
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  sourcemap: "linked",
  // It looks for the addon beside the package that asks, at run time.
  external: ["node-gyp-build"],
  // Packages in CommonJS ask for Node's own modules by `require`.
  banner: {
    js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
  },
  logLevel: "warning",
});
