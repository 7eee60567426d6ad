/**
 * The Debian packages the lab and the acceptance tests use, and their installation.
 *
 * A program counts as present when its binary is found, whoever put it there; a package manager is asked only for
 * what is missing. Root may install (after a question, unless told `yes` or in CI); anybody else is told the exact
 * command. Nothing but Debian packages is ever installed.
 */
import { accessSync, constants } from "node:fs";
import { createInterface } from "node:readline/promises";
import { BlkError } from "../base/errors.js";
import { runTool } from "./subprocess.js";

/** What one needs packages for: the VM and what runs inside it, the NBD clients blkforge is tested against, file systems to test in the VM. */
export type Component = "vm" | "clients" | "fileSystems";

interface PackageNeed {
  /** Debian's name of the package. */
  package: string;
  /** The binary whose presence shows that nothing need be installed. */
  binary: string;
}

const needs: Record<Component, readonly PackageNeed[]> = {
  vm: [
    { package: "qemu-system-x86", binary: "qemu-system-x86_64" },
    { package: "busybox-static", binary: "busybox" },
    { package: "fio", binary: "fio" },
    { package: "nbd-client", binary: "nbd-client" },
    { package: "e2fsprogs", binary: "mkfs.ext4" },
    { package: "util-linux", binary: "blkdiscard" },
    // Debian's kernel modules are compressed; they are unpacked while the image is built.
    { package: "xz-utils", binary: "xz" },
  ],
  clients: [
    { package: "libnbd-bin", binary: "nbdinfo" },
    // nbdsh is a script of its own package, which brings the Python binding with it.
    { package: "python3-libnbd", binary: "nbdsh" },
    { package: "qemu-utils", binary: "qemu-img" },
    { package: "nbdkit", binary: "nbdkit" },
    { package: "fio", binary: "fio" },
  ],
  // What can live on zones.
  fileSystems: [{ package: "btrfs-progs", binary: "mkfs.btrfs" }],
};

/** Where Debian keeps programs. A user's PATH often lacks the sbin folders, where nbd-client and mkfs live. */
const systemFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** How much of apt's output an error shows: enough for the reason, which apt prints last. */
const shownLines = 12;

export interface EnsurePackagesOptions {
  /** Install without asking. CI=true in the environment means the same. */
  yes?: boolean;
  /** Whether a person can be asked; by default, whether stdin and stderr are terminals. */
  interactive?: boolean;
  onProgress?: (text: string) => void;
  signal?: AbortSignal;
}

/** What the installation touches of the world, so that a test can stand in for it. */
export interface PackageHost {
  isRoot: boolean;
  findProgram(name: string): string | undefined;
  /** Runs a command to its end; the output is what it wrote to both streams, errors last. */
  run(argv: readonly string[], signal?: AbortSignal): Promise<{ status: number; output: string }>;
  confirm(question: string): Promise<boolean>;
}

/**
 * Makes sure that everything the components need is installed, and returns the packages that were installed for it.
 *
 * @throws BlkError BLK_E_PACKAGES with the command to run, when it may not or cannot install them.
 */
export async function ensurePackages(
  components: readonly Component[],
  options: EnsurePackagesOptions = {},
  host: PackageHost = realHost,
): Promise<string[]> {
  const missing = missingPackages(components, host.findProgram);
  if (missing.length === 0) return [];

  const command = installCommand(missing);
  const named = `Missing Debian package${missing.length > 1 ? "s" : ""}: ${missing.join(", ")}`;
  if (host.findProgram("apt-get") === undefined) {
    throw new BlkError(
      "BLK_E_PACKAGES",
      `${named}, and this system has no apt-get`,
      "Install what your distribution has in their place",
    );
  }
  if (!host.isRoot) {
    throw new BlkError("BLK_E_PACKAGES", named, `Run: sudo ${command.join(" ")}`);
  }
  const mayInstall = options.yes === true || process.env.CI === "true";
  if (!mayInstall) {
    const isInteractive =
      options.interactive ?? (process.stdin.isTTY === true && process.stderr.isTTY === true);
    const agreed = isInteractive && (await host.confirm(`${named}. Install now? [Y/n] `));
    if (!agreed) {
      throw new BlkError("BLK_E_PACKAGES", named, `Pass --yes to install, or run: ${command.join(" ")}`);
    }
  }

  options.onProgress?.(`Installing ${missing.join(", ")}`);
  await installPackages(command, host, options.signal);
  const stillMissing = missingPackages(components, host.findProgram);
  if (stillMissing.length > 0) {
    throw new BlkError(
      "BLK_E_PACKAGES",
      `apt-get reported success, yet the programs of ${stillMissing.join(", ")} are not to be found`,
      `Look at: dpkg -L ${stillMissing.join(" ")}`,
    );
  }
  return missing;
}

/** The packages to install for these components, in a stable order, each once. */
export function missingPackages(
  components: readonly Component[],
  find: (name: string) => string | undefined = findProgram,
): string[] {
  const missing = components
    .flatMap((component) => needs[component])
    .filter((need) => find(need.binary) === undefined);
  return [...new Set(missing.map((need) => need.package))].sort();
}

/** The full path of a program on the PATH or in Debian's folders for programs. */
export function findProgram(name: string): string | undefined {
  const folders = [
    ...(process.env.PATH ?? "").split(":").filter((folder) => folder !== ""),
    ...systemFolders,
  ];
  for (const folder of folders) {
    const path = `${folder}/${name}`;
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there, or not for us: look further.
    }
  }
  return undefined;
}

function installCommand(packages: readonly string[]): string[] {
  return ["apt-get", "install", "-y", "--no-install-recommends", ...packages];
}

async function installPackages(command: string[], host: PackageHost, signal?: AbortSignal): Promise<void> {
  // Another apt (unattended-upgrades, a parallel job) may hold the lock: waiting for it beats failing.
  const patient = [command[0], "-o", "DPkg::Lock::Timeout=300", ...command.slice(1)];
  const first = await host.run(patient, signal);
  if (first.status === 0) return;

  // Without package lists, or with lists older than the mirror, the same command works after an update.
  const update = await host.run(["apt-get", "-o", "DPkg::Lock::Timeout=300", "update"], signal);
  const second = update.status === 0 ? await host.run(patient, signal) : update;
  if (second.status === 0) return;

  const failed = update.status === 0 ? command : ["apt-get", "update"];
  const tail = second.output.trimEnd().split("\n").slice(-shownLines).join("\n  ");
  throw new BlkError(
    "BLK_E_PACKAGES",
    `${failed.join(" ")} failed with status ${second.status}:\n  ${tail}\n`,
    "Put apt in order, then try again",
  );
}

const realHost: PackageHost = {
  isRoot: process.getuid?.() === 0,
  findProgram,
  async run(argv, signal) {
    const result = await runTool(argv, signal === undefined ? {} : { signal });
    return { status: result.status, output: `${result.stdout}${result.stderr}` };
  },
  async confirm(question) {
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    try {
      const answer = await terminal.question(question);
      return /^(y|yes|)$/i.test(answer.trim());
    } finally {
      terminal.close();
    }
  },
};
