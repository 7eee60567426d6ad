/**
 * The job options a simulation understands, the ones it accepts because they cannot change its result, and the ones it
 * refuses because ignoring them would change the workload silently. Anything else is unknown.
 *
 * Names and meaning are fio's (HOWTO, "Job file parameters"). Deviations stand with the option.
 */
import {
  bad,
  type Extent,
  type KilobyteBase,
  parseExtent,
  parseInteger,
  parsePercent,
  parsePerDirection,
  parsePositive,
  parseSwitch,
  parseTime,
  parseWord,
} from "./values.js";

/** Directions in the order fio lists them in `bs=read,write,trim`. */
export const directions = ["read", "write", "trim"] as const;

/** A value for each of read, write and trim. */
export type PerDirection<T> = [T, T, T];

/** Sizes of a direction's requests: each with its share in percent, or multiples of `from` up to `to` at random. */
export type BlockSizes =
  | { kind: "split"; parts: { bytes: number; percent: number }[] }
  | { kind: "range"; fromBytes: number; toBytes: number };

export type Distribution =
  | { kind: "uniform" }
  /** Rank r is drawn in proportion to 1 / r^theta. */
  | { kind: "zipf"; theta: number }
  /** A share h of the blocks receives 1 - h of the accesses. */
  | { kind: "pareto"; h: number }
  /** A normal distribution of ranks about the middle, the deviation in percent of the range. */
  | { kind: "normal"; deviationPercent: number };

export interface JobOptions {
  name: string;
  does: PerDirection<boolean>;
  isRandom: boolean;
  blockSizes: PerDirection<BlockSizes>;
  /** Requests the job keeps in flight. */
  queueDepth: number;
  clones: number;
  /** Region of the device; all of it from `offset` on when null. */
  size: Extent | null;
  /** How much to transfer; `size` when null. */
  ioSize: Extent | null;
  offset: Extent;
  /** Added once per clone. */
  offsetIncrement: Extent;
  loops: number;
  /** No limit when null. */
  requestLimit: number | null;
  /** No limit when null. */
  runtimeNs: number | null;
  isTimeBased: boolean;
  rampNs: number;
  startDelayNs: number;
  /** Starts only after all jobs before it have ended. */
  waitsForEarlier: boolean;
  readPercent: number;
  randomPercent: PerDirection<number>;
  distribution: Distribution;
  /** Whether every block comes once before any comes again. */
  coversEachBlockOnce: boolean;
  /** Requests per second at most, per direction; 0 is unlimited. */
  rateIops: PerDirection<number>;
  /** Bytes per second at most, per direction; 0 is unlimited. */
  rateBytes: PerDirection<number>;
  isPoisson: boolean;
  thinkTimeNs: number;
  thinkBlocks: number;
  thinkCountsIssues: boolean;
  /** A flush after this many writes; 0 is never. fsync and fdatasync are the same to a device. */
  flushEvery: number;
  flushesAtEnd: boolean;
  /** Writes carry FUA: what O_SYNC and O_DSYNC become on a block device opened with O_DIRECT. */
  isSynchronous: boolean;
  /** Replaces the run's seed for this job when not null. */
  seed: number | null;
  /** Whether an I/O engine was named that cannot have more than one request in flight. */
  isEngineSynchronous: boolean;
}

const defaultBlock: BlockSizes = { kind: "split", parts: [{ bytes: 4096, percent: 100 }] };

export function defaultOptions(name: string): JobOptions {
  return {
    name,
    does: [true, false, false],
    isRandom: false,
    blockSizes: [defaultBlock, defaultBlock, defaultBlock],
    queueDepth: 1,
    clones: 1,
    size: null,
    ioSize: null,
    offset: { bytes: 0 },
    offsetIncrement: { bytes: 0 },
    loops: 1,
    requestLimit: null,
    runtimeNs: null,
    isTimeBased: false,
    rampNs: 0,
    startDelayNs: 0,
    waitsForEarlier: false,
    readPercent: 50,
    randomPercent: [100, 100, 100],
    distribution: { kind: "uniform" },
    coversEachBlockOnce: true,
    rateIops: [0, 0, 0],
    rateBytes: [0, 0, 0],
    isPoisson: false,
    thinkTimeNs: 0,
    thinkBlocks: 1,
    thinkCountsIssues: false,
    flushEvery: 0,
    flushesAtEnd: false,
    isSynchronous: false,
    seed: null,
    isEngineSynchronous: false,
  };
}

/** Sets one option; throws a `BlkError` for a value that is not one. */
type SetOption = (job: JobOptions, value: string, kbBase: KilobyteBase) => void;

const modes: Record<string, { does: PerDirection<boolean>; isRandom: boolean }> = {
  read: { does: [true, false, false], isRandom: false },
  write: { does: [false, true, false], isRandom: false },
  trim: { does: [false, false, true], isRandom: false },
  rw: { does: [true, true, false], isRandom: false },
  readwrite: { does: [true, true, false], isRandom: false },
  randread: { does: [true, false, false], isRandom: true },
  randwrite: { does: [false, true, false], isRandom: true },
  randtrim: { does: [false, false, true], isRandom: true },
  randrw: { does: [true, true, false], isRandom: true },
};

/** Engines that issue a request and wait for it: fio caps their queue depth at 1. */
const synchronousEngines = ["sync", "psync", "vsync", "pvsync", "pvsync2", "mmap", "splice"];

export const supportedOptions: Record<string, SetOption> = {
  rw(job, value) {
    const [word, modifier] = value.split(":");
    const mode = modes[parseWord(word, Object.keys(modes))];
    if (modifier !== undefined)
      throw bad(`"${value}" has a modifier`, `Only plain modes are simulated: rw=${word}`);
    job.does = mode.does;
    job.isRandom = mode.isRandom;
  },
  bs(job, value, kbBase) {
    const sizes = parsePerDirection(value, (part): BlockSizes => {
      return { kind: "split", parts: [{ bytes: parsePositive(part, kbBase), percent: 100 }] };
    });
    job.blockSizes = overlay(job.blockSizes, sizes);
  },
  bssplit(job, value, kbBase) {
    const splits = parsePerDirection(
      value,
      (part): BlockSizes => ({ kind: "split", parts: parseSplit(part, kbBase) }),
    );
    job.blockSizes = overlay(job.blockSizes, splits);
  },
  bsrange(job, value, kbBase) {
    const ranges = parsePerDirection(value, (part): BlockSizes => {
      const ends = part.split(/[-:]/).map((end) => parsePositive(end, kbBase));
      if (ends.length !== 2) throw bad(`"${part}" is not a range`, "Write from-to: 1k-4k");
      return { kind: "range", fromBytes: Math.min(...ends), toBytes: Math.max(...ends) };
    });
    job.blockSizes = overlay(job.blockSizes, ranges);
  },
  iodepth(job, value, kbBase) {
    job.queueDepth = parsePositive(value, kbBase);
  },
  numjobs(job, value, kbBase) {
    job.clones = parsePositive(value, kbBase);
  },
  size(job, value, kbBase) {
    job.size = parseAmount(value, kbBase);
  },
  io_size(job, value, kbBase) {
    job.ioSize = parseAmount(value, kbBase);
  },
  offset(job, value, kbBase) {
    job.offset = parseExtent(value, kbBase);
  },
  offset_increment(job, value, kbBase) {
    job.offsetIncrement = parseExtent(value, kbBase);
  },
  loops(job, value, kbBase) {
    job.loops = parsePositive(value, kbBase);
  },
  number_ios(job, value, kbBase) {
    job.requestLimit = parsePositive(value, kbBase);
  },
  runtime(job, value) {
    const runtimeNs = parseTime(value, "s");
    job.runtimeNs = runtimeNs === 0 ? null : runtimeNs;
  },
  time_based(job, value) {
    job.isTimeBased = parseSwitch(value);
  },
  ramp_time(job, value) {
    job.rampNs = parseTime(value, "s");
  },
  startdelay(job, value) {
    job.startDelayNs = parseTime(value, "s");
  },
  stonewall(job, value) {
    job.waitsForEarlier = parseSwitch(value);
  },
  rwmixread(job, value) {
    job.readPercent = parsePercent(value);
  },
  rwmixwrite(job, value) {
    job.readPercent = 100 - parsePercent(value);
  },
  percentage_random(job, value) {
    job.randomPercent = overlay(job.randomPercent, parsePerDirection(value, parsePercent));
  },
  random_distribution(job, value) {
    job.distribution = parseDistribution(value);
  },
  norandommap(job, value) {
    job.coversEachBlockOnce = !parseSwitch(value);
  },
  rate_iops(job, value, kbBase) {
    job.rateIops = overlay(
      job.rateIops,
      parsePerDirection(value, (part) => parseInteger(part, kbBase)),
    );
  },
  rate(job, value, kbBase) {
    job.rateBytes = overlay(
      job.rateBytes,
      parsePerDirection(value, (part) => parseInteger(part, kbBase)),
    );
  },
  rate_process(job, value) {
    job.isPoisson = parseWord(value, ["linear", "poisson"]) === "poisson";
  },
  thinktime(job, value) {
    job.thinkTimeNs = parseTime(value, "us");
  },
  thinktime_blocks(job, value, kbBase) {
    job.thinkBlocks = parsePositive(value, kbBase);
  },
  thinktime_blocks_type(job, value) {
    job.thinkCountsIssues = parseWord(value, ["complete", "issue"]) === "issue";
  },
  fsync(job, value, kbBase) {
    job.flushEvery = parseInteger(value, kbBase);
  },
  fdatasync(job, value, kbBase) {
    job.flushEvery = parseInteger(value, kbBase);
  },
  end_fsync(job, value) {
    job.flushesAtEnd = parseSwitch(value);
  },
  fsync_on_close(job, value) {
    job.flushesAtEnd = parseSwitch(value);
  },
  sync(job, value) {
    job.isSynchronous = ["1", "sync", "dsync", ""].includes(
      parseWord(value, ["", "0", "1", "none", "sync", "dsync"]),
    );
  },
  randseed(job, value, kbBase) {
    job.seed = parseInteger(value, kbBase);
  },
  ioengine(job, value) {
    job.isEngineSynchronous = synchronousEngines.includes(value);
  },
  name(job, value) {
    if (value !== "") job.name = value;
  },
};

/** Other names of the same options. */
export const optionAliases: Record<string, string> = {
  readwrite: "rw",
  blocksize: "bs",
  blocksize_range: "bsrange",
  io_limit: "io_size",
  fileoffset: "offset",
  timeout: "runtime",
  numjob: "numjobs",
  start_delay: "startdelay",
  wait_for_previous: "stonewall",
};

/**
 * Options that cannot change what a simulated device is asked to do: where the bytes live, how fio measures and
 * reports, how it runs on the host. They are accepted so that a job file runs both here and in fio.
 */
export const meaninglessOptions: ReadonlySet<string> = new Set([
  // The target: there is one device, and nothing but direct I/O.
  ..."filename directory filename_format unique_filename direct buffered atomic nrfiles filesize".split(" "),
  ..."fallocate file_append overwrite create_serialize create_fsync create_on_open create_only".split(" "),
  ..."allow_file_create allow_mounted_write unlink unlink_each_loop invalidate pre_read fadvise_hint".split(
    " ",
  ),
  ..."lockfile openfiles opendir readonly uri rbdname pool clientname".split(" "),
  // How requests reach the kernel: a simulation has no kernel.
  ..."hipri sqthread_poll sqthread_poll_cpu fixedbufs registerfiles nonvectored uncached userspace_reap".split(
    " ",
  ),
  ..."force_async io_submit_mode thread mem iomem hugepage-size lockmem".split(" "),
  // What the data look like: a device model sees no bytes.
  ..."zero_buffers refill_buffers scramble_buffers buffer_pattern buffer_compress_percentage".split(" "),
  ..."buffer_compress_chunk dedupe_percentage dedupe_mode dedupe_global write_hint".split(" "),
  // The host: processors, priorities, clocks.
  ..."cpus_allowed cpus_allowed_policy cpumask numa_cpu_nodes numa_mem_policy nice prio prioclass".split(" "),
  ..."clocksource gtod_reduce gtod_cpu uid gid cgroup cgroup_weight cgroup_nodelete ioscheduler".split(" "),
  // Randomness: every run repeats from `--seed`, and the generator is our own.
  ..."randrepeat allrandrepeat random_generator".split(" "),
  // Reports and logs of fio's own.
  ..."description group_reporting new_group per_job_logs stats unified_rw_reporting".split(" "),
  ..."clat_percentiles lat_percentiles slat_percentiles percentile_list significant_figures disk_util".split(
    " ",
  ),
  ..."disable_lat disable_clat disable_slat disable_bw_measurement bwavgtime iopsavgtime".split(" "),
  ..."write_bw_log write_lat_log write_hist_log write_iops_log write_iolog".split(" "),
  ..."log_avg_msec log_hist_msec log_hist_coarseness log_max_value log_offset log_prio log_entries".split(
    " ",
  ),
  ..."log_compression log_compression_cpus log_store_compressed log_unix_epoch log_alternate_epoch".split(
    " ",
  ),
  ..."unit_base block_error_percentiles error_dump continue_on_error ignore_error".split(" "),
]);

/** Options of fio that change the workload and are not simulated, each with what to do instead. */
export const refusedOptions: Record<string, string> = {
  read_iolog: "Replay a trace with blkforge simulate --trace FILE",
  verify: "No bytes move in a simulation; remove it, or run the job against blkforge serve",
  do_verify: "No bytes move in a simulation; remove it, or run the job against blkforge serve",
  include: "Put the included lines into the file",
  zonemode: "Zoned devices are not simulated",
  steadystate: "Give runtime and ramp_time instead",
  latency_target: "Give iodepth instead, and try several",
  rate_min: "A simulated job cannot fall behind; remove it",
  rate_iops_min: "A simulated job cannot fall behind; remove it",
  blockalign: "Offsets are aligned to the smallest block size of their direction; remove it",
  ba: "Offsets are aligned to the smallest block size of their direction; remove it",
  bs_unaligned: "Offsets are aligned to the smallest block size of their direction; remove it",
  bs_is_seq_rand: "Give bs=read,write,trim instead",
  rw_sequencer: "Only plain modes are simulated; remove it",
  iodepth_batch: "Requests are issued one by one as soon as there is room; remove it",
  iodepth_batch_complete_min: "Requests are issued one by one as soon as there is room; remove it",
  iodepth_batch_complete_max: "Requests are issued one by one as soon as there is room; remove it",
  iodepth_low: "Requests are issued one by one as soon as there is room; remove it",
  serialize_overlap: "Overlapping requests are the device's own affair; remove it",
  thinktime_spin: "A simulation has no processor to keep busy; remove it, thinktime covers it",
  thinktime_iotime: "Give thinktime and thinktime_blocks instead",
  rate_ignore_thinktime: "Think time always counts in rates here; remove it",
  flow: "Give rate_iops to each job instead",
  file_service_type: "There is one device, so nothing to choose; remove it",
  fill_device: "Give size=100% instead",
  trim_percentage: "Give a job of its own with rw=trim or rw=randtrim",
  sync_file_range: "A block device has no such call; use fsync",
  write_barrier: "Use fsync",
  offset_align: "Give an aligned offset",
  exitall: "Give every job the same runtime instead",
  exit_what: "Give every job the same runtime instead",
};

/** An extent where 0 means "not given", as in fio. */
function parseAmount(text: string, kbBase: KilobyteBase): Extent | null {
  const extent = parseExtent(text, kbBase);
  return Object.values(extent)[0] === 0 ? null : extent;
}

function parseSplit(text: string, kbBase: KilobyteBase): { bytes: number; percent: number }[] {
  const parts = text.split(":").map((part) => {
    const [size, share] = part.split("/");
    return { bytes: parsePositive(size, kbBase), percent: share ? parsePercent(share) : Number.NaN };
  });
  const given = parts.reduce((sum, { percent }) => sum + (Number.isNaN(percent) ? 0 : percent), 0);
  const open = parts.filter(({ percent }) => Number.isNaN(percent));
  if (given > 100 || (open.length === 0 && given < 100)) {
    throw bad(
      `the shares of "${text}" add up to ${given} %`,
      "Make them 100, or leave some out: they divide the rest",
    );
  }
  // As in fio, sizes without a share divide what is left evenly.
  for (const part of open) part.percent = (100 - given) / open.length;
  return parts;
}

function parseDistribution(text: string): Distribution {
  const [word, parameter, ...rest] = text.split(":");
  const kind = parseWord(word, ["random", "uniform", "zipf", "pareto", "normal", "gauss"]);
  if (rest.length > 0)
    throw bad(`"${text}" gives a centre`, `A centre is not simulated; write ${word}:${parameter}`);
  if (kind === "random" || kind === "uniform") return { kind: "uniform" };
  // fio's own defaults: zipf 1.1, pareto 0.2; a normal distribution without deviation is one twelfth of the range wide.
  const fallback = { zipf: "1.1", pareto: "0.2", normal: "8.333", gauss: "8.333" }[kind];
  const value = parameter === undefined ? Number(fallback) : Number(parameter);
  if (kind === "zipf") {
    if (!(value > 0)) throw bad(`"${text}" needs a theta above 0`, "For example zipf:1.1");
    return { kind, theta: value };
  }
  if (kind === "pareto") {
    if (!(value > 0 && value < 1))
      throw bad(`"${text}" needs an h between 0 and 1`, "For example pareto:0.2");
    return { kind, h: value };
  }
  if (!(value > 0 && value <= 100))
    throw bad(`"${text}" needs a deviation in percent`, "For example normal:20");
  return { kind: "normal", deviationPercent: value };
}

function overlay<T>(base: PerDirection<T>, given: PerDirection<T | undefined>): PerDirection<T> {
  return [given[0] ?? base[0], given[1] ?? base[1], given[2] ?? base[2]];
}
