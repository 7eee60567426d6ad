/** The soak of scripts/soak-nbd.ts, in short: a few hundred hostile conversations against the server as users run it. */
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { command } from "../support/blkforge.js";

const root = resolve(import.meta.dirname, "../..");

test("500 fuzzed conversations, in the clear and through TLS, do the server no harm", async () => {
  const script = [resolve(root, "node_modules/.bin/tsx"), resolve(root, "scripts/soak-nbd.ts")];
  const { status, stdout, stderr } = await command(script[0], [
    script[1],
    "--conversations",
    "500",
    "--seed",
    "4",
  ]);
  expect(stderr.replaceAll(/^npm warn.*\n/gm, "")).toBe("");
  expect(stdout).toMatch(/^500 conversations .*canaries intact/);
  expect(status).toBe(0);
});
