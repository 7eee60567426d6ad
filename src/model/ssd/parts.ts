/** The parts of a drive, made from its parameters and joined: flash, translation layer, the ways of reads and writes. */
import { Random } from "../../base/random.js";
import type { RequestTable } from "../../base/request.js";
import { Breakdown } from "../breakdown.js";
import { EventLanes } from "../event-lanes.js";
import type { ModelObserver } from "../observer.js";
import { Activity } from "./activity.js";
import { Collector } from "./collector.js";
import { Link } from "./controller/link.js";
import { Thermal } from "./controller/thermal.js";
import { createCounters } from "./counters.js";
import { Event, eventBits, orderlyKinds, timers } from "./events.js";
import { Flash, type FlashSink } from "./flash.js";
import { Frontiers } from "./frontiers.js";
import { Geometry, unitBytes } from "./geometry.js";
import { Heat } from "./heat.js";
import { MapCache } from "./map-cache.js";
import { MapPages } from "./map-pages.js";
import { Mapping } from "./mapping.js";
import { PageTimes } from "./page-times.js";
import { precondition } from "./precondition.js";
import { ReadPath } from "./read-path.js";
import type { SsdParameters } from "./schema.js";
import { SlcCache } from "./slc-cache.js";
import { Smart } from "./smart.js";
import { Superblocks } from "./superblocks.js";
import { Victims } from "./victims.js";
import { Wear } from "./wear.js";
import { WriteBuffer } from "./write-buffer.js";
import { type Commands, WritePath } from "./write-path.js";

/** Flash operations reads of the host can have under way beyond one per request. */
const readOperations = 8192;

export interface SsdPartsOptions {
  parameters: SsdParameters;
  sizeBytes: number;
  requests: RequestTable;
  seed: number;
  /** Whether the drive has a cache the host must flush: the profile's `writeCache`. */
  hasVolatileCache?: boolean | undefined;
  observer?: ModelObserver | undefined;
}

export type SsdParts = ReturnType<typeof createParts>;

/** @param drive who is told that an operation of the flash has ended, and that a command is complete. */
export function createParts(options: SsdPartsOptions, drive: FlashSink & Commands) {
  const { parameters, requests, sizeBytes, seed } = options;
  const { capacity } = requests;
  const random = (name: string) => new Random(seed, `model/ssd/${name}`);
  const observer = options.observer ?? null;
  const counters = createCounters();
  const breakdown = new Breakdown(capacity);
  const link = new Link(parameters.link);

  const geometry = new Geometry(parameters, sizeBytes);
  const superblocks = new Superblocks(geometry.superblocks, parameters.wear.cycles);
  const layout = precondition(parameters, geometry, superblocks, random("layout"));
  const mapping = new Mapping(geometry, superblocks, layout);
  const pageTimes = new PageTimes(geometry, superblocks, parameters.flash);

  const bufferUnits = Math.max(1, Math.floor(parameters.writeBuffer.size / unitBytes));
  const mostPrograms = Math.max(2 * geometry.dies, Math.ceil(bufferUnits / geometry.slcProgramUnits)) + 4;
  const reservedOperations = mostPrograms + Collector.mostOperations(geometry);
  const operations = reservedOperations + readOperations + capacity;
  // Each request has at most one event waiting. Pages that take equally long are sensed in order.
  const events = new EventLanes(
    capacity + timers + Flash.mostEvents(parameters, geometry),
    orderlyKinds,
    eventBits,
    pageTimes.readClasses,
  );
  const flash = new Flash({
    parameters: parameters.flash,
    blocking: parameters.gc.blocking,
    geometry,
    events,
    eventBases: Event,
    capacity: operations,
    sink: drive,
    observer,
  });
  const heat =
    parameters.thermal === undefined
      ? null
      : new Heat(new Thermal(parameters.thermal), parameters.flash.dieWatts, flash, geometry, observer);

  const slcCache = new SlcCache(parameters, geometry, superblocks);
  const wear = new Wear(
    parameters.wear,
    parameters.retry,
    superblocks,
    counters,
    random("wear"),
    geometry.neededSuperblocks,
  );
  const frontiers = new Frontiers(
    { parameters, geometry, superblocks, mapping, flash, counters, slcCache },
    mostPrograms,
  );
  const victims = new Victims(superblocks, geometry.superblockUnits, parameters.gc, random("victims"));
  const collector = new Collector({
    parameters,
    geometry,
    superblocks,
    mapping,
    frontiers,
    flash,
    victims,
    pageTimes,
    slcCache,
    wear,
    counters,
    observer,
    operations,
  });
  const buffer = new WriteBuffer({
    capacityUnits: bufferUnits,
    mostPrograms,
    mapping,
    frontiers,
    collector,
    counters,
    streamOf: (before) => frontiers.hostStream(before),
    requests: capacity,
  });

  const mapPages =
    parameters.mapCache === undefined
      ? null
      : new MapPages({
          cache: new MapCache(geometry.hostUnits, parameters.mapCache.size),
          hitNs: parameters.mapCache.hit,
          geometry,
          flash,
          pageTimes,
          programNs: parameters.flash.program,
          counters,
          reservedOperations,
        });
  const readPath = new ReadPath({
    requests,
    events,
    breakdown,
    geometry,
    mapping,
    mapPages,
    frontiers,
    flash,
    pageTimes,
    wear,
    link,
    counters,
    reservedOperations,
  });
  const writePath = new WritePath({
    parameters: parameters.writeBuffer,
    hasVolatileCache: options.hasVolatileCache !== false,
    requests,
    commands: drive,
    events,
    breakdown,
    mapping,
    mapPages,
    frontiers,
    buffer,
    collector,
    flash,
    pageTimes,
    wear,
    link,
    counters,
    observer,
    reservedOperations,
  });
  const activity = new Activity(parameters, collector, slcCache, events);
  const smart = new Smart(requests, activity, wear, counters, heat?.thermal ?? null, parameters.thermal);
  return {
    counters,
    breakdown,
    geometry,
    superblocks,
    mapping,
    pageTimes,
    events,
    flash,
    heat,
    frontiers,
    collector,
    readPath,
    writePath,
    activity,
    smart,
  };
}
