/**
 * Threads that work beside the bench's own, in a steady loop: released together, and waited for. Pairs with `team-member.ts`.
 *
 * A turn costs what waking a thread costs, some tens of microseconds: a call is to be long beside that.
 */
import { door } from '#hostmem/atomics';
import { Worker } from 'node:worker_threads';

/** Words that all of a team see, on lines of their own. `turn` counts releases; a negative one sends all home. */
export const TeamWord = { turn: 0, count: 32, done: 64, sum: 96, words: 128 } as const;

/** What a member is told: the module whose `work(job)` returns the function that does so many operations. */
export interface MemberOrder {
  readonly module: string;
  readonly job: unknown;
  readonly words: Int32Array<SharedArrayBuffer>;
}

/** A thread that has not answered by then has died. */
const patienceMs = 60_000;

export class Team {
  readonly #words = new Int32Array(new SharedArrayBuffer(TeamWord.words * 4));
  readonly #size: number;

  /** Starts a thread for each job and waits until all are ready. */
  constructor(module: string, jobs: readonly unknown[]) {
    this.#size = jobs.length;
    for (const job of jobs) {
      const order: MemberOrder = { module, job, words: this.#words };
      new Worker(new URL('./team-member.js', import.meta.url), { workerData: order });
    }
    this.#waitForAll();
  }

  /** Does `count` operations in every thread, this one included; the sum of what they returned. */
  run(own: (count: number) => number, count: number): number {
    const words = this.#words;
    door.store(words, TeamWord.done, 0);
    door.store(words, TeamWord.sum, 0);
    door.store(words, TeamWord.count, count);
    door.add(words, TeamWord.turn, 1);
    door.notify(words, TeamWord.turn);
    const sum = own(count);
    this.#waitForAll();
    return sum + door.load(words, TeamWord.sum);
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
