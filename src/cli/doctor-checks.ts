/**
 * What `doctor` makes of the facts: for each way of using blkforge, what it needs, whether that is there, and the very
 * command that mends it.
 */
import { formatSize } from "../base/units.js";
import type { MachineFacts, ModuleState } from "./doctor-facts.js";

/** Ways of use: serve over NBD, attach through the kernel's NBD client, through ublk, run a VM, run the clients' tests. */
export const uses = ["serve", "attach", "ublk", "lab", "clients"] as const;
export type Use = (typeof uses)[number];

export const useTitles: Record<Use, string> = {
  serve: "serve over NBD (blkforge serve, run)",
  attach: "attach to this kernel over NBD (blkforge attach)",
  ublk: "attach to this kernel over ublk (blkforge attach --ublk)",
  lab: "run a kernel in a VM (blkforge lab)",
  clients: "test against real NBD clients (npm run test:acceptance)",
};

export interface Check {
  use: Use;
  name: string;
  /** "advice": works, but not as well as it could. */
  state: "ok" | "missing" | "advice";
  /** What was found. */
  found: string;
  /** The command that mends it, or what to do where no command can; null when all is well. */
  remedy: string | null;
}

/** package.json's `engines`. */
const oldestNode = [20, 20] as const;
/** First release whose driver tells its features (GET_FEATURES), and with user copy. */
const oldestUblkKernel = [6, 5] as const;
/** What newer drivers add to 6.12's, and since when; see Documentation/block/ublk.rst. */
const newerFeatures = {
  userRecoveryFailIo: "errors while a server is gone (6.13)",
  updateSize: "resize (6.16)",
  batchIo: "batched commands (7.0)",
  noAutoPartitionScan: "no partition scan (7.0)",
} as const;
/** What newer drivers have and blkforge leaves alone; docs/ublk.md says why. */
const unusedFeatures = { quiesce: "quiesce (6.16)" } as const;
/** A device in use for swap should be served from locked memory: the server, its heap and the hot part of the store. */
const comfortableLockedBytes = 256 * 2 ** 20;
/** 128 clients, 16 kernel connections, images, sockets, and Node's own. */
const comfortableFiles = 1024;

export function checkMachine(facts: MachineFacts): Check[] {
  return [
    ...checkServe(facts),
    ...checkAttach(facts),
    ...checkUblk(facts),
    ...checkLab(facts),
    ...checkClients(facts),
  ];
}

function checkServe(facts: MachineFacts): Check[] {
  const check = checker("serve");
  const hasAddon = facts.addonError === null;
  return [
    check("Node.js", isAtLeast(facts.nodeVersion, oldestNode), facts.nodeVersion, {
      remedy: `install Node.js ${oldestNode.join(".")} or newer: nvm install 22`,
    }),
    check("native addon", hasAddon, hasAddon ? "loads" : (facts.addonError ?? ""), {
      remedy: "npm run build:native",
    }),
    check(
      "memory overcommit",
      facts.overcommit !== 2,
      `vm.overcommit_memory=${facts.overcommit ?? "unknown"}`,
      {
        isAdvice: true,
        remedy: "sudo sysctl vm.overcommit_memory=0   (or keep devices in files: --file)",
      },
    ),
    check("open files", facts.openFiles >= comfortableFiles, `${facts.openFiles}`, {
      isAdvice: true,
      remedy: `ulimit -n ${comfortableFiles}`,
    }),
    ...idleStates(facts),
  ];
}

function checkAttach(facts: MachineFacts): Check[] {
  const check = checker("attach");
  return [
    ...kernelModule("attach", "nbd", facts.nbd, facts),
    check("privilege", facts.mayAdminister, privilege(facts), { remedy: administer(facts) }),
    check(
      "device nodes",
      facts.hasDeviceFileSystem,
      facts.hasDeviceFileSystem ? "/dev is devtmpfs" : "/dev is not devtmpfs",
      {
        isAdvice: true,
        remedy: "give the container the host's nodes: docker run -v /dev:/dev --privileged ...",
      },
    ),
    check("udev", true, facts.hasUdev ? "runs, and is waited for" : "does not run; it is not needed"),
    flusher("attach", facts),
    check(
      "locked memory",
      facts.lockedMemoryBytes >= comfortableLockedBytes,
      memory(facts.lockedMemoryBytes),
      {
        isAdvice: true,
        remedy: "ulimit -l unlimited   (only for a device that is used for swap)",
      },
    ),
  ];
}

function checkUblk(facts: MachineFacts): Check[] {
  const check = checker("ublk");
  const isRecent = isAtLeast(facts.kernelRelease, oldestUblkKernel);
  const isAllowed =
    facts.ioUringDisabled === null ||
    facts.ioUringDisabled === 0 ||
    (facts.ioUringDisabled === 1 && facts.isRoot);
  return [
    check("kernel", isRecent, facts.kernelRelease, {
      remedy: `boot a kernel ${oldestUblkKernel.join(".")} or newer: ${kernelPackage(facts)}`,
    }),
    ...kernelModule("ublk", "ublk_drv", facts.ublk, facts),
    check("privilege", facts.mayAdminister, privilege(facts), { remedy: administer(facts) }),
    check(
      "io_uring",
      isAllowed,
      facts.ioUringDisabled === null ? "allowed" : `kernel.io_uring_disabled=${facts.ioUringDisabled}`,
      {
        remedy: "sudo sysctl kernel.io_uring_disabled=0",
      },
    ),
    ...driverFeatures(facts),
    flusher("ublk", facts),
    check(
      "locked memory",
      facts.mayLockMemory || facts.lockedMemoryBytes === Number.POSITIVE_INFINITY,
      facts.mayLockMemory ? "CAP_IPC_LOCK" : memory(facts.lockedMemoryBytes),
      {
        isAdvice: true,
        remedy: "ulimit -l unlimited   (the device's bytes may be swapped out until then)",
      },
    ),
  ];
}

/** What the driver lacks is said, and nothing to be mended: blkforge refuses by name what needs it. */
function driverFeatures({ ublkFeatures }: MachineFacts): Check[] {
  if (ublkFeatures === null) return [];
  const missing = Object.entries(newerFeatures).filter(([name]) => !ublkFeatures.includes(name));
  const used =
    missing.length === 0
      ? "all that blkforge uses"
      : `all but: ${missing.map(([, text]) => text).join(", ")}`;
  const unused = Object.entries(unusedFeatures).filter(([name]) => ublkFeatures.includes(name));
  const found =
    unused.length === 0 ? used : `${used}; not used: ${unused.map(([, text]) => text).join(", ")}`;
  return [checker("ublk")("driver features", true, found)];
}

/** Without it a server that is short of memory may wait for its own disk. */
function flusher(use: Use, { mayUseResources, isRoot }: MachineFacts): Check {
  return checker(use)(
    "I/O flusher",
    mayUseResources,
    mayUseResources ? "CAP_SYS_RESOURCE" : "no CAP_SYS_RESOURCE",
    {
      isAdvice: true,
      remedy: isRoot ? "docker run --cap-add SYS_RESOURCE ..." : "run it with sudo",
    },
  );
}

function checkLab(facts: MachineFacts): Check[] {
  const check = checker("lab");
  const { platform, architecture, missingLabPackages, kvm } = facts;
  return [
    check("machine", platform === "linux" && architecture === "x64", `${platform} on ${architecture}`, {
      remedy: "use Linux on x86-64",
    }),
    packages(check, missingLabPackages),
    check(
      "/dev/kvm",
      kvm === "usable",
      kvm === "usable" ? "can be opened; lab tries whether a guest boots with it" : kvm,
      {
        isAdvice: true,
        remedy:
          kvm === "forbidden"
            ? "sudo usermod -aG kvm $USER, and log in again   (guests run emulated until then)"
            : "enable virtualisation in the firmware, or nested virtualisation in the host   (guests run emulated until then)",
      },
    ),
  ];
}

function checkClients({ missingClientPackages }: MachineFacts): Check[] {
  return [packages(checker("clients"), missingClientPackages)];
}

type Checker = (
  name: string,
  isFine: boolean,
  found: string,
  otherwise?: { remedy: string; isAdvice?: boolean },
) => Check;

function checker(use: Use): Checker {
  return (name, isFine, found, otherwise) => ({
    use,
    name,
    found,
    state: isFine ? "ok" : otherwise?.isAdvice ? "advice" : "missing",
    remedy: isFine ? null : (otherwise?.remedy ?? null),
  });
}

/** How exact a delay is for a client that sleeps through it; see docs/nbd.md. */
function idleStates({ idleDriver, mayLimitIdleStates }: MachineFacts): Check[] {
  if (idleDriver === null || idleDriver === "none") return [];
  const found = mayLimitIdleStates
    ? "slow ones are kept away while requests are under way"
    : "the processors may sleep deeply while a delay passes, and wake late";
  return [
    checker("serve")("idle states", mayLimitIdleStates, found, {
      isAdvice: true,
      remedy: "sudo chown $USER /dev/cpu_dma_latency   (or run as root)",
    }),
  ];
}

function packages(check: Checker, missing: readonly string[]): Check {
  const found = missing.length === 0 ? "all installed" : `missing: ${missing.join(", ")}`;
  return check("packages", missing.length === 0, found, {
    remedy: `sudo apt-get install ${missing.join(" ")}`,
  });
}

/** The module of a driver: there, to be loaded (attach does it, given the right), or to be installed. */
function kernelModule(use: Use, name: string, state: ModuleState, facts: MachineFacts): Check[] {
  const check = checker(use);
  const title = `module ${name}`;
  if (state === "present") return [check(title, true, "loaded, or built in")];
  if (state === "loadable") {
    const found = "can be loaded";
    // Who may administer need not do anything: it is loaded when it is wanted.
    return [check(title, facts.mayAdminister, found, { remedy: `sudo modprobe ${name}` })];
  }
  return [
    check(title, false, `kernel ${facts.kernelRelease} has none`, {
      remedy: `${modulePackage(facts)}   (or use a VM: blkforge lab exec)`,
    }),
  ];
}

function modulePackage({ distribution, kernelRelease }: MachineFacts): string {
  if (/\bubuntu\b/.test(distribution)) return `sudo apt-get install linux-modules-extra-${kernelRelease}`;
  if (/\bdebian\b/.test(distribution)) return "sudo apt-get install linux-image-amd64, and boot it";
  if (/\b(fedora|rhel|centos)\b/.test(distribution))
    return `sudo dnf install kernel-modules-extra-${kernelRelease}`;
  return "boot a kernel of your distribution that has it";
}

function kernelPackage({ distribution }: MachineFacts): string {
  return /\bdebian\b/.test(distribution)
    ? "sudo apt-get install -t bookworm-backports linux-image-amd64"
    : "take your distribution's newest";
}

function privilege({ mayAdminister, isRoot }: MachineFacts): string {
  if (mayAdminister) return "CAP_SYS_ADMIN";
  return isRoot ? "root of a container, without CAP_SYS_ADMIN in the host" : "not root";
}

function administer({ isRoot }: MachineFacts): string {
  return isRoot ? "docker run --privileged --network host -v /dev:/dev ..." : "run it with sudo";
}

function memory(bytes: number): string {
  return bytes === Number.POSITIVE_INFINITY ? "unlimited" : formatSize(bytes);
}

/** Whether a version such as "6.12.3-amd64" is at least this one. */
function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, foundMajor, foundMinor] = (/^(\d+)\.(\d+)/.exec(version) ?? []).map(Number);
  if (foundMajor === undefined || foundMinor === undefined) return false;
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}
