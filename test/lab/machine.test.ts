import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { guestInit, renderCommand, shellQuote } from "../../src/lab/guest-init.js";
import { lastLines, type MachineOptions, machineArguments } from "../../src/lab/machine.js";

const options: MachineOptions = {
  kernel: { release: "6.12.1", imagePath: "/k/vmlinuz", modulesFolder: "/k/modules", origin: "a test" },
  initramfsPath: "/run/initramfs",
  folder: "/run/a,b",
  accelerator: "tcg",
  time: "real",
  cpus: 4,
  memoryBytes: 2 ** 30,
  hasConsole: false,
  seed: 7,
};

function line(changes: Partial<MachineOptions> = {}): string {
  return machineArguments({ ...options, ...changes }).join(" ");
}

describe("QEMU's command line", () => {
  test("an emulated CPU goes without the instruction QEMU 7.2 gets wrong", () => {
    expect(line()).toContain("-accel tcg -cpu max,-cx16");
    expect(line({ time: "virtual" })).toContain("-cpu max,-cx16");
  });

  test("virtual time counts instructions on one thread and fixes what else differs between runs", () => {
    const virtual = line({ time: "virtual" });
    expect(virtual).toContain("-accel tcg,thread=single -icount shift=0,sleep=off");
    expect(virtual).toContain("clock=vm -seed 7");
    expect(virtual).toContain("nokaslr norandmaps");
    expect(line()).not.toContain("icount");
  });

  test("KVM gets the machine's own CPU", () => {
    expect(line({ accelerator: "kvm" })).toContain("-accel kvm -cpu host");
  });

  test("a panic ends QEMU, and commas in a path stay part of it", () => {
    expect(line()).toContain("-no-reboot");
    expect(line()).toContain("panic=-1");
    expect(line()).toContain("path=/run/a,,b/kernel.log");
  });

  test("a console is there only where it is asked for", () => {
    expect(line()).not.toContain("virtconsole");
    expect(line({ hasConsole: true })).toContain("virtconsole,chardev=console,nr=0");
  });
});

describe("the end of a log", () => {
  test("has the last lines, without empty ones and the firmware's terminal codes", () => {
    const escapeCharacter = String.fromCharCode(27);
    expect(lastLines(`first\n\n${escapeCharacter}[2J${escapeCharacter}cBooting\r\nlast\n`, 2)).toEqual([
      "Booting",
      "last",
    ]);
  });
});

describe("the guest's script", () => {
  test("is one a shell can parse", () => {
    execFileSync("sh", ["-n"], { input: guestInit });
  });

  test("any word comes out of the shell as it went in", () => {
    for (const word of ["", "it's", '$HOME `x` "y"', "a\nb", "\\"]) {
      expect(execFileSync("sh", ["-c", `printf %s ${shellQuote(word)}`]).toString()).toBe(word);
    }
  });

  test("several words are a program and its arguments, in which only $DEV is replaced", () => {
    expect(renderCommand(["fio", "--filename=$DEV", "$HOME", "$DEVICE"])).toBe(
      "exec 'fio' '--filename=/dev/nbd0' '$HOME' '$DEVICE'\n",
    );
  });

  test("one word is a line for the shell, after the environment", () => {
    expect(renderCommand(["mount $DEV /mnt && ls"], { MODE: "it's" })).toBe(
      "export MODE='it'\\''s'\nmount $DEV /mnt && ls\n",
    );
  });
});
