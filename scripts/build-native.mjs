/**
 * Compiles the .cc files of native/ into build/Release/blkforge.node, where node-gyp-build finds it.
 *
 *   node scripts/build-native.mjs               build if anything has changed
 *   node scripts/build-native.mjs --if-missing  the same, unless a prebuilt binary works here (npm's install step)
 *   node scripts/build-native.mjs --prebuild    write prebuilds/<platform>-<arch>/blkforge.node
 *
 * Not node-gyp's own build: that needs python3 and make, and a fresh Debian machine with Node and g++ has neither.
 * This is plain JavaScript with nothing but node-addon-api's headers, since it runs in the middle of `npm install`.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nativeDirectory = join(root, "native");
const prebuilt = join(root, "prebuilds", `${process.platform}-${process.arch}`, "blkforge.node");
const built = join(root, "build", "Release", "blkforge.node");

/** Node-API 8 is in every Node 20 and brings the asynchronous clean-up hooks. */
const flags = [
  "-O2",
  "-std=c++17",
  "-fPIC",
  "-shared",
  "-Wall",
  "-Wextra",
  "-fvisibility=hidden",
  "-DNAPI_VERSION=8",
  "-DNAPI_DISABLE_CPP_EXCEPTIONS",
  // The addon then needs nothing but the C library: a binary built on an older system runs on newer ones.
  ...(process.platform === "darwin"
    ? ["-undefined", "dynamic_lookup"]
    : ["-static-libstdc++", "-static-libgcc"]),
];

class BuildError extends Error {}

function main(options) {
  const unknown = options.find((option) => option !== "--if-missing" && option !== "--prebuild");
  if (unknown !== undefined) {
    throw new BuildError(`Unknown option "${unknown}". There are --if-missing and --prebuild.`);
  }
  if (options.includes("--prebuild")) return build(prebuilt);
  // node-gyp-build prefers what was built here, so once there is something it is kept up to date.
  const needsBuild = existsSync(built) || !existsSync(prebuilt) || !isLoadable(prebuilt);
  if (options.includes("--if-missing") && !needsBuild) return;
  build(built);
}

function build(output) {
  const compiler = process.env.CXX?.trim() || "g++";
  const stampFile = `${output}.stamp`;
  const stamp = fingerprint(compiler);
  if (existsSync(output) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;

  mkdirSync(dirname(output), { recursive: true });
  // Compiled aside and renamed: a running process may have the old file mapped, and must not see it change.
  const fresh = `${output}.${process.pid}`;
  // CXX may carry arguments ("ccache g++").
  const [command, ...prefix] = compiler.split(/\s+/);
  const sources = nativeFiles()
    .filter((name) => name.endsWith(".cc"))
    .map((name) => join(nativeDirectory, name));
  const includes = [nodeHeaders(), addonApiHeaders()].flatMap((directory) => ["-isystem", directory]);
  const result = spawnSync(command, [...prefix, ...flags, ...includes, ...sources, "-o", fresh], {
    encoding: "utf8",
  });
  if (result.error?.code === "ENOENT") {
    throw new BuildError(
      `The native part of blkforge needs a C++ compiler, and there is no "${command}". ` +
        "Install one (Debian: apt-get install g++; macOS: xcode-select --install), or name yours in CXX, then run npm install again.",
    );
  }
  if (result.status !== 0) {
    rmSync(fresh, { force: true });
    const messages = lastLines(result.stderr) || result.error?.message || `(exit status ${result.status})`;
    throw new BuildError(
      `"${compiler}" could not compile the native part of blkforge; it needs C++17 (g++ 9 or clang 10 at least). It said:\n${messages}`,
    );
  }
  if (result.stderr !== "") process.stderr.write(result.stderr);
  if (!isLoadable(fresh)) {
    rmSync(fresh, { force: true });
    throw new BuildError(
      `The native part compiled, but node ${process.version} cannot load it. ` +
        "Use a compiler for the same architecture and C library as this node (see CXX).",
    );
  }
  renameSync(fresh, output);
  writeFileSync(stampFile, stamp);
  process.stdout.write(`built ${output}\n`);
}

/** A compiler's first error can bring hundreds of lines; the last few name it. */
function lastLines(text) {
  return (text ?? "").trim().split("\n").slice(-15).join("\n");
}

/** Changes whenever the binary might. */
function fingerprint(compiler) {
  const hash = createHash("sha256");
  const node = [process.platform, process.arch, process.versions.modules].join(" ");
  hash.update(JSON.stringify([compiler, flags, node]));
  for (const name of nativeFiles()) hash.update(name).update(readFileSync(join(nativeDirectory, name)));
  return hash.digest("hex");
}

function nativeFiles() {
  return readdirSync(nativeDirectory, { recursive: true })
    .filter((name) => /\.(cc|h)$/.test(name))
    .sort();
}

/** Tried in a process of its own, since loading the wrong binary may end more than this script. */
function isLoadable(file) {
  const script = "process.dlopen({ exports: {} }, process.argv[1])";
  return spawnSync(process.execPath, ["-e", script, resolve(file)], { stdio: "ignore" }).status === 0;
}

function addonApiHeaders() {
  try {
    return dirname(createRequire(import.meta.url).resolve("node-addon-api/napi.h"));
  } catch {
    throw new BuildError(
      'The package node-addon-api is missing. Run "npm install" in the project\'s directory.',
    );
  }
}

/** node_api.h and uv.h of this Node, from where it was installed or from node-gyp's cache, fetched if need be. */
function nodeHeaders() {
  const cache = join(
    process.env.npm_config_devdir ??
      (process.platform === "darwin"
        ? join(homedir(), "Library", "Caches", "node-gyp")
        : join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "node-gyp")),
    process.versions.node,
  );
  const candidates = [
    process.env.npm_config_nodedir,
    dirname(dirname(process.execPath)),
    process.config.variables.node_prefix,
    cache,
  ]
    .filter(Boolean)
    .map((prefix) => join(prefix, "include", "node"));
  const found = candidates.find(areHeadersOfThisNode);
  if (found !== undefined) return found;

  const gyp = nodeGyp();
  if (gyp !== undefined) {
    // Only the download of the headers, which unlike its build needs no Python.
    spawnSync(process.execPath, [gyp, "install", `--devdir=${dirname(cache)}`], { stdio: "ignore" });
    const fetched = join(cache, "include", "node");
    if (areHeadersOfThisNode(fetched)) return fetched;
  }
  throw new BuildError(
    `The C++ headers of node ${process.version} are not installed and could not be fetched. ` +
      "Install them (Debian's own node: apt-get install libnode-dev), or name the directory above include/node in npm_config_nodedir.",
  );
}

/** Headers of another major version may lie in the same place, left behind by a distribution's package. */
function areHeadersOfThisNode(directory) {
  const version = join(directory, "node_version.h");
  if (!existsSync(version) || !existsSync(join(directory, "uv.h"))) return false;
  const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(readFileSync(version, "utf8"))?.[1];
  return major === process.versions.node.split(".")[0];
}

/** The node-gyp that npm brings along. */
function nodeGyp() {
  const npmPackage =
    process.env.npm_execpath && basename(process.env.npm_execpath) === "npm-cli.js"
      ? dirname(dirname(process.env.npm_execpath))
      : join(dirname(dirname(process.execPath)), "lib", "node_modules", "npm");
  return [
    join(npmPackage, "node_modules", "node-gyp", "bin", "node-gyp.js"),
    join("/usr/share/nodejs/node-gyp/bin/node-gyp.js"),
  ].find(existsSync);
}

try {
  main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  process.stderr.write(`blkforge: ${error.message}\n`);
  process.exitCode = 1;
}
