/**
 * Status: how a request ended, in words with a meaning rather than numbers.
 *
 * Models, stores and faults speak status; each transport turns it into what its wire can say (NBD knows eight
 * error numbers, ublk the kernel's errno table). The names follow the block layer's own (`block/blk-core.c`,
 * `blk_errors[]`). `openzones` and `activezones` say that a zoned device has no room for one more such zone.
 */

export const statusNames = [
  "ok",
  "io",
  "medium",
  "nospc",
  "timeout",
  "transport",
  "target",
  "protection",
  "notsupp",
  "resource",
  "again",
  "offline",
  "perm",
  "inval",
  "shutdown",
  "openzones",
  "activezones",
] as const;

export type StatusName = (typeof statusNames)[number];

/** A status as the request table stores it: the index of its name. */
export type Status = number;

export const Status = Object.freeze(
  Object.fromEntries(statusNames.map((name, index) => [name, index])) as Record<StatusName, Status>,
);

/** The statuses a fault may inject: every one but success and the server's own shutdown. */
export const failureNames = statusNames.filter(
  (name): name is Exclude<StatusName, "ok" | "shutdown"> => name !== "ok" && name !== "shutdown",
);
