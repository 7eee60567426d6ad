/**
 * Socket activation: the sockets a service manager opened for this process before it started it.
 *
 * Source: systemd, sd_listen_fds(3): LISTEN_PID names the process they are meant for, LISTEN_FDS tells how many there
 * are, from descriptor 3 on.
 */

const firstDescriptor = 3;

/** The addresses of inherited sockets, in the notation of `--listen`; none when nobody left any for us. */
export function inheritedAddresses(
  environment: NodeJS.ProcessEnv = process.env,
  pid = process.pid,
): string[] {
  const { LISTEN_PID: target, LISTEN_FDS: count } = environment;
  if (target !== String(pid) || count === undefined || !/^[1-9]\d{0,2}$/.test(count)) return [];
  return Array.from({ length: Number(count) }, (_, index) => `fd:${firstDescriptor + index}`);
}
