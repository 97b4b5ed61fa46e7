/**
 * The main thread's side of one cell: gives commands to the actors' threads and reads the answers off the board.
 *
 * It decides nothing within a schedule. The main thread never blocks, because it has to see a worker die: it waits
 * asynchronously, races the actors' own promise, and gives up when neither schedules nor steps advance.
 */
import { door } from '#hostmem/atomics';
import { BlockWord, Head, hashCapacity, Kind, maskCapacity, startOfSchedule, State, type Board, type Switch } from './board.ts';
import { hashText64 } from './command.ts';
import { Covered, readCover } from './coverage.ts';
import { Stillness } from './stillness.ts';
import { isExhaustive, type Strategies } from './strategy.ts';
import { readTrace, type TraceEntry } from './trace.ts';
import { Violation } from './violation.ts';

/** Which random steps the actors' programs have. */
export interface Programs {
  /** The number that they are drawn from; in an exploration that gives none, each schedule has its own. */
  readonly program?: number | null;
  /** Steps that are not run, by their place in all programs together. */
  readonly leftOut?: readonly number[];
}

export interface Exploration extends Programs {
  /** Runs schedules first, first + stride, ... (`count` of them) of the sequence that seed and strategy give. */
  readonly first?: number;
  readonly count: number;
  readonly stride?: number;
  /** 32 bits. */
  readonly seed: number;
  readonly strategy: string;
  /** Steps that one schedule may take. */
  readonly budget?: number;
  /** Whether it is a violation that a guarded word is touched without its lock (L2), or what the trace's judge finds. */
  readonly checksLocking?: boolean;
  readonly trace?: boolean;
  /** Counts failures and goes on, instead of ending with the first one. */
  readonly goesOn?: boolean;
}

export interface Replay extends Programs {
  readonly switches: readonly Switch[];
  readonly times?: number;
  readonly budget?: number;
  readonly checksLocking?: boolean;
  readonly trace?: boolean;
  /** Whether the board keeps the operations, as after an exploration. */
  readonly records?: boolean;
  /** The host stays as the schedule leaves it: the last order that the cell can take. */
  readonly leavesHost?: boolean;
}

/** Of the schedule that ran last: the failing one, if any. */
export interface Outcome {
  readonly violation: Violation | null;
  /** Who broke it: an actor, an engine, or null where the judge found it. */
  readonly actor: number | null;
  /** How many operations each actor had announced when it broke. */
  readonly counts: readonly number[];
  /** The schedule as forced switches, or null where there were too many to keep. */
  readonly switches: readonly Switch[] | null;
  readonly steps: number;
  /** What its programs were drawn from. */
  readonly program: number;
  readonly hash: string;
  /** Empty unless asked for. */
  readonly trace: readonly TraceEntry[];
}

export interface ExplorationOutcome extends Outcome {
  /** Distinct executions of the range that was asked for. */
  readonly schedules: number;
  /** With those that were run twice. */
  readonly executions: number;
  /** Which schedule failed; where none did, the one that would be next. */
  readonly index: number;
  readonly failures: number;
  /** An exhaustive strategy has come to its end. */
  readonly isComplete: boolean;
  /** It gave up: a schedule was too long for the board. */
  readonly isTooLong: boolean;
  /** What was covered, as `sumUp` takes it, and whether there was more than the board could hold. */
  readonly cover: Int32Array;
  readonly isCoverTruncated: boolean;
}

export interface ReplayOutcome extends Outcome {
  readonly times: number;
  /** How many of them failed. */
  readonly failures: number;
  /** The distinct trace hashes, 16 at most; one, if replay replays. */
  readonly hashes: readonly string[];
}

export const defaultBudget = 100_000;
/** Starting a thread and loading its code takes long on a busy machine. */
const joinMs = 180_000;

export class Commander {
  readonly #board: Board;
  readonly #strategies: Strategies;
  readonly #ended: Promise<never>;
  readonly #actors: Promise<unknown>;
  readonly #stallMs: number;

  /** `actors` settles when an actor's thread ends; `stallMs` without a step or a schedule is a hang. */
  constructor(board: Board, strategies: Strategies, actors: Promise<unknown>, stallMs: number = 30_000) {
    this.#board = board;
    this.#strategies = strategies;
    this.#actors = actors;
    this.#stallMs = stallMs;
    this.#ended = actors.then(() => {
      throw new Error('an actor left its thread in the middle of a command');
    });
    // Whoever waits for a command sees it; between commands nobody does.
    this.#ended.catch(() => {});
  }

  /** Explores until a schedule fails or `count` have held. */
  async explore(order: Exploration): Promise<ExplorationOutcome> {
    const { first = 0, count, stride = 1, seed, strategy, budget = defaultBudget, checksLocking = false, trace = false, goesOn = false } = order;
    if (!(count >= 1 && first >= 0 && stride >= 1)) throw new Error(`first ${first}, count ${count}, stride ${stride}: nothing to explore`);
    const board = this.#board;
    if (isExhaustive(this.#strategies.find(strategy))) {
      if (first !== 0 || stride !== 1) throw new Error(`${strategy} runs its schedules in one cell, one after the other`);
      const everyone = board.actors + board.engines;
      if (everyone > maskCapacity) throw new Error(`${strategy} is for ${maskCapacity} actors and engines at most; there are ${everyone}`);
    }
    board.set(Head.goesOn, goesOn ? 1 : 0);
    board.setText(Head.strategyName, strategy);
    board.setForced([]);
    this.#setPrograms(order);
    board.set(Head.first, first);
    board.set(Head.stride, stride);
    board.set(Head.end, Math.min(first + count * stride, 0x7fffffff));
    await this.#command(Kind.EXPLORE, { seed, budget, checksLocking, trace });
    return {
      ...this.#outcome(),
      schedules: board.get(Head.schedules),
      executions: board.get(Head.executions),
      index: board.get(Head.index),
      failures: board.get(Head.failures),
      isComplete: board.get(Head.exhausted) !== 0,
      isTooLong: board.get(Head.overflowed) !== 0,
      cover: readCover(board),
      isCoverTruncated: board.get(Head.covered + Covered.FULL) !== 0,
    };
  }

  #setPrograms({ program = null, leftOut = [] }: Programs): void {
    this.#board.set(Head.fixedProgram, program ?? -1);
    this.#board.setLeftOut(leftOut);
  }

  /** Schedules of the running exploration so far. */
  get schedules(): number {
    return door.load(this.#board.words, Head.schedules);
  }

  /** Lowers the end of the running exploration: another cell has found something at this index. */
  stopBefore(index: number): void {
    if (index < this.#board.get(Head.end)) door.store(this.#board.words, Head.end, index);
  }

  /** Runs the schedule that the switches describe. */
  async replay({ switches, times = 1, budget = defaultBudget, checksLocking = false, trace = false, records = false, leavesHost = false, ...programs }: Replay): Promise<ReplayOutcome> {
    const board = this.#board;
    board.setForced(switches);
    this.#setPrograms(programs);
    board.set(Head.times, times);
    board.set(Head.leavesHost, leavesHost ? 1 : 0);
    board.set(Head.records, records ? 1 : 0);
    await this.#command(Kind.REPLAY, { seed: 0, budget, checksLocking, trace });
    const kept = Math.min(board.get(Head.distinctHashes), hashCapacity);
    return {
      ...this.#outcome(),
      times: board.get(Head.schedules),
      failures: board.get(Head.failures),
      hashes: Array.from({ length: kept }, (_, i) => hashText64(board.get(Head.hashes + 2 * i + 1), board.get(Head.hashes + 2 * i))),
    };
  }

  /** Sends the actors home; resolves when their threads are free. */
  async close(): Promise<void> {
    this.#board.set(Head.state, State.EXIT);
    for (let actor = 0; actor < this.#board.actors; actor++) this.#board.pass(actor);
    await this.#actors;
  }

  async #command(kind: number, order: { seed: number; budget: number; checksLocking: boolean; trace: boolean }): Promise<void> {
    const board = this.#board;
    if (board.get(Head.state) !== State.IDLE) throw new Error('the cell is busy with another command');
    await this.#allJoined();
    board.set(Head.kind, kind);
    board.set(Head.seed, order.seed);
    board.set(Head.budget, order.budget);
    board.set(Head.checksLocking, order.checksLocking ? 1 : 0);
    board.set(Head.tracing, order.trace ? 1 : 0);
    board.set(Head.serial, board.get(Head.serial) + 1);
    board.set(Head.state, State.COMMAND);
    const seen = door.load(board.words, Head.answer);
    board.pass(0);
    await this.#answer(seen);
  }

  async #allJoined(): Promise<void> {
    const { words, actors } = this.#board;
    const begin = performance.now();
    for (let joined = door.load(words, Head.joined); joined < actors; joined = door.load(words, Head.joined)) {
      await Promise.race([door.waitAsync(words, Head.joined, joined, 100), this.#ended]);
      if (performance.now() - begin > joinMs) throw new Error(`only ${joined} of ${actors} actors have joined in ${joinMs / 1000} s`);
    }
  }

  /** Waits for the answer, for an actor's end, or for the watchdog, whichever comes first. */
  async #answer(seen: number): Promise<void> {
    const { words } = this.#board;
    // An interval that is referenced: a waitAsync alone does not keep the process alive. On a busy machine it was seen to settle only when the next
    // timer was due: so a short one.
    const keepAlive = setInterval(() => {}, 20);
    try {
      const stillness = new Stillness();
      stillness.look(this.#progress(), performance.now());
      while (door.load(words, Head.answer) === seen) {
        await Promise.race([door.waitAsync(words, Head.answer, seen, 500), this.#ended]);
        if (stillness.look(this.#progress(), performance.now()) > this.#stallMs) throw new Error(this.#describeStall());
      }
    } finally {
      clearInterval(keepAlive);
    }
  }

  #progress(): string {
    const { words } = this.#board;
    return `${door.load(words, Head.executions)}.${door.load(words, Head.step)}`;
  }

  #describeStall(): string {
    const board = this.#board;
    const where = `schedule ${board.get(Head.index)}, step ${board.get(Head.step)}, actor ${board.get(Head.current)}`;
    return `nothing has moved for ${this.#stallMs / 1000} s (${where}): that actor's code loops without reaching a point, or its thread hangs`;
  }

  #outcome(): Outcome {
    const board = this.#board;
    const actor = board.get(Head.failedActor);
    const hasFailed = board.get(Head.failures) > 0;
    const violation = new Violation(board.text(Head.invariant), board.text(Head.message), board.disagreeing());
    return {
      violation: hasFailed ? violation : null,
      actor: hasFailed && actor !== startOfSchedule ? actor : null,
      counts: Array.from({ length: board.actors }, (_, one) => board.get(board.block(one) + BlockWord.failedOps)),
      switches: board.recorded(),
      steps: board.get(Head.step),
      program: board.get(Head.program),
      hash: hashText64(board.get(Head.hashHigh), board.get(Head.hashLow)),
      trace: board.get(Head.tracing) === 0 ? [] : readTrace(board),
    };
  }
}
