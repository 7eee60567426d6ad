import { once } from "node:events";
import { Duplex, PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { BlkError } from "../../src/base/errors.js";
import { type GuestPort, guestPorts } from "../../src/lab/guest-init.js";
import type { Machine, MachineExit } from "../../src/lab/machine.js";
import { type GuestStage, PatchingPanic, runSession, type SessionOptions } from "../../src/lab/session.js";

/** A machine without QEMU: the test speaks the guest's lines. */
class FakeMachine implements Machine {
  readonly ports: Record<GuestPort, Duplex>;
  readonly exited: Promise<MachineExit>;
  readonly answers = new PassThrough();
  log = "";
  isKilled = false;
  #exit: (exit: MachineExit) => void = () => {};
  readonly #control: Duplex;

  constructor() {
    const { answers } = this;
    this.#control = new Duplex({
      read() {},
      write(chunk, _encoding, done) {
        answers.write(chunk);
        done();
      },
    });
    this.ports = Object.fromEntries(
      guestPorts.map((name) => [name, name === "control" ? this.#control : new PassThrough()]),
    ) as Record<GuestPort, Duplex>;
    this.exited = new Promise((resolve) => {
      this.#exit = resolve;
    });
  }

  say(...lines: string[]): void {
    for (const line of lines) this.#control.push(`${line}\n`);
  }

  exit(exit: Partial<MachineExit> = {}): void {
    this.#exit({ status: 0, signal: null, message: "", ...exit });
    if (!this.#control.destroyed && !this.#control.readableEnded) this.#control.push(null);
  }

  kernelLog(): string {
    return this.log;
  }

  kill(): void {
    this.isKilled = true;
    this.exit({ status: null, signal: "SIGKILL" });
  }
}

const patient: Record<GuestStage, number> = {
  boot: 20_000,
  serve: 20_000,
  attach: 20_000,
  command: 20_000,
  detach: 20_000,
  "power off": 20_000,
};

function start(machine: FakeMachine, options: Partial<SessionOptions> = {}) {
  return runSession(machine, { hasDevice: true, deadlinesMs: patient, ...options });
}

async function failure(running: Promise<unknown>): Promise<BlkError> {
  const error = await running.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BlkError);
  return error as BlkError;
}

describe("a conversation with a guest", () => {
  test("passes on the command's status, its output and the server's words", async () => {
    const machine = new FakeMachine();
    const stdout = new PassThrough();
    const stages: GuestStage[] = [];
    const running = start(machine, { stdout, onStage: (stage) => stages.push(stage) });
    machine.say("booted 6.12", "serve nbd+unix:///?socket=/x", "serving", "attached /dev/nbd0", "command");
    machine.ports.output.write(Buffer.from([0, 10, 13, 255]));
    machine.say("exit 7 4 0");
    await once(machine.answers, "data");
    machine.say("served 0", "detached", "off");
    machine.exit();

    const result = await running;
    expect(result).toMatchObject({ status: 7, uris: ["nbd+unix:///?socket=/x"], serverStatus: 0 });
    expect(stages).toEqual(["boot", "serve", "attach", "command", "detach", "power off"]);
    expect([...stdout.read()]).toEqual([0, 10, 13, 255]);
  });

  test("the guest may switch off only when all of the output has arrived", async () => {
    const machine = new FakeMachine();
    const stdout = new PassThrough();
    const running = start(machine, { hasDevice: false, stdout });
    machine.say("booted 6.12", "command", "exit 0 6 0");
    machine.ports.output.write("abc");
    await once(stdout, "readable");
    expect(machine.answers.read()).toBeNull();
    machine.ports.output.write("def");
    await once(machine.answers, "data");
    machine.say("detached", "off");
    machine.exit();
    expect((await running).status).toBe(0);
  });

  test("a missed deadline names the stage, shows the log's end and kills the machine", async () => {
    const machine = new FakeMachine();
    machine.log = Array.from({ length: 50 }, (_, index) => `line ${index}`).join("\n");
    const running = start(machine, { deadlinesMs: { ...patient, attach: 10 } });
    machine.say("booted 6.12", "serving");
    const error = await failure(running);
    expect(error.code).toBe("BLK_E_VM_DEADLINE");
    expect(error.message).toContain('the stage "attach" within 0.01 s');
    expect(error.message).toContain("line 49");
    expect(error.message).toContain("line 20");
    expect(error.message).not.toContain("line 19\n");
    expect(machine.isKilled).toBe(true);
  });

  test("a panic is told by its reason", async () => {
    const machine = new FakeMachine();
    machine.log = "[1.0] Kernel panic - not syncing: no init found\n[1.1] Call Trace:\n";
    const running = start(machine);
    machine.say("booted 6.12");
    machine.exit();
    const error = await failure(running);
    expect(error.code).toBe("BLK_E_VM");
    expect(error.message).toContain("not syncing: no init found");
  });

  test("a panic over the kernel's own half-written code is told apart, as long as nothing of ours has run", async () => {
    const log =
      "[0.5] Oops: int3: 0000 [#1] SMP\n[0.6] Kernel panic - not syncing: Fatal exception in interrupt\n";
    const booting = new FakeMachine();
    booting.log = log;
    const boot = start(booting);
    booting.exit();
    expect(await failure(boot)).toBeInstanceOf(PatchingPanic);

    const booted = new FakeMachine();
    booted.log = log;
    const command = start(booted);
    booted.say("booted 7.2");
    booted.exit();
    expect(await failure(command)).not.toBeInstanceOf(PatchingPanic);
  });

  test("QEMU's exit status 0 without the guest's word is a failure", async () => {
    const machine = new FakeMachine();
    const running = start(machine);
    machine.say("booted 6.12", "serving", "command", "exit 0 0 0");
    await once(machine.answers, "data");
    machine.exit({ status: 0 });
    expect((await failure(running)).message).toContain('ended in the stage "detach"');
  });

  test("what fails in the guest is quoted, with the server's log", async () => {
    const machine = new FakeMachine();
    const running = start(machine);
    const logged = once(machine.ports.log, "data");
    machine.ports.log.write("blkforge: BLK_E_SIZE  bad size\n");
    await logged;
    machine.say("booted 6.12", "fail serve the server ended with status 2 before it was ready", "off");
    const error = await failure(running);
    expect(error.message).toContain('the stage "serve" failed: the server ended with status 2');
    expect(error.message).toContain("BLK_E_SIZE  bad size");
  });

  test("an abort ends it with the caller's reason", async () => {
    const machine = new FakeMachine();
    const aborting = new AbortController();
    const running = start(machine, { signal: aborting.signal });
    aborting.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    expect(machine.isKilled).toBe(true);
  });
});
