/** Shell functions for tests of ublk in the guest, and the guest to run them in. */
import { readFileSync } from "node:fs";
import type { LabExecOptions } from "../../src/lab/exec.js";
import { guestCommandMs, inGuest, type LabRun } from "./lab.js";

/** BLKFORGE_BATCH=auto runs tests with batched commands, where the kernel has them (BLKFORGE_KERNEL=7). */
const batch = process.env.BLKFORGE_BATCH;
const batchOption = batch === undefined ? "" : `--batch ${batch}`;

/** No deadlines in here: in virtual time an idle guest's clock leaps ahead. */
const helpers = `
export BLKFORGE_API=unix:/run/api.sock BLKFORGE_BATCH=${batch ?? "off"}
# start LOG ARGUMENT...: attaches in the background and waits for "ready"; its pid is in $server, the device in $DEV.
start() {
  log=$1; shift; rm -f $log
  blkforge attach ${batchOption} "$@" --ublk --timing sleep >$log 2>$log.err & server=$!
  until grep -qs ready $log; do
    kill -0 $server 2>/dev/null || { cat $log.err >&2; return 1; }
    usleep 20000
  done
  DEV=$(grep -oE '/dev/ublkb[0-9]+' $log)
}
# recover LOG ARGUMENT...: takes over the device whose server has died.
recover() {
  log=$1; shift; rm -f $log
  blkforge recover "$@" >$log 2>$log.err & server=$!
  until grep -qs ready $log; do
    kill -0 $server 2>/dev/null || { cat $log.err >&2; return 1; }
    usleep 20000
  done
}
# stop: Ctrl-C, and the exit status.
stop() { kill -INT $server; wait $server; }
until_line() { until grep -qs "$1" "$2"; do usleep 20000; done; }
# A kernel's worker may just be beginning: whoever is stuck is so at every look.
no_process_is_stuck() {
  for look in 1 2 3 4 5; do grep -l "^State:.*D (disk" /proc/[0-9]*/status >/tmp/stuck 2>/dev/null || return 0; usleep 100000; done
  cat /tmp/stuck; return 1
}
fails() { if "$@" 2>/tmp/said; then echo passed; else cat /tmp/said; fi; }
# verify NAME ENGINE OPTION...: writes, reads back and compares.
verify() {
  name=$1; engine=$2; shift 2
  fio --name=v --filename=$DEV --rw=randwrite --bs=4k --size=4m --ioengine=$engine --iodepth=16 --direct=1 \\
      --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/tmp/fio.out "$@" && echo verified $name ||
    { cat /tmp/fio.out; return 1; }
}
writes() { awk '{print $5}' /sys/block/\${DEV#/dev/}/stat; }
`;

const guestFile = (name: string): string => readFileSync(new URL(`./guest/${name}`, import.meta.url), "utf8");

/** Runs a script in a guest with blkforge and nothing attached. */
export function ublkGuest(
  script: string,
  { cpus = 4, commandMs = guestCommandMs, ...more }: Partial<LabExecOptions> & { commandMs?: number } = {},
): Promise<LabRun> {
  return inGuest(`${helpers}\n${script}`, {
    withBlkforge: true,
    time: "real",
    cpus,
    deadlinesMs: { command: commandMs },
    files: {
      "/tmp-files/as-user.cjs": guestFile("as-user.cjs"),
      "/tmp-files/hook.cjs": guestFile("hook.cjs"),
      "/tmp-files/ublk-rounds.mjs": guestFile("ublk-rounds.mjs"),
    },
    ...more,
  });
}
