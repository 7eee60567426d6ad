/**
 * Debian's archive without touching the system: apt with a private state folder in the cache.
 *
 * The sources are derived from the machine's own: same mirror, same key, the release's main suite and its backports.
 * So packages come from where this machine gets its packages anyway, checked against the same key, and neither root
 * nor a change of the machine's own sources is needed.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { BlkError } from "../base/errors.js";
import type { Cache } from "./cache.js";
import { runTool, type ToolResult } from "./subprocess.js";

export interface DebianArchive {
  /** The suites looked into. */
  suites: readonly string[];
  /** Names of all kernel packages for cloud machines. */
  kernelPackages(): Promise<string[]>;
  /** Downloads a kernel package, with those its files are split into, and unpacks them into a folder. */
  unpack(name: string, folder: string): Promise<void>;
}

export interface ArchiveOptions {
  onProgress?: (text: string) => void;
  signal?: AbortSignal;
}

/** Enough for a slow line: the largest package is 34 MB. */
const downloadTimeoutMs = 600_000;

export async function openDebianArchive(cache: Cache, options: ArchiveOptions = {}): Promise<DebianArchive> {
  const codename = debianCodename();
  const source = debianSource(codename);
  options.onProgress?.("Reading Debian's package lists");
  const withBackports = await update(cache, source, [codename, `${codename}-backports`], options);
  if (withBackports.archive !== undefined) return withBackports.archive;
  // Testing and unstable have no backports, nor do some mirrors.
  const mainOnly = await update(cache, source, [codename], options);
  if (mainOnly.archive !== undefined) return mainOnly.archive;
  throw new BlkError(
    "BLK_E_KERNEL",
    `Debian's package lists cannot be had: ${lastLine(mainOnly.failure)}`,
    "Check the network, or give a kernel yourself: --kernel PATH",
  );
}

/**
 * Where the newest kernels are, whatever this machine runs: the backports of Debian's stable release. An image and its modules
 * need nothing else of that release. Null when the mirror has no such suite.
 */
export async function openStableBackports(
  cache: Cache,
  options: ArchiveOptions = {},
): Promise<DebianArchive | null> {
  const suite = "stable-backports";
  options.onProgress?.(`Reading the package list of ${suite}`);
  return (await update(cache, debianSource(debianCodename()), [suite], options)).archive ?? null;
}

function debianSource(codename: string): DebianSource {
  const source = findDebianSource(readSourceFiles("/etc/apt"), codename);
  if (source !== undefined) return source;
  throw new BlkError(
    "BLK_E_KERNEL",
    `the apt sources of this machine have no entry for Debian ${codename}`,
    "Give a kernel yourself: --kernel PATH",
  );
}

async function update(
  cache: Cache,
  source: DebianSource,
  suites: readonly string[],
  options: ArchiveOptions,
): Promise<{ archive?: DebianArchive; failure: ToolResult }> {
  // Each process has lists of its own: apt locks its folder, and a second process would fail on the lock.
  const folder = mkdtempSync(cache.path("apt", "state-"));
  for (const name of ["lists/partial", "archives/partial"])
    mkdirSync(join(folder, name), { recursive: true });
  const sourceFile = join(folder, source.format === "deb822" ? "debian.sources" : "debian.list");
  writeFileSync(sourceFile, renderSource(source, suites));
  writeFileSync(join(folder, "status"), "");
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));

  const settings = {
    "Dir::Etc::sourcelist": sourceFile,
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::State": folder,
    "Dir::State::lists": join(folder, "lists"),
    "Dir::State::status": join(folder, "status"),
    "Dir::Cache": folder,
    // As root, apt would download as the user _apt, who cannot write into the cache.
    "APT::Sandbox::User": "root",
    "Acquire::Languages": "none",
    "APT::Update::Error-Mode": "any",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const apt = (tool: string, args: readonly string[], cwd = folder): Promise<ToolResult> =>
    runTool([tool, ...flags, ...args], {
      cwd,
      timeoutMs: downloadTimeoutMs,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });

  const failure = await apt("apt-get", ["update"]);
  if (failure.status !== 0) return { failure };

  const unpack = async (name: string, target: string): Promise<void> => {
    for (const part of [name, ...(await partsOf(name, apt))]) {
      const downloads = mkdtempSync(join(folder, "download-"));
      const download = await apt("apt-get", ["download", part], downloads);
      const file = readdirSync(downloads).find((entry) => entry.endsWith(".deb"));
      if (download.status !== 0 || file === undefined) {
        throw new BlkError(
          "BLK_E_KERNEL",
          `${part} cannot be downloaded: ${lastLine(download)}`,
          "Check the network",
        );
      }
      const unpacked = await runTool(["dpkg-deb", "-x", join(downloads, file), target]);
      if (unpacked.status !== 0) {
        throw new BlkError(
          "BLK_E_KERNEL",
          `${part} cannot be unpacked: ${lastLine(unpacked)}`,
          "Check the free space",
        );
      }
      rmSync(downloads, { recursive: true, force: true });
    }
  };
  const archive: DebianArchive = {
    suites,
    async kernelPackages() {
      const found = await apt("apt-cache", ["search", "--names-only", "^linux-image-[0-9].*-cloud-amd64$"]);
      return found.stdout
        .toString()
        .split("\n")
        .map((line) => line.split(" ")[0])
        .filter((name) => name !== "");
    },
    unpack,
  };
  return { archive, failure };
}

/** From 7.0 on, Debian splits the image and the modules into packages of their own, which the image depends on. */
async function partsOf(
  name: string,
  apt: (tool: string, args: readonly string[]) => Promise<ToolResult>,
): Promise<string[]> {
  const shown = await apt("apt-cache", ["show", "--no-all-versions", name]);
  const depends = /^Depends: (.*)$/m.exec(shown.stdout.toString())?.[1] ?? "";
  const parts = depends
    .split(/[,|]/)
    .map((dependency) => dependency.trim().split(" ")[0])
    .filter((dependency) => /^linux-(binary|modules)-/.test(dependency));
  const nested = await Promise.all(parts.map((part) => partsOf(part, apt)));
  return [...new Set([...parts, ...nested.flat()])];
}

function lastLine(result: ToolResult): string {
  return `${result.stderr}`.trim().split("\n").at(-1) || `status ${result.status}`;
}

function debianCodename(): string {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  const id = /^ID="?([^"\n]*)"?$/m.exec(release)?.[1];
  const codename = /^VERSION_CODENAME="?([^"\n]*)"?$/m.exec(release)?.[1];
  if (id !== "debian" || codename === undefined) {
    throw new BlkError(
      "BLK_E_KERNEL",
      `kernels are downloaded on Debian only, and this is "${id ?? "unknown"}"; the running kernel's image or its nbd module cannot be read`,
      "Give a kernel yourself: --kernel /boot/vmlinuz-VERSION (it may have to be made readable: sudo chmod +r)",
    );
  }
  return codename;
}

/** One entry of the machine's sources: what is kept of it when other suites are asked for. */
export type DebianSource =
  | { format: "deb822"; fields: readonly string[] }
  | { format: "line"; options: string; uri: string };

interface SourceFile {
  name: string;
  text: string;
}

function readSourceFiles(folder: string): SourceFile[] {
  const files: SourceFile[] = [];
  const main = join(folder, "sources.list");
  if (existsSync(main)) files.push({ name: main, text: readFileSync(main, "utf8") });
  const parts = join(folder, "sources.list.d");
  for (const name of existsSync(parts) ? readdirSync(parts).sort() : []) {
    if (/\.(list|sources)$/.test(name)) {
      files.push({ name: join(parts, name), text: readFileSync(join(parts, name), "utf8") });
    }
  }
  return files;
}

/** The entry that gives the release's main suite, in either of apt's formats (man sources.list(5)). */
export function findDebianSource(files: readonly SourceFile[], codename: string): DebianSource | undefined {
  for (const file of files) {
    const found = file.name.endsWith(".sources")
      ? findStanza(file.text, codename)
      : findLine(file.text, codename);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The entry again, for these suites and nothing but their main component. */
export function renderSource(source: DebianSource, suites: readonly string[]): string {
  if (source.format === "line") {
    return suites.map((suite) => `deb ${source.options}${source.uri} ${suite} main\n`).join("");
  }
  return ["Types: deb", `Suites: ${suites.join(" ")}`, "Components: main", ...source.fields, ""].join("\n");
}

function findStanza(text: string, codename: string): DebianSource | undefined {
  const withoutComments = text.replaceAll(/^#.*\n/gm, "");
  for (const stanza of withoutComments.split(/\n\s*\n/)) {
    // A field continues on lines that begin with a space (a key given in the text, for one).
    const fields = stanza.split(/\n(?! )/).filter((field) => field.includes(":"));
    const value = (name: string): string[] => {
      const field = fields.find((candidate) => candidate.toLowerCase().startsWith(`${name}:`));
      return field === undefined
        ? []
        : field
            .slice(name.length + 1)
            .trim()
            .split(/\s+/);
    };
    const isEnabled = value("enabled")[0] !== "no";
    const isMain = value("suites").includes(codename) && value("components").includes("main");
    if (isEnabled && isMain && value("types").includes("deb")) {
      const kept = fields.filter((field) => !/^(types|suites|components|enabled):/i.test(field));
      return { format: "deb822", fields: kept.map((field) => field.trimEnd()) };
    }
  }
  return undefined;
}

function findLine(text: string, codename: string): DebianSource | undefined {
  for (const line of text.split("\n")) {
    const match = /^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$/.exec(line.trim());
    if (match === null) continue;
    const [, options = "", uri, suite, components] = match;
    if (suite === codename && components.split(/\s+/).includes("main"))
      return { format: "line", options, uri };
  }
  return undefined;
}
