/**
 * fio job files: sections in brackets, options as `name=value`, comments from `#` or `;` to the end of the line.
 *
 * `[global]` sets defaults for the jobs after it and may come again; within a section the last of two equal options
 * counts. `${NAME}` is replaced from the environment. An option that is not known is an error with its name: ignoring
 * it would simulate another workload than the one asked for.
 */
import { BlkError } from "../base/errors.js";
import { closest } from "../base/suggest.js";
import {
  defaultOptions,
  type JobOptions,
  meaninglessOptions,
  optionAliases,
  refusedOptions,
  supportedOptions,
} from "./options.js";
import { bad, type KilobyteBase } from "./values.js";

export interface JobFile {
  jobs: JobOptions[];
  /** What people should know about how their options were taken. */
  notes: string[];
}

export interface JobFileOptions {
  /** Name of the file in messages. */
  path: string;
  /** Values of `${NAME}`. */
  environment?: Record<string, string | undefined>;
}

interface Entry {
  name: string;
  value: string;
  line: number;
}

interface Section {
  name: string;
  entries: Entry[];
}

/**
 * Reads the text of a job file.
 *
 * @throws BlkError BLK_E_WORKLOAD with file and line for anything that is not right.
 * @example
 * parseJobFile("[job]\nrw=randread\nbs=4k\niodepth=32\nruntime=10\ntime_based", { path: "job.fio" });
 */
export function parseJobFile(text: string, { path, environment = {} }: JobFileOptions): JobFile {
  const notes: string[] = [];
  const jobs: JobOptions[] = [];
  let globals: Entry[] = [];
  for (const section of readSections(text, path, environment)) {
    if (section.name === "global") {
      globals = [...globals, ...section.entries];
      continue;
    }
    jobs.push(readJob(section.name, [...globals, ...section.entries], path, notes));
  }
  if (jobs.length === 0) {
    throw new BlkError(
      "BLK_E_WORKLOAD",
      `${path} has no job`,
      "Add a section: a line [name], then its options",
    );
  }
  return { jobs, notes };
}

function* readSections(
  text: string,
  path: string,
  environment: Record<string, string | undefined>,
): Generator<Section> {
  let section: Section | null = null;
  let line = 0;
  for (const raw of text.split("\n")) {
    line++;
    const written = raw.replace(/[;#].*/, "").trim();
    if (written === "") continue;
    const header = /^\[(.+)\]$/.exec(written);
    if (header !== null) {
      if (section !== null) yield section;
      section = { name: header[1].trim(), entries: [] };
      continue;
    }
    if (section === null) {
      throw at(
        path,
        line,
        bad(`"${written}" stands before any section`, "Begin with [global] or a [job] name"),
      );
    }
    const equals = written.indexOf("=");
    const name = equals < 0 ? written : written.slice(0, equals).trim();
    const value = equals < 0 ? "" : written.slice(equals + 1).trim();
    section.entries.push({ name, value: expand(value, environment, path, line), line });
  }
  if (section !== null) yield section;
}

function readJob(name: string, entries: Entry[], path: string, notes: string[]): JobOptions {
  const job = defaultOptions(name);
  const kbBase = readKilobyteBase(entries, path);
  for (const entry of entries) {
    if (entry.name === "kb_base") continue;
    try {
      setOption(job, entry, kbBase);
    } catch (error) {
      throw error instanceof BlkError ? at(path, entry.line, error) : error;
    }
  }
  if (job.isTimeBased && job.runtimeNs === null) {
    throw new BlkError(
      "BLK_E_WORKLOAD",
      `${path}: job "${name}" is time_based without a runtime`,
      "Add runtime=10s",
    );
  }
  if (job.isEngineSynchronous && job.queueDepth > 1) {
    notes.push(
      `job "${name}": its ioengine has one request in flight at a time, so iodepth=${job.queueDepth} counts as 1, as in fio`,
    );
    job.queueDepth = 1;
  }
  return job;
}

function setOption(job: JobOptions, { name, value }: Entry, kbBase: KilobyteBase): void {
  const canonical = optionAliases[name] ?? name;
  if (Object.hasOwn(supportedOptions, canonical)) {
    try {
      supportedOptions[canonical](job, value, kbBase);
    } catch (error) {
      if (!(error instanceof BlkError)) throw error;
      throw new BlkError(error.code, `${name}: ${error.message}`, error.hint);
    }
    return;
  }
  if (meaninglessOptions.has(name)) return;
  if (Object.hasOwn(refusedOptions, name)) {
    throw bad(`option "${name}" cannot be simulated`, refusedOptions[name]);
  }
  const known = [...Object.keys(supportedOptions), ...Object.keys(optionAliases), ...meaninglessOptions];
  const suggestion = closest(name, known);
  throw bad(
    `unknown option "${name}"`,
    suggestion === undefined
      ? "See blkforge simulate --help for the options of a job"
      : `Did you mean ${suggestion}?`,
  );
}

/** kb_base decides how the other values read, wherever it stands in the section. */
function readKilobyteBase(entries: Entry[], path: string): KilobyteBase {
  const entry = entries.findLast(({ name }) => name === "kb_base");
  if (entry === undefined || entry.value === "1024") return 1024;
  if (entry.value === "1000") return 1000;
  throw at(path, entry.line, bad(`kb_base: "${entry.value}" is not offered`, "Choose 1000 or 1024"));
}

function expand(
  value: string,
  environment: Record<string, string | undefined>,
  path: string,
  line: number,
): string {
  return value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_, name: string) => {
    const replacement = environment[name];
    if (replacement === undefined) {
      throw at(
        path,
        line,
        bad(`the variable ${name} is not set`, `Set it: ${name}=... blkforge simulate ...`),
      );
    }
    return replacement;
  });
}

function at(path: string, line: number, error: BlkError): BlkError {
  return new BlkError(error.code, `${path}:${line}: ${error.message}`, error.hint);
}
