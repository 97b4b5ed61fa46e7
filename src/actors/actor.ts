/**
 * What every actor has: the host and the kernel as its thread sees them, randomness of its own, and ways to wait and to
 * complain. It decides nothing about schedules.
 */
import { Until } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import type { WaitWord } from '#hostmem/locks';
import { mix32 } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Kernel } from '../kernel/kernel.ts';
import { Violation } from '../schedule/violation.ts';
import type { Counters } from './counters.ts';
import type { Pace } from './pace.ts';

/** What a worker hands to its actor. */
export interface Seat {
  readonly name: string;
  readonly host: Host;
  readonly kernel: Kernel;
  readonly counters: Counters;
  /** The pace of a free run; null in a controlled one. */
  readonly pace: Pace | null;
  /** The run's seed, mixed with the actor's number. */
  readonly seed: number;
  /** Names of the world: functions, processes, guests. */
  readonly directory: Readonly<Record<string, number>>;
}

/** An idle thread of a free run looks up at least this often: a wake-up may come just before it falls asleep. */
const recheckMs = 20;

export class Actor {
  readonly name: string;
  readonly host: Host;
  readonly kernel: Kernel;
  readonly counters: Counters;
  readonly #pace: Pace | null;
  readonly #seed: number;
  readonly #directory: Readonly<Record<string, number>>;
  #random = 0;

  constructor(seat: Seat) {
    this.name = seat.name;
    this.host = seat.host;
    this.kernel = seat.kernel;
    this.counters = seat.counters;
    this.#pace = seat.pace;
    this.#seed = seat.seed;
    this.#random = seat.seed;
    this.#directory = seat.directory;
  }

  /** The reference of something that the world named. */
  named(name: string): number {
    const found = this.#directory[name];
    if (found === undefined) throw new Error(`the world has nothing called '${name}'; it has ${Object.keys(this.#directory).join(', ')}`);
    return found;
  }

  /** Around a body: what it said of its end is the body's own. */
  beginBody(): void {}
  /** It has come to its end, or its process was killed. */
  endBody(): void {}

  /** The same draws again; or those of one step of a program. */
  reseed(program: number = 0, step: number = 0): void {
    this.#random = program === 0 && step === 0 ? this.#seed : mix32(this.#seed ^ mix32(program) ^ Math.imul(step + 1, 0x9e3779b9)) | 0;
  }

  /** An integer in `[0, bound)`, from the seed alone. */
  random(bound: number): number {
    this.#random = (this.#random + 0x9e3779b9) | 0;
    return mix32(this.#random) % bound;
  }

  /** Ends the run as a violation of the scenario's own claim when `holds` is false. */
  check(holds: boolean, message: string): void {
    if (!holds) throw new Violation('CHECK', `${this.name}: ${message}`);
  }

  /** As `check`: a call's answer is one of those that are legal there; by default that is null, success. */
  expect(call: string, answer: unknown, ...legal: readonly unknown[]): void {
    const isLegal = legal.length === 0 ? answer === null : legal.includes(answer);
    if (!isLegal) this.check(false, `${call} ended with ${String(answer)}`);
  }

  /** As `expect`, of a call that answers with a number: that; or null, where it was refused as is legal there. */
  obtain(call: string, answer: unknown): number;
  obtain(call: string, answer: unknown, ...refusals: readonly string[]): number | null;
  obtain(call: string, answer: unknown, ...refusals: readonly string[]): number | null {
    if (typeof answer === 'number') return answer;
    this.expect(call, answer, ...refusals);
    return null;
  }

  /** Waits for a word at a place where the actor holds nothing: a doorbell, a completion. A run may end here. */
  waitIdle(word: WaitWord, memory: Memory, at: number, until: Until, value: number): void {
    const pace = this.#pace;
    if (pace === null) {
      word.waitUntil(memory, at, until, value);
      return;
    }
    pace.beginIdle(memory, word.address(memory, at));
    for (let seen = word.load(memory, at); (seen === value) !== (until === Until.EQUAL); seen = word.load(memory, at)) {
      pace.rest();
      word.sleepWhile(memory, at, seen, recheckMs);
    }
    pace.endIdle();
  }
}

/** The words of an IOVA given as a number below 2^53. */
export const highOf = (address: number): number => Math.floor(address / 0x1_0000_0000) | 0;
export const lowOf = (address: number): number => address | 0;
