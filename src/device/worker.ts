/**
 * A device thread: builds its devices from their specs, opens their NBD sockets, and answers the main thread's calls.
 *
 * No locks: models, faults, stores, sockets and timers of its devices all live here, and every device belongs to one thread. What
 * is half started when something fails is undone before the error is reported.
 */
import { parentPort } from "node:worker_threads";
import { type Logger, pino } from "pino";
import { assert } from "../base/assert.js";
import { ConnectionCount } from "../nbd/connection-count.js";
import { NbdServer } from "../nbd/server.js";
import { loadTls } from "../nbd/tls.js";
import { formatNbdUri, parseNbdUri } from "../nbd/uri.js";
import { answerCalls } from "./rpc.js";
import { ServedDevice } from "./served-device.js";
import type { AddressSpec, DeviceDescription, ThreadSpec } from "./spec.js";
import { wantsWarmUp, warmUp } from "./warm-up.js";

/** What is in flight at a stop gets this long; a slow disk's longest queue drains in it, a hang does not. */
const drainDeadlineMs = 10_000;

class DeviceThread {
  readonly devices: ServedDevice[] = [];
  private server: NbdServer | null = null;

  readonly methods = {
    start: (spec: ThreadSpec) => this.start(spec),
    close: () => this.close(),
    undo: () => this.undo(),
  };

  private async start(spec: ThreadSpec): Promise<DeviceDescription[]> {
    const { devices, addresses, tls, limits, connectionCounts, index, logLevel } = spec;
    // Synchronous: a line that says why the thread died must not die with it.
    const log = pino({ level: logLevel, base: {} }, pino.destination({ dest: 2, sync: true }));
    try {
      // Keys are read first: the cheapest mistakes are found before anything is touched.
      const server = new NbdServer({
        exports: [],
        tls: loadTls(tls),
        limits,
        count: new ConnectionCount(connectionCounts, index),
        logger: log,
      });
      this.server = server;
      for (const { spec, statsBuffer } of devices) {
        const served = new ServedDevice({ spec, statsBuffer, log: log.child({ device: spec.name }) });
        this.devices.push(served);
        served.linkThrough(server);
      }
      // Classes and their code are the thread's: one drive warms them for all.
      const warming = devices.find(({ spec }) => wantsWarmUp(spec));
      if (warming !== undefined) await warmUp(warming.spec);
      return await this.listen(server, addresses, log);
    } catch (error) {
      await this.undo();
      throw error;
    }
  }

  private async listen(
    server: NbdServer,
    addresses: readonly AddressSpec[],
    log: Logger,
  ): Promise<DeviceDescription[]> {
    const uris = this.devices.map((): string[] => []);
    for (const { uri, exports } of addresses) {
      const bound = await server.listen(
        uri,
        exports.map(({ device, name, isTlsRequired }) => {
          const { device: target, spec } = this.devices[device];
          return { name, target, isBlockSizeEnforced: spec.isBlockSizeEnforced, isTlsRequired };
        }),
      );
      // A lone device is told by the URI as people wrote it: its export is the default one.
      if (exports.length === 1) uris[exports[0].device].push(bound);
      else {
        const where = parseNbdUri(bound);
        for (const { device, name } of exports) {
          uris[device].push(formatNbdUri({ ...where, exportName: name }));
        }
      }
    }
    return this.devices.map((served, device) => {
      const { seed, timing, timingReason } = served.spec;
      log.info({ device: served.spec.name, uris: uris[device], seed, timing, timingReason }, "serving");
      return served.describe(uris[device]);
    });
  }

  private async close(): Promise<void> {
    for (const served of this.devices) served.releaseAll();
    await this.server?.close({ deadlineMs: drainDeadlineMs });
    for (const served of this.devices.splice(0)) served.close();
  }

  private async undo(): Promise<void> {
    await this.server?.close({ deadlineMs: 0 });
    for (const served of this.devices.splice(0)) served.undo();
  }
}

assert(parentPort !== null, "a device thread runs in a worker");
const thread = new DeviceThread();
export type ThreadMethods = DeviceThread["methods"];
answerCalls(parentPort, (target) => (target === "thread" ? thread.methods : thread.devices[target].methods));
