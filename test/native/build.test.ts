/** The build of the native addon, in copies of the project where things are missing or broken. */
import { cpSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { command, scratchDirectory } from "../support/blkforge.js";

const root = resolve(import.meta.dirname, "../..");
const binaryName = join("prebuilds", `${process.platform}-${process.arch}`, "blkforge.node");

/** A project of its own; `source` replaces the addon's where only the build is of interest. */
function project(source?: string): string {
  const directory = scratchDirectory();
  mkdirSync(join(directory, "scripts"));
  cpSync(join(root, "scripts/build-native.mjs"), join(directory, "scripts/build-native.mjs"));
  symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
  if (source === undefined) cpSync(join(root, "native"), join(directory, "native"), { recursive: true });
  else {
    mkdirSync(join(directory, "native"));
    writeFileSync(join(directory, "native/addon.cc"), source);
  }
  return directory;
}

const smallestAddon = `
  #include <node_api.h>
  NAPI_MODULE_INIT() { (void)env; return exports; }
`;

function build(directory: string, options: string[] = [], env: NodeJS.ProcessEnv = {}) {
  return command(process.execPath, [join(directory, "scripts/build-native.mjs"), ...options], env);
}

/** A compiler on a busy machine takes its time; this only ends one that hangs. */
vi.setConfig({ testTimeout: 300_000 });

describe("building the addon", () => {
  test("makes a binary that node-gyp-build finds and that has everything Linux offers", async () => {
    const directory = project();
    const { status, stdout, stderr } = await build(directory, ["--prebuild"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain(binaryName);

    const addon = createRequire(import.meta.url)("node-gyp-build")(directory);
    if (process.platform === "linux") {
      // A part of every source file that is linked in.
      const parts = ["Clock", "NetlinkSocket", "SparseMemory", "lockFile", "markIoFlusher", "peerState"];
      expect(Object.keys(addon)).toEqual(expect.arrayContaining(parts));
    }

    // With a prebuilt binary that works here, installing needs no compiler.
    const install = await build(directory, ["--if-missing"], { CXX: "no-such-compiler" });
    expect(install).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  test("happens again only when something has changed, and leaves nothing else behind", async () => {
    const directory = project(smallestAddon);
    const binary = join(directory, "build/Release/blkforge.node");
    expect(await build(directory)).toMatchObject({ status: 0 });
    const { ino } = statSync(binary);
    expect(readdirSync(join(directory, "build/Release")).sort()).toEqual([
      "blkforge.node",
      "blkforge.node.stamp",
    ]);

    expect(await build(directory)).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(statSync(binary).ino).toBe(ino);

    // A new file in place of the old, which a running process may have mapped.
    writeFileSync(join(directory, "native/addon.cc"), `${smallestAddon}// changed\n`);
    expect(await build(directory)).toMatchObject({ status: 0 });
    expect(statSync(binary).ino).not.toBe(ino);
  });

  test("replaces a prebuilt binary that does not work here", async () => {
    const directory = project(smallestAddon);
    mkdirSync(join(directory, binaryName, ".."), { recursive: true });
    writeFileSync(join(directory, binaryName), "of another system");
    expect(await build(directory, ["--if-missing"])).toMatchObject({ status: 0 });
    expect(existsSync(join(directory, "build/Release/blkforge.node"))).toBe(true);
  });
});

describe("a build that fails says what to do", () => {
  test("without a compiler", async () => {
    const { status, stderr } = await build(project(smallestAddon), [], { CXX: "no-such-compiler -v" });
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^blkforge: .* there is no "no-such-compiler"\. Install one \(Debian: apt-get install g\+\+/,
    );
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test("with the end of what the compiler said", async () => {
    const directory = project('#error "this system is too old"\n');
    const { status, stderr } = await build(directory);
    expect(status).toBe(1);
    expect(stderr).toContain("could not compile the native part of blkforge; it needs C++17");
    expect(stderr).toContain("this system is too old");
    expect(existsSync(join(directory, "build/Release/blkforge.node"))).toBe(false);
  });

  test("with a binary that cannot be loaded", async () => {
    const { status, stderr } = await build(project("int nothing_of_an_addon;\n"));
    expect(status).toBe(1);
    expect(stderr).toContain("cannot load it. Use a compiler for the same architecture");
  });

  test("with an option it does not know", async () => {
    const { status, stderr } = await build(project(smallestAddon), ["--force"]);
    expect(status).toBe(1);
    expect(stderr).toBe('blkforge: Unknown option "--force". There are --if-missing and --prebuild.\n');
  });
});
