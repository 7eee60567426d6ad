/**
 * The guest's first process: a shell script for busybox, and the conversation it has with the host.
 *
 * The control port carries lines of text. The guest says where it is (`booted`, `serving`, `attached`, `command`,
 * `exit STATUS OUT ERR`, `detached`, `off`), what the server announced (`serve LINE`) and what failed
 * (`fail STAGE TEXT`). The host says one thing only: `ok`, after `exit`, once all OUT and ERR bytes of the
 * command's output have arrived, because a guest that is switched off takes unread bytes with it.
 *
 * The command writes into pipes, as it would anywhere, and `tee` carries the bytes to their port unaltered. What a
 * command leaves running is killed when it ends: it would keep the device busy and the pipes open.
 *
 * No wait for the host has a timeout in the guest: in virtual time an idle guest's clock leaps ahead. Deadlines are
 * the host's.
 */

/** Settings of a run, in `/lab/config`, which the script reads as shell. */
export interface GuestConfig {
  /** Whether `/lab/serve.sh` serves a device that has to be attached. */
  hasDevice: boolean;
  /** How it reaches the kernel: the server attaches by itself over ublk, and is attached by nbd-client over NBD. */
  transport: Transport;
  connections: number;
  blockSizeBytes: number;
  /** Where the command's input comes from. */
  input: "none" | "port" | "console";
  /** Of the terminal, for `input: "console"`. */
  rows: number;
  columns: number;
}

export type Transport = "nbd" | "ublk";

/** What a guest's only device is called. */
export const guestDevices: Readonly<Record<Transport, string>> = { nbd: "/dev/nbd0", ublk: "/dev/ublkb0" };

export const guestPaths = {
  socket: "/run/blkforge.sock",
  apiSocket: "/run/blkforge-api.sock",
  app: "/app",
  exportName: "disk",
  uri: "nbd+unix:///disk?socket=/run/blkforge.sock",
} as const;

/** Names of the virtio serial ports. */
export const guestPorts = ["control", "input", "output", "errors", "log"] as const;
export type GuestPort = (typeof guestPorts)[number];

/** A word for the shell, whatever is in it. */
export function shellQuote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

export function renderConfig(config: GuestConfig): string {
  const settings = {
    HAS_DEVICE: config.hasDevice ? "yes" : "no",
    TRANSPORT: config.transport,
    DEV: guestDevices[config.transport],
    CONNECTIONS: config.connections,
    BLOCK_SIZE: config.blockSizeBytes,
    INPUT: config.input,
    ROWS: config.rows,
    COLUMNS: config.columns,
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${shellQuote(String(value))}\n`)
    .join("");
}

/**
 * One string is a line for the shell; several are a program and its arguments, in which nothing is expanded but
 * `$DEV`, the one name a caller cannot know. `environment` is set before either.
 */
export function renderCommand(
  command: readonly string[],
  environment: Record<string, string> = {},
  transport: Transport = "nbd",
): string {
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}=${shellQuote(value)}\n`);
  const words = command.map((word) =>
    shellQuote(word.replaceAll(/\$DEV\b|\$\{DEV\}/g, guestDevices[transport])),
  );
  const line = command.length === 1 ? command[0] : `exec ${words.join(" ")}`;
  return `${exports.join("")}${line}\n`;
}

export const guestInit = `#!/usr/bin/busybox sh
export PATH=/usr/bin HOME=/root TERM=linux SHELL=/bin/sh
busybox mkdir -p /proc /sys /dev /tmp /run/lab /root /mnt /var
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox --install -s /usr/bin
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ip link set lo up
hostname blkforge-lab

modprobe -q virtio_pci
modprobe -q virtio_console

# The ports appear when the driver has found them, a moment after it was loaded.
find_port() {
  while :; do
    for port in /sys/class/virtio-ports/*; do
      [ -e "$port/name" ] && read -r name <"$port/name" && [ "$name" = "$1" ] || continue
      [ -e "/dev/\${port##*/}" ] && echo "/dev/\${port##*/}" && return
    done
    usleep 10000
  done
}
CONTROL_PORT=$(find_port control)
INPUT_PORT=$(find_port input)
OUTPUT_PORT=$(find_port output)
ERRORS_PORT=$(find_port errors)
LOG_PORT=$(find_port log)
exec 3<>"$CONTROL_PORT"

say() { echo "$*" >&3; }
halt() { poweroff -f; while :; do sleep 60; done; }
fail() { say "fail $*"; say off; halt; }

. /lab/config
say "booted $(uname -r)"

mkfifo /run/lab/log /run/lab/out /run/lab/err /run/lab/serve
cat /run/lab/log >"$LOG_PORT" 3<&- & LOG=$!
exec 5>/run/lab/log
SERVER=none

if [ "$HAS_DEVICE" = yes ]; then
  export DEV
  export BLKFORGE_API=unix:${guestPaths.apiSocket}
  export NBD_URI='${guestPaths.uri}'
  if [ "$TRANSPORT" = ublk ]; then
    modprobe ublk_drv || fail "serve the kernel $(uname -r) has no ublk_drv module"
  fi
  sh /lab/serve.sh >/run/lab/serve 2>/run/lab/log 3<&- 5<&- & SERVER=$!
  exec 4</run/lab/serve
  serving=no
  while read -r line <&4; do
    case "$line" in
      ready) serving=yes; break ;;
      /dev/*) ;;
      *) say "serve $line" ;;
    esac
  done
  if [ $serving = no ]; then
    wait $SERVER
    fail "serve the server ended with status $? before it was ready"
  fi
  say serving

  if [ "$TRANSPORT" = nbd ]; then
    # A few device nodes beside the one attached here, for commands that attach more.
    modprobe nbd nbds_max=4 || fail "attach the kernel $(uname -r) has no nbd module"
    nbd-client -u ${guestPaths.socket} -N ${guestPaths.exportName} "$DEV" -b "$BLOCK_SIZE" -C "$CONNECTIONS" >/run/lab/attach 2>&1 ||
      fail "attach nbd-client: $(tr '\\n' ' ' </run/lab/attach)"
    # The size is set by the driver's own worker, shortly after nbd-client has returned.
    until read -r sectors </sys/block/nbd0/size && [ "$sectors" != 0 ]; do usleep 10000; done
  fi
  say "attached $DEV"
fi

# carry NAME PORT: what is written into the pipe NAME goes to the port, and is counted on the way.
COPIERS=
carry() {
  mkfifo "/run/lab/$1.passed"
  wc -c <"/run/lab/$1.passed" >"/run/lab/$1.count" 3<&- 4<&- 5<&- & COPIERS="$COPIERS $!"
  tee "$2" <"/run/lab/$1" >"/run/lab/$1.passed" 3<&- 4<&- 5<&- & COPIERS="$COPIERS $!"
}
carry out "$OUTPUT_PORT"
carry err "$ERRORS_PORT"
case "$INPUT" in
  port) exec 6<"$INPUT_PORT" ;;
  *) exec 6</dev/null ;;
esac
say command
if [ "$INPUT" = console ]; then
  : >/run/lab/out
  : >/run/lab/err
  # The terminal takes its size from QEMU whenever it is opened, and QEMU knows none.
  setsid -c sh -c "stty rows $ROWS cols $COLUMNS; exec sh /lab/command.sh" </dev/hvc0 >/dev/hvc0 2>&1 3<&- 4<&- 5<&- 6<&-
else
  sh /lab/command.sh <&6 >/run/lab/out 2>/run/lab/err 3<&- 4<&- 5<&- 6<&-
fi
status=$?

for process in /proc/[0-9]*; do
  pid=\${process#/proc/}
  # A kernel thread has no executable.
  [ -e "$process/exe" ] || continue
  case " 1 $SERVER $LOG $COPIERS " in *" $pid "*) continue ;; esac
  kill -KILL "$pid" 2>/dev/null
done
wait $COPIERS
say "exit $status $(cat /run/lab/out.count) $(cat /run/lab/err.count)"
read -r ok <&3

# Safe order: no writer, no dirty page, no mount, no attached device, and only then no server.
sync
if [ "$HAS_DEVICE" = yes ]; then
  swapoff -a
  # Later mounts may stand on earlier ones.
  sed -n "s#^$DEV[p0-9]* \\([^ ]*\\) .*#\\1#p" /proc/mounts | sed '1!G;h;$!d' | while read -r mounted; do
    umount "$(printf '%b' "$mounted")" >&5 2>&5
  done
  if [ -e /sys/block/nbd0/pid ]; then nbd-client -d "$DEV" >/dev/null 2>&5; fi
  kill -TERM $SERVER 2>/dev/null
  wait $SERVER
  say "served $?"
fi
say detached
exec 5<&-
wait $LOG
say off
halt
`;
