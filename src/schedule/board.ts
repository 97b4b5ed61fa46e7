/**
 * The control block of one cell: everything that the scheduler knows, in one SharedArrayBuffer, so that the thread
 * that holds the baton decides alone.
 *
 *   header | strategy words | results | texts | one block an actor | forced switches | recorded switches | trace ring |
 *   the ring of a schedule's first run | the stack of an exhaustive strategy | its footprints | what was covered
 *
 * Only the holder of the baton writes, with plain stores; the futex words (`BlockWord.turn`, `Head.answer`) order them.
 * This file knows the layout and what each word means, not how anybody decides.
 */
import { door } from '#hostmem/atomics';
import type { Space } from '#hostmem/memory';
import type { WordAddress } from './violation.ts';

/** Words of the header. */
export const Head = {
  actors: 0,
  engines: 1,
  switchCapacity: 2,
  traceCapacity: 3,
  stackCapacity: 4,
  coverCapacity: 5,
  /** Actors' threads that have joined. */
  joined: 6,
  // The command, written by the commander while everybody waits.
  state: 8,
  serial: 9,
  kind: 10,
  first: 11,
  stride: 12,
  end: 13,
  seed: 14,
  budget: 15,
  tracing: 16,
  checksLocking: 17,
  times: 18,
  forcedCount: 19,
  goesOn: 20,
  /** The number of the programs that every schedule runs, or -1: its own. */
  fixedProgram: 21,
  /** Not 0: the host stays as the schedule left it, for who wants to look; the cell runs no other one after that. */
  leavesHost: 22,
  /** Not 0: operations go to the ring, as in an exploration. */
  records: 23,
  // The schedule that runs, or ran last.
  index: 32,
  attempt: 33,
  random: 34,
  step: 35,
  choices: 36,
  hashLow: 37,
  hashHigh: 38,
  current: 39,
  lastActor: 40,
  isChoice: 41,
  failed: 42,
  recordedCount: 43,
  traceLength: 44,
  unguardedActor: 45,
  unguardedSpace: 46,
  unguardedAt: 47,
  unguardedLabel: 48,
  firstHashLow: 49,
  firstHashHigh: 50,
  firstLength: 51,
  redundant: 52,
  program: 53,
  /** The step behind which the schedule is looked at for going on without an end, and what that has come to (`endless`). */
  alarm: 54,
  phase: 55,
  roundEntries: 56,
  roundHash: 57,
  /** Whether operations go to the ring. */
  recording: 58,
  /** How many actors have asked that engines be late. */
  late: 59,
  // What the command has found.
  answer: 64,
  schedules: 65,
  executions: 66,
  failures: 67,
  failedActor: 68,
  choicesOfFirst: 69,
  disagreeing: 70,
  distinctHashes: 71,
  exhausted: 72,
  overflowed: 73,
  /** Times that one thread woke another. */
  passes: 74,
  /** `Covered` words. */
  covered: 76,
  // Lists.
  strategyWords: 96,
  disagreeingWords: 112,
  hashes: 128,
  strategyName: 160,
  invariant: 176,
  message: 192,
  /** A bit for each step of the actors' programs. */
  leftOut: 704,
} as const;

const headerWords = 768;
const nameWords = 16;
const messageWords = 512;
/** Distinct trace hashes that a replay keeps; it counts the others. */
export const hashCapacity = 16;
/** Steps that the programs of all actors may have together. */
export const stepCapacity = 64 * 32;
/** Addresses that a violation may name. */
const disagreeingCapacity = 8;

/** idle -> command  by the commander;  command -> playing, playing -> idle  by the holder;  any -> exit  by the commander */
export const State = { IDLE: 0, COMMAND: 1, PLAYING: 2, EXIT: 3 } as const;
export const Kind = { EXPLORE: 0, REPLAY: 1 } as const;

/** Words of an actor's or engine's block, which has two cache line pairs of its own. */
export const BlockWord = {
  /** 1 while it is this actor's turn; what it sleeps on. */
  turn: 0,
  status: 1,
  op: 2,
  space: 3,
  at: 4,
  label: 5,
  /** `Until`, or -1: the pending operation is always possible. */
  until: 6,
  mask: 7,
  value: 8,
  /** How many operations it has announced: what switches are keyed by. */
  ops: 9,
  /** The operation at which its strategy wants to be asked: -1 always, 0 never. */
  askAt: 10,
  strategyA: 11,
  strategyB: 12,
  /** `ops` when the schedule failed. */
  failedOps: 13,
  lockCount: 14,
  locks: 15,
} as const;

const blockWords = 64;
/** Locks that one actor can hold at a time. */
export const lockCapacity = blockWords - BlockWord.locks;

/** not started -> runnable  by its first turn;  runnable -> done  by the end of its body;  not started -> done  by a failure elsewhere */
export const Status = { NOT_STARTED: 0, RUNNABLE: 1, DONE: 2, ENGINE: 3 } as const;

/** At its operation number `count` (the one behind the last: its exit), `actor` hands on to `next`, against the default policy. */
export interface Switch {
  readonly actor: number;
  readonly count: number;
  readonly next: number;
}

/** A switch whose `next` is this or more is none: `actor` takes another alternative than the usual one, `next - firstAlternative`. */
export const firstAlternative = 256;

/** The actor of the switch that names another start actor; its count is 0. */
export const startOfSchedule = 255;
const switchWords = 3;

/**
 * Words of a node of the stack: masks of actors (enabled, to be tried, tried, asleep, alive), who was chosen and who ran before,
 * where the chosen one's operations begin in the trace, what the way here has cost, and where the footprints end that belong to it. Or, where
 * `alternatives` is not 0, the node of a choice between so many alternatives, which take the actors' places in the masks.
 */
export const NodeWord = { enabled: 0, backtrack: 1, done: 2, sleep: 3, chosen: 4, current: 5, alive: 6, entry: 7, cost: 8, alternatives: 9, footprints: 10 } as const;
const nodeWords = 11;
/** Words of footprints for each node: a step is an operation and seldom more. */
const footprintWords = 8;
/** Actors and engines that a mask has room for. */
export const maskCapacity = 31;

/** Words of an entry of what was covered: a hash of 64 bits, what kind of thing it stands for, and how often it was met. */
export const CoverWord = { low: 0, high: 1, kind: 2, times: 3 } as const;
const coverWords = 4;

/** Words of an entry of the trace ring. */
export const TraceWord = { step: 0, actor: 1, flags: 2, at: 3, label: 4, value: 5 } as const;
export const traceWords = 6;

export interface BoardSize {
  readonly actors: number;
  readonly engines: number;
  /** Switches that are kept of one schedule (12 bytes each, twice). */
  readonly switchCapacity?: number;
  /** Entries of the trace ring (24 bytes each, twice): a power of two. */
  readonly traceCapacity?: number;
  /** Choices of one schedule that an exhaustive strategy can keep (76 bytes each). */
  readonly stackCapacity?: number;
  /** What can be remembered as covered (16 bytes each): a power of two. */
  readonly coverCapacity?: number;
}

export class Board {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly actors: number;
  readonly engines: number;
  readonly #bytes: Uint8Array;
  readonly #forced: number;
  readonly #recorded: number;
  readonly #trace: number;
  readonly #traceMask: number;
  readonly #first: number;
  readonly #stack: number;
  readonly #footprints: number;
  readonly #cover: number;

  /** Joins a board that `Board.create` made. */
  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
    this.actors = this.words[Head.actors]!;
    this.engines = this.words[Head.engines]!;
    const switches = this.words[Head.switchCapacity]! * switchWords;
    this.#forced = headerWords + (this.actors + this.engines) * blockWords;
    this.#recorded = this.#forced + switches;
    this.#trace = this.#recorded + switches;
    this.#traceMask = this.words[Head.traceCapacity]! - 1;
    this.#first = this.#trace + this.words[Head.traceCapacity]! * traceWords;
    this.#stack = this.#first + this.words[Head.traceCapacity]! * traceWords;
    this.#footprints = this.#stack + this.words[Head.stackCapacity]! * nodeWords;
    this.#cover = this.#footprints + this.footprintCapacity;
  }

  static create({ actors, engines, switchCapacity = 8192, traceCapacity = 8192, stackCapacity = 8192, coverCapacity = 1 << 16 }: BoardSize): Board {
    if (actors < 1 || actors + engines >= startOfSchedule) throw new Error(`${actors} actors and ${engines} engines: 1 to 254 are possible`);
    for (const capacity of [traceCapacity, coverCapacity]) if ((capacity & (capacity - 1)) !== 0) throw new Error(`${capacity} is no power of two`);
    const lists = 2 * switchCapacity * switchWords + 2 * traceCapacity * traceWords + stackCapacity * (nodeWords + footprintWords) + coverCapacity * coverWords;
    const words = headerWords + (actors + engines) * blockWords + lists;
    const header = new Int32Array(new SharedArrayBuffer(words * 4));
    header[Head.stackCapacity] = stackCapacity;
    header[Head.coverCapacity] = coverCapacity;
    header[Head.actors] = actors;
    header[Head.engines] = engines;
    header[Head.switchCapacity] = switchCapacity;
    header[Head.traceCapacity] = traceCapacity;
    return new Board(header.buffer);
  }

  get buffer(): SharedArrayBuffer {
    return this.words.buffer;
  }

  get(word: number): number {
    return this.words[word]!;
  }
  set(word: number, value: number): void {
    this.words[word] = value;
  }

  /** Index of an actor's or engine's block. */
  block(actor: number): number {
    return headerWords + actor * blockWords;
  }
  /** Index of an entry of the trace ring. */
  traceAt(entry: number): number {
    return this.#trace + (entry & this.#traceMask) * traceWords;
  }
  /** Keeps the trace ring as that of the schedule's first run; `firstAt` is as `traceAt`. */
  keepFirst(): void {
    const length = Math.min(this.words[Head.traceLength]!, this.words[Head.traceCapacity]!);
    this.words.copyWithin(this.#first, this.#trace, this.#trace + length * traceWords);
    this.words[Head.firstLength] = this.words[Head.traceLength]!;
  }
  firstAt(entry: number): number {
    return this.#first + (entry & this.#traceMask) * traceWords;
  }
  /** Index of a node of the stack. */
  nodeAt(depth: number): number {
    return this.#stack + depth * nodeWords;
  }
  /** Index of a word of the footprints, of which there are `footprintCapacity`. */
  footprintAt(word: number): number {
    return this.#footprints + word;
  }
  get footprintCapacity(): number {
    return this.words[Head.stackCapacity]! * footprintWords;
  }
  /** Index of an entry of what was covered. */
  coverAt(entry: number): number {
    return this.#cover + entry * coverWords;
  }
  /** Forgets what was covered. */
  clearCover(): void {
    this.words.fill(0, this.#cover, this.#cover + this.words[Head.coverCapacity]! * coverWords);
  }

  /** Gives the turn to an actor and wakes it, and only it. Pairs with `awaitTurn`, which sees all that was written before the turn (x86 TSO). */
  pass(actor: number): void {
    const turn = this.block(actor) + BlockWord.turn;
    this.words[Head.passes]! += 1;
    this.words[turn] = 1;
    door.notify(this.words, turn, 1);
  }

  /**
   * Sleeps until it is this actor's turn, and takes it. Looks first: on one CPU whoever is woken runs at once, and in a third of all hand-offs has passed the turn
   * back before its waker comes to sleep.
   */
  awaitTurn(actor: number): void {
    const turn = this.block(actor) + BlockWord.turn;
    // Bounded, so that a wake-up which the host loses costs seconds and not the run.
    while (this.words[turn] === 0) door.wait(this.words, turn, 0, recheckMs);
    this.words[turn] = 0;
  }

  /** Tells the commander that one more thread has joined: no schedule begins before all have seen the host as it was built. */
  join(): void {
    door.add(this.words, Head.joined, 1);
    door.notify(this.words, Head.joined);
  }

  /** Tells the commander that its command is done. */
  report(): void {
    door.add(this.words, Head.answer, 1);
    door.notify(this.words, Head.answer);
  }

  /** A random number of 32 bits from the schedule's own stream. */
  random(): number {
    const state = (this.words[Head.random]! + 0x9e3779b9) | 0;
    this.words[Head.random] = state;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }
  /** A random number from 0 up to, and not including, `bound`. */
  randomBelow(bound: number): number {
    return ((this.random() / 0x1_0000_0000) * bound) >>> 0;
  }

  /** Parts of a forced switch, without an object: a replay looks often. */
  forcedActor(index: number): number {
    return this.words[this.#forced + index * switchWords]!;
  }
  forcedCount(index: number): number {
    return this.words[this.#forced + index * switchWords + 1]!;
  }
  forcedNext(index: number): number {
    return this.words[this.#forced + index * switchWords + 2]!;
  }
  /** Sets the list of forced switches; those beyond the capacity cannot have been recorded here and are refused. */
  setForced(switches: readonly Switch[]): void {
    if (switches.length > this.words[Head.switchCapacity]!) throw new Error(`${switches.length} forced switches are more than the board holds`);
    switches.forEach((one, index) => this.#putSwitch(this.#forced + index * switchWords, one.actor, one.count, one.next));
    this.words[Head.forcedCount] = switches.length;
  }

  /** Which steps of the programs are not run. */
  setLeftOut(steps: readonly number[]): void {
    this.words.fill(0, Head.leftOut, Head.leftOut + stepCapacity / 32);
    for (const step of steps) this.words[Head.leftOut + (step >>> 5)]! |= 1 << (step & 31);
  }
  isLeftOut(step: number): boolean {
    return (this.words[Head.leftOut + (step >>> 5)]! & (1 << (step & 31))) !== 0;
  }

  /** Notes a choice that differs from the default policy's. */
  recordSwitch(actor: number, count: number, next: number): void {
    const index = this.words[Head.recordedCount]!;
    this.words[Head.recordedCount] = index + 1;
    if (index < this.words[Head.switchCapacity]!) this.#putSwitch(this.#recorded + index * switchWords, actor, count, next);
  }
  /** The switches of the last schedule, or null when there were more than the board holds. */
  recorded(): Switch[] | null {
    const count = this.words[Head.recordedCount]!;
    if (count > this.words[Head.switchCapacity]!) return null;
    return Array.from({ length: count }, (_, index) => this.#switchAt(this.#recorded + index * switchWords));
  }

  /** Addresses that a violation names; those beyond the capacity are dropped. */
  setDisagreeing(addresses: readonly WordAddress[]): void {
    const kept = addresses.slice(0, disagreeingCapacity);
    this.words[Head.disagreeing] = kept.length;
    kept.forEach(({ space, at }, index) => {
      this.words[Head.disagreeingWords + 2 * index] = space;
      this.words[Head.disagreeingWords + 2 * index + 1] = at;
    });
  }
  disagreeing(): WordAddress[] {
    return Array.from({ length: this.words[Head.disagreeing]! }, (_, index) => ({
      space: this.words[Head.disagreeingWords + 2 * index]! as Space,
      at: this.words[Head.disagreeingWords + 2 * index + 1]! >>> 0,
    }));
  }

  setText(at: TextAt, text: string): void {
    const room = roomOf(at);
    const bytes = new TextEncoder().encode(text).subarray(0, room);
    this.words[at] = bytes.length;
    this.#bytes.set(bytes, (at + 1) * 4);
  }
  text(at: TextAt): string {
    return new TextDecoder().decode(this.#bytes.slice((at + 1) * 4, (at + 1) * 4 + this.words[at]!));
  }

  #switchAt(at: number): Switch {
    return { actor: this.words[at]!, count: this.words[at + 1]!, next: this.words[at + 2]! };
  }
  #putSwitch(at: number, actor: number, count: number, next: number): void {
    this.words[at] = actor;
    this.words[at + 1] = count;
    this.words[at + 2] = next;
  }
}

type TextAt = typeof Head.strategyName | typeof Head.invariant | typeof Head.message;

const recheckMs = 2_000;

/** Bytes of a text: its area less the word of its length. */
const roomOf = (at: TextAt): number => ((at === Head.message ? messageWords : nameWords) - 1) * 4;
