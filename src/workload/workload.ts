/**
 * All jobs of a job file together, as one source of requests.
 *
 * Jobs run side by side; a job with `stonewall` starts when all before it have ended. Who is next is found with a
 * tournament tree over the jobs' times, so a thousand clones cost ten comparisons per request. At equal times the job
 * that stands first in the file goes first.
 */
import { BlkError } from "../base/errors.js";
import type { RequestSlot, RequestTable } from "../base/request.js";
import { Job } from "./job.js";
import type { JobOptions } from "./options.js";
import type { RequestSource } from "./source.js";

export interface WorkloadOptions {
  jobs: readonly JobOptions[];
  requests: RequestTable;
  /** Size of the device. */
  sizeBytes: number;
  seed: number;
}

/** As fio: more threads than this are a mistake (its own `--max-jobs` is 4096). */
const maximumJobs = 4096;

export class Workload implements RequestSource {
  readonly groups: readonly string[];
  private readonly jobs: Job[] = [];
  /** Group of each job. */
  private readonly jobGroups: number[] = [];
  /** First job of each group; its clones start with it. */
  private readonly firstJobs: Job[] = [];
  /** First job of each phase; a phase starts when the one before has ended. */
  private readonly phases: number[] = [0];
  private phase = 0;
  private runningJobs = 0;
  private readonly jobOfSlot: Int32Array;
  /** Winners of a knockout tournament: node 1 is the final, the leaves are the jobs. */
  private readonly tree: Int32Array;
  private readonly leaves: number;

  constructor({ jobs, requests, sizeBytes, seed }: WorkloadOptions) {
    this.groups = jobs.map(({ name }) => name);
    this.jobOfSlot = new Int32Array(requests.capacity);
    for (const [group, options] of jobs.entries()) {
      if (this.jobs.length + options.clones > maximumJobs) {
        throw new BlkError(
          "BLK_E_WORKLOAD",
          `the workload has more than ${maximumJobs} jobs`,
          "Lower numjobs",
        );
      }
      if (options.waitsForEarlier && this.jobs.length > 0) this.phases.push(this.jobs.length);
      for (let clone = 0; clone < options.clones; clone++) {
        const index = this.jobs.length;
        this.jobs.push(new Job(options, { requests, sizeBytes, seed, clone, index }));
        this.jobGroups.push(group);
      }
      this.firstJobs.push(this.jobs[this.jobs.length - options.clones]);
    }
    this.leaves = 2 ** Math.ceil(Math.log2(Math.max(this.jobs.length, 1)));
    this.tree = new Int32Array(2 * this.leaves);
    for (let leaf = 0; leaf < this.leaves; leaf++) this.tree[this.leaves + leaf] = leaf;
    for (let node = this.leaves - 1; node >= 1; node--) this.decide(node);
    this.startPhase(0);
  }

  /** Largest number of requests in flight at once. */
  static queueDepth(jobs: readonly JobOptions[]): number {
    return jobs.reduce((sum, { clones, queueDepth }) => sum + clones * queueDepth, 0);
  }

  nextIssueNs(): number {
    return this.jobs[this.tree[1]].nextIssueNs;
  }

  issue(slot: RequestSlot, nowNs: number): void {
    const index = this.tree[1];
    this.jobOfSlot[slot] = index;
    this.jobs[index].issue(slot, nowNs);
    this.update(index);
  }

  complete(slot: RequestSlot, nowNs: number): void {
    const index = this.jobOfSlot[slot];
    const job = this.jobs[index];
    job.complete(slot, nowNs);
    this.update(index);
    if (job.isDone) this.onJobDone(nowNs);
  }

  groupOf(slot: RequestSlot): number {
    return this.jobGroups[this.jobOfSlot[slot]];
  }

  measureFromNs(group: number): number {
    return this.firstJobs[group].measureFromNs;
  }

  private onJobDone(nowNs: number): void {
    this.runningJobs--;
    if (this.runningJobs === 0 && this.phase + 1 < this.phases.length) {
      this.phase++;
      this.startPhase(nowNs);
    }
  }

  private startPhase(nowNs: number): void {
    const end = this.phases[this.phase + 1] ?? this.jobs.length;
    for (let index = this.phases[this.phase]; index < end; index++) {
      this.jobs[index].start(nowNs);
      this.update(index);
      this.runningJobs++;
    }
  }

  private update(index: number): void {
    for (let node = (this.leaves + index) >> 1; node >= 1; node >>= 1) this.decide(node);
  }

  private decide(node: number): void {
    const { tree, jobs } = this;
    const left = tree[2 * node];
    const right = tree[2 * node + 1];
    // Leaves beyond the last job are empty and never win; on a tie the left, earlier one does.
    tree[node] = right < jobs.length && jobs[right].nextIssueNs < jobs[left].nextIssueNs ? right : left;
  }
}
