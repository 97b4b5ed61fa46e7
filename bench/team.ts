/**
 * Threads that work beside the bench's own, in a steady loop: released together, and waited for. Pairs with `team-member.ts`.
 *
 * A turn costs what waking a thread costs, some tens of microseconds: a call is to be long beside that.
 */
import { door } from '#hostmem/atomics';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

/**
 * Words that all of a team see, on lines of their own. `turn` counts releases; a negative one sends all home. `steady`: each thread goes on
 * until `ended` is the turn, which may be so before it has woken, and counts its operations in a word of its own, from `made` on. Those with a number below `first`, or not below `end`, sit it out.
 */
export const TeamWord = { turn: 0, count: 32, done: 64, sum: 96, steady: 128, first: 160, end: 161, ended: 192, made: 224, stride: 32 } as const;

/** What a member is told: the module whose `work(job)` returns the function that does so many operations. */
export interface MemberOrder {
  readonly member: number;
  readonly module: string;
  readonly job: unknown;
  readonly words: Int32Array<SharedArrayBuffer>;
  /** In a steady state: what the last `timesKept` chunks took in nanoseconds, and behind them how many there were. */
  readonly times: Int32Array<SharedArrayBuffer>;
}

export const timesKept = 2048;

/** Bundles of `team-member.ts`: with all questions, as the question's own thread is, or with what devices do alone. */
export type MemberBundle = 'member' | 'device';
const { resolve } = createRequire(import.meta.url);

/** A thread that has not answered by then has died. */
const patienceMs = 60_000;
/** How long threads run before their operations are counted. */
const settleMs = 30;

/** What threads did in a steady state. */
export interface Steady {
  readonly seconds: number;
  /** Operations, by thread. */
  readonly made: readonly number[];
  /** What a chunk, `count` operations, took in nanoseconds, by thread: the median. A host that takes a processor away for a while changes few of them. */
  readonly chunkNs: readonly number[];
  /** Of what a chunk returns in each, which is the same every time. */
  readonly sum: number;
}

export class Team {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #times: readonly Int32Array<SharedArrayBuffer>[];
  readonly #size: number;

  /** Starts a thread for each job and waits until all are ready. */
  constructor(module: string, jobs: readonly unknown[], bundle: MemberBundle = 'member') {
    const thread = resolve(`#bundle/${bundle}`);
    this.#size = jobs.length;
    this.#words = new Int32Array(new SharedArrayBuffer((TeamWord.made + jobs.length * TeamWord.stride) * 4));
    this.#times = jobs.map(() => new Int32Array(new SharedArrayBuffer((timesKept + 1) * 4)));
    for (const [member, job] of jobs.entries()) {
      const order: MemberOrder = { member, module, job, words: this.#words, times: this.#times[member]! };
      new Worker(thread, { workerData: order });
    }
    this.#waitForAll();
  }

  /** Does `count` operations in every thread, this one included; the sum of what they returned. */
  run(own: (count: number) => number, count: number): number {
    this.#release(count, 0, 0, this.#size);
    const sum = own(count);
    this.#waitForAll();
    return sum + door.load(this.#words, TeamWord.sum);
  }

  /**
   * Lets every thread but this one, or so many of them from `first` on, do `count` operations over and over, and looks at what they do in `ms`. Longer where a
   * thread has not done any by then.
   */
  steady(count: number, ms: number, members: number = this.#size, first: number = 0): Steady {
    const end = first + members;
    this.#release(count, 1, first, end);
    this.#sleep(settleMs);
    const before = this.#made();
    const begin = performance.now();
    let made: number[] = [];
    for (let slept = 0; slept < patienceMs && (slept === 0 || made.includes(0)); slept += ms) {
      this.#sleep(ms);
      made = this.#made().map((now, member) => (now - before[member]!) >>> 0).slice(first, end);
    }
    const seconds = (performance.now() - begin) / 1000;
    door.store(this.#words, TeamWord.ended, door.load(this.#words, TeamWord.turn));
    door.notify(this.#words, TeamWord.ended);
    this.#waitForAll();
    return { seconds, made, chunkNs: this.#times.slice(first, end).map(medianOf), sum: door.load(this.#words, TeamWord.sum) };
  }

  #release(count: number, steady: number, first: number, end: number): void {
    const words = this.#words;
    door.store(words, TeamWord.done, 0);
    door.store(words, TeamWord.sum, 0);
    door.store(words, TeamWord.count, count);
    door.store(words, TeamWord.steady, steady);
    door.store(words, TeamWord.first, first);
    door.store(words, TeamWord.end, end);
    door.add(words, TeamWord.turn, 1);
    door.notify(words, TeamWord.turn);
  }

  #sleep(ms: number): void {
    door.wait(this.#words, TeamWord.steady, 1, ms);
  }

  #made(): number[] {
    return Array.from({ length: this.#size }, (_, member) => door.load(this.#words, TeamWord.made + member * TeamWord.stride));
  }

  /** The threads leave. */
  end(): void {
    door.store(this.#words, TeamWord.turn, -1);
    door.notify(this.#words, TeamWord.turn);
  }

  #waitForAll(): void {
    for (let done = this.#done(); done < this.#size; done = this.#done()) {
      if (door.wait(this.#words, TeamWord.done, done, patienceMs) === 'timed-out') throw new Error('a thread of the team does not answer');
    }
  }

  #done(): number {
    return door.load(this.#words, TeamWord.done);
  }
}

/** Of what a thread has left when its turn ended. */
function medianOf(times: Int32Array): number {
  const kept = times.slice(0, Math.min(timesKept, times[timesKept]!)).toSorted();
  return kept[kept.length >>> 1]!;
}
