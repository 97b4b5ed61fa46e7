/**
 * The baton: one thread runs at a time, and the one that runs decides who is next.
 *
 * A thread announces its operation and asks. Picked, it goes on at once; otherwise it gives the turn to who was picked,
 * wakes it and sleeps until the turn comes back. Engines have no thread: the holder runs their steps. The last
 * actor to finish judges, puts memory back and begins the next schedule; worker threads stay for the life of the host.
 * This file does not know what a label or an invariant means.
 */
import { Op, Until, type Control } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { History } from '#hostmem/history';
import { freedText, hashText, label as labelOf } from '#hostmem/labels';
import { Space, type Memory } from '#hostmem/memory';
import { BlockWord, Head, Kind, startOfSchedule, State, Status, type Board } from './board.ts';
import type { Checkpoint } from './checkpoint.ts';
import { Chooser, nobody } from './chooser.ts';
import { advance, asksAlways, clearSchedule, recordFailure, startCommand } from './command.ts';
import { eventLabel, eventWord } from './dependence.ts';
import { Coverer } from './coverage.ts';
import { answerAlarm } from './endless.ts';
import { describeDeadlock, describeUnwoken } from './explanation.ts';
import { forcedSwitches } from './forced.ts';
import { HeldLocks } from './held-locks.ts';
import { nonPreemptive } from './strategies/non-preemptive.ts';
import { lowest } from './stack.ts';
import { isExhaustive, type Strategies, type Strategy } from './strategy.ts';
import { Tracer, type TraceEntry } from './trace.ts';
import { traceToCheck, unguardedTouch } from './verdict.ts';
import { Abandon, Violation, violationOf } from './violation.ts';

/** What happens around a schedule, by whoever finishes it; no point is reached here. */
export interface Hooks {
  /**
   * Looks at the state at rest, after a schedule in which nothing was found: oracles of quiescence and of the history. `trace` is all of
   * the schedule where its locking is to be checked, else null.
   */
  judge(trace: readonly TraceEntry[] | null): Violation | null;
  /** Memory has been restored: clears the history and whatever else is not in it. */
  reset(): void;
  /** Memory is as the schedule left it; the only moment at which a failure's state can be copied. */
  ended?(failed: boolean): void;
}

export interface Seat {
  readonly board: Board;
  /** Who this thread is. */
  readonly actor: number;
  readonly host: { readonly ram: Memory; readonly kernel: Memory };
  readonly checkpoint: Checkpoint;
  /** In the same order in every thread. */
  readonly engines: readonly Engine[];
  /** Of the actors; engines bring theirs. */
  readonly names: readonly string[];
  readonly strategies: Strategies;
  readonly hooks: Hooks;
}

/** playing -> stepping -> playing  around an engine's step;  playing -> unwinding  by a failure;  -> outside  between bodies */
const Mode = { PLAYING: 0, STEPPING: 1, OUTSIDE: 2, UNWINDING: 3 } as const;
type Mode = (typeof Mode)[keyof typeof Mode];

const freeLabel = labelOf(freedText);

/** Points that one unwinding may still pass; a loop that waits for somebody else passes more, and is told again. */
const silentPoints = 100_000;

export class Baton implements Control {
  readonly #board: Board;
  readonly #words: Int32Array;
  readonly #actor: number;
  readonly #block: number;
  readonly #ram: Memory;
  readonly #kernel: Memory;
  readonly #checkpoint: Checkpoint;
  readonly #engines: readonly Engine[];
  readonly #names: readonly string[];
  readonly #strategies: Strategies;
  readonly #hooks: Hooks;
  readonly #chooser: Chooser;
  readonly #tracer: Tracer;
  readonly #coverer: Coverer;
  readonly #held: HeldLocks;
  #mode: Mode = Mode.OUTSIDE;
  /** Of the command, and of the schedule that runs. */
  #ordered: Strategy = nonPreemptive;
  #strategy: Strategy = nonPreemptive;
  #serial = 0;
  /** Whether guarded writes go to the ring, too: they are for stories alone. */
  #isTracing = false;
  #silentLeft = 0;
  /** The histories of both memories, while an abandoned body writes none. */
  #silenced: [ram: History | null, kernel: History | null] = [null, null];

  constructor({ board, actor, host, checkpoint, engines, names, strategies, hooks }: Seat) {
    if (engines.length !== board.engines) throw new Error(`the board is for ${board.engines} engines, not ${engines.length}`);
    this.#board = board;
    this.#words = board.words;
    this.#actor = actor;
    this.#block = board.block(actor);
    this.#held = new HeldLocks(board, this.#block);
    this.#ram = host.ram;
    this.#kernel = host.kernel;
    this.#checkpoint = checkpoint;
    this.#engines = engines;
    this.#names = [...names, ...engines.map((engine) => engine.name)];
    this.#strategies = strategies;
    this.#hooks = hooks;
    this.#chooser = new Chooser(board, [host.ram, host.kernel], engines);
    this.#tracer = new Tracer(board);
    this.#coverer = new Coverer(board);
    host.ram.control = this;
    host.kernel.control = this;
  }

  /** Steps of this schedule so far: the only clock that actors have. */
  get step(): number {
    return this.#words[Head.step]!;
  }

  /** Plays this actor in every schedule of every command, until the commander says exit. Blocks the thread. */
  run(body: () => void): void {
    this.#board.join();
    for (let isMine = false; ; ) {
      if (!isMine) this.#board.awaitTurn(this.#actor);
      const state = this.#words[Head.state]!;
      if (state === State.EXIT) return;
      if (state === State.COMMAND) startCommand(this.#board);
      this.#takeOrders();
      isMine = state === State.COMMAND ? this.#begin() : this.#play(body);
    }
  }

  /** Ends the schedule with a violation and leaves the actor's body. Returns only where the schedule is over already. */
  violate(violation: Violation): void {
    if (this.#mode === Mode.UNWINDING) return;
    this.#fail(violation);
    this.#abandon();
  }

  // ---- Control: what stands between the actor and its next access ----

  // `| 0`: a number that V8 does not know to be an integer reaches the board by way of a double, every time that it is stored.

  point(op: Op, memory: Memory, at: number, label: number): void {
    if (this.#mode !== Mode.PLAYING) {
      this.#pointInside(op, memory, at, label);
      return;
    }
    const words = this.#words;
    const block = this.#block;
    const ops = words[block + BlockWord.ops]! + 1;
    words[block + BlockWord.ops] = ops;
    const askAt = words[block + BlockWord.askAt]!;
    if (askAt === -1 || askAt === ops) this.#arrive((op | 0) as Op, memory.space, at | 0, label | 0);
    this.#record(this.#actor, (op | 0) as Op, memory.space, at | 0, label | 0);
  }

  pointWhen(op: Op, memory: Memory, at: number, label: number, mask: number, until: Until, value: number): void {
    if (this.#mode !== Mode.PLAYING) {
      this.#pointInside(op, memory, at, label);
      if (this.#mode === Mode.STEPPING) this.#assertPossible(memory, at, mask, until, value);
      return;
    }
    const words = this.#words;
    const block = this.#block;
    words[block + BlockWord.ops] = words[block + BlockWord.ops]! + 1;
    words[block + BlockWord.until] = until | 0;
    words[block + BlockWord.mask] = mask | 0;
    words[block + BlockWord.value] = value | 0;
    this.#arrive((op | 0) as Op, memory.space, at | 0, label | 0);
    words[block + BlockWord.until] = -1;
    this.#record(this.#actor, (op | 0) as Op, memory.space, at | 0, label | 0);
  }

  /** An operation of its own, but no point: alternatives are independent of what others do. Engines have none. */
  choose(count: number, label: number): number {
    if (this.#mode !== Mode.PLAYING) return 0;
    this.#words[this.#block + BlockWord.ops]! += 1;
    const taken = this.#chooser.alternative(this.#actor, count, this.#strategy);
    this.#record(this.#actor, Op.CHOICE, Space.RAM, 0, label);
    this.saw(taken);
    return taken;
  }

  makeLate(isLate: boolean): void {
    if (this.#mode === Mode.PLAYING) this.#words[Head.late]! += isLate ? 1 : -1;
  }

  saw(value: number): void {
    if (this.#mode > Mode.STEPPING) return;
    // The next operation mixes it in.
    this.#words[Head.hashLow] = this.#words[Head.hashLow]! + (value | 0);
    if (this.#words[Head.recording] !== 0) this.#tracer.value(value | 0);
  }

  /** Here waiting is a condition, and who waits goes on; on threads that sleep it would not. */
  changedUnwoken(memory: Memory, at: number, label: number): void {
    if (this.#mode > Mode.STEPPING) return;
    const board = this.#board;
    for (let actor = 0; actor < board.actors; actor++) {
      const block = board.block(actor);
      const isWaiting = board.get(block + BlockWord.until) >= 0 && board.get(block + BlockWord.op) === Op.WAIT && actor !== this.#words[Head.current];
      if (!isWaiting || board.get(block + BlockWord.at) !== at || board.get(block + BlockWord.space) !== memory.space || !this.#chooser.holds(block)) continue;
      this.violate(new Violation('L4', describeUnwoken(this.#names, this.#words[Head.current]!, actor, label)));
    }
  }

  dirty(memory: Memory, at: number): void {
    this.#checkpoint.mark(memory.space, at);
  }

  wroteGuarded(memory: Memory, at: number, label: number, value: number): void {
    if (this.#isTracing && this.#mode <= Mode.STEPPING) this.#tracer.guarded(this.#words[Head.current]!, memory.space, at, label, value);
  }

  freed(memory: Memory, at: number, sizeBytes: number): void {
    if (this.#words[Head.recording] === 0 || this.#mode > Mode.STEPPING) return;
    for (let word = at; word < at + sizeBytes; word += 4) this.#tracer.inside(this.#words[Head.current]!, Op.WRITE, memory.space, word, freeLabel);
  }

  /**
   * An event was written, or somebody asked which have been: who judges events sees their order, so that two steps that write some for the same judge depend on
   * each other. Of both masks each bit is a judge's.
   */
  inOrder(written: number, read: number): void {
    if (this.#words[Head.recording] === 0 || this.#isTracing || this.#mode > Mode.STEPPING) return;
    for (let rest = written | read; rest !== 0; rest &= rest - 1) {
      const judge = lowest(rest);
      this.#tracer.inside(this.#words[Head.current]!, (written & (1 << judge)) === 0 ? Op.READ : Op.WRITE, Space.KERNEL, eventWord(judge), eventLabel);
    }
  }

  acquired(memory: Memory, lockAt: number, _label: number): void {
    if (this.#mode <= Mode.STEPPING) this.#held.add(memory, lockAt);
  }

  released(memory: Memory, lockAt: number): void {
    if (this.#mode <= Mode.STEPPING) this.#held.remove(memory, lockAt);
  }

  /** Outside a schedule and while unwinding nobody is judged. */
  holds(memory: Memory, lockAt: number): boolean {
    return this.#mode > Mode.STEPPING || this.#held.has(memory, lockAt);
  }

  unguarded(memory: Memory, at: number, label: number): void {
    const words = this.#words;
    if (this.#mode > Mode.STEPPING || words[Head.unguardedActor] !== -1) return;
    words[Head.unguardedActor] = words[Head.current]!;
    words[Head.unguardedSpace] = memory.space;
    words[Head.unguardedAt] = at;
    words[Head.unguardedLabel] = label;
  }

  // ---- Deciding ----

  /** Announces, decides and, if somebody else goes first, waits for the turn. */
  #arrive(op: Op, space: Space, at: number, label: number): void {
    const words = this.#words;
    const block = this.#block;
    words[block + BlockWord.op] = op;
    words[block + BlockWord.space] = space;
    words[block + BlockWord.at] = at;
    words[block + BlockWord.label] = label;
    const next = this.#decide(this.#actor);
    if (next === this.#actor) return;
    if (next === nobody) this.violate(this.#deadlock());
    this.#board.pass(next);
    this.#board.awaitTurn(this.#actor);
    if (words[Head.failed] !== 0) this.#abandon();
  }

  /** The actor that goes on after `from`, once the engines' steps that come before it are done. */
  #decide(from: number): number {
    let current = from;
    for (;;) {
      const next = this.#chooser.choose(current, this.#strategy);
      if (next < this.#board.actors) return next;
      this.#runStep(next);
      current = next;
    }
  }

  /** Runs an engine's step under its own name, with its own locks. What it throws ends the schedule, not the holder's call. */
  #runStep(actor: number): void {
    const engine = this.#engines[actor - this.#board.actors]!;
    const { high: highOfRam } = this.#ram;
    const { high: highOfKernel } = this.#kernel;
    const mode = this.#mode;
    this.#mode = Mode.STEPPING;
    this.#held.block = this.#board.block(actor);
    this.#writeHistoryAs(actor);
    try {
      this.#record(actor, Op.STEP, engine.memory.space, engine.at(), engine.label());
      engine.step();
    } catch (thrown) {
      this.#fail(thrown);
    }
    this.#writeHistoryAs(this.#actor);
    this.#held.block = this.#block;
    this.#mode = mode;
    this.#ram.high = highOfRam;
    this.#kernel.high = highOfKernel;
    this.#words[this.#board.block(actor) + BlockWord.ops]! += 1;
    if (this.#words[Head.failed] !== 0) this.#abandon();
  }

  #writeHistoryAs(actor: number): void {
    if (this.#ram.history !== null) this.#ram.history.actor = actor;
    if (this.#kernel.history !== null) this.#kernel.history.actor = actor;
  }

  /** One step is executed now: into the hash, against the budget, into the trace. */
  #record(actor: number, op: Op, space: Space, at: number, label: number): void {
    const words = this.#words;
    const step = words[Head.step]! + 1;
    words[Head.step] = step;
    const low = Math.imul(words[Head.hashLow]! ^ (actor | (op << 8) | (space << 12)) ^ label, 0x21f0aaad);
    words[Head.hashLow] = low ^ (low >>> 15);
    const high = Math.imul(words[Head.hashHigh]! + at, 0x735a2d97) + (low ^ label);
    words[Head.hashHigh] = high ^ (high >>> 15);
    if (words[Head.recording] !== 0) this.#tracer.point(actor, op, space, at, label);
    if (step > words[Head.alarm]!) this.#answerAlarm();
  }

  /** Nobody can say of a schedule that goes in turn, other than a strategy wanted, that all of its kind were tried. */
  #answerAlarm(): void {
    const found = answerAlarm(this.#board, this.#checkpoint, this.#names);
    if (found !== null) this.violate(found);
    else if (isExhaustive(this.#strategy)) this.#words[Head.overflowed] = 1;
  }

  /** A point that is none: within an engine's step, outside a schedule, or on the way out of a failed one. */
  #pointInside(op: Op, memory: Memory, at: number, label: number): void {
    if (this.#mode === Mode.STEPPING && this.#words[Head.recording] !== 0) this.#tracer.inside(this.#words[Head.current]!, op, memory.space, at, label);
    // A loop that waits for somebody else would go round for ever.
    if (this.#mode === Mode.UNWINDING && this.#silentLeft-- <= 0) throw new Abandon();
  }

  #assertPossible(memory: Memory, at: number, mask: number, until: Until, value: number): void {
    const isEqual = (memory.words[at >>> 2]! & mask) === value;
    if (isEqual !== (until === Until.EQUAL)) throw new Error(`${this.#names[this.#words[Head.current]!]} would have to wait within a step`);
  }

  #deadlock(): Violation {
    return new Violation('DEADLOCK', describeDeadlock(this.#board, this.#names));
  }

  // ---- Failing ----

  /** Notes what was thrown or found as the schedule's violation, unless there is one. */
  #fail(thrown: unknown): void {
    if (this.#words[Head.failed] === 0) recordFailure(this.#board, this.#words[Head.current]!, violationOf(thrown));
  }

  /** Leaves the body. From here on points are silent and no events are written: `finally` blocks still run. */
  #abandon(): never {
    if (this.#mode === Mode.PLAYING) {
      this.#mode = Mode.UNWINDING;
      this.#silentLeft = silentPoints;
      this.#silenced = [this.#ram.history, this.#kernel.history];
      this.#ram.history = null;
      this.#kernel.history = null;
    }
    throw new Abandon();
  }

  /** The body is over, one way or another. */
  #leave(): void {
    if (this.#mode === Mode.UNWINDING) [this.#ram.history, this.#kernel.history] = this.#silenced;
    this.#mode = Mode.OUTSIDE;
  }

  /** An actor that is still within its body, or `nobody`; those that never started need not. */
  #nextToUnwind(): number {
    const board = this.#board;
    for (let actor = 0; actor < board.actors; actor++) {
      const status = board.block(actor) + BlockWord.status;
      if (board.get(status) === Status.RUNNABLE) return actor;
      board.set(status, Status.DONE);
    }
    return nobody;
  }

  // ---- Schedules ----

  /** Another thread may have been given a new command since this one last ran. */
  #takeOrders(): void {
    if (this.#serial === this.#words[Head.serial]!) return;
    this.#serial = this.#words[Head.serial]!;
    this.#isTracing = this.#words[Head.tracing] !== 0;
    const isReplay = this.#words[Head.kind] === Kind.REPLAY;
    this.#ordered = isReplay ? forcedSwitches : this.#strategies.find(this.#board.text(Head.strategyName));
  }

  /** Schedule 0 is the non-preemptive one, whatever was ordered, unless that needs to have seen them all. */
  #strategyOfSchedule(): Strategy {
    const isFirst = this.#words[Head.index] === 0 && this.#words[Head.kind] === Kind.EXPLORE;
    return isFirst && !isExhaustive(this.#ordered) ? nonPreemptive : this.#ordered;
  }

  /** Sets up the next schedule and decides who starts; returns whether it is this actor. */
  #begin(): boolean {
    const board = this.#board;
    clearSchedule(board);
    board.set(Head.state, State.PLAYING);
    this.#strategy = this.#strategyOfSchedule();
    this.#strategy.begin(board, board.get(Head.index));
    if (asksAlways(board)) for (let actor = 0; actor < board.actors; actor++) board.set(board.block(actor) + BlockWord.askAt, -1);
    return this.#handOn(startOfSchedule);
  }

  /** Runs the body once; returns whether the turn is this actor's again, to start the next schedule. */
  #play(body: () => void): boolean {
    this.#strategy = this.#strategyOfSchedule();
    this.#words[this.#block + BlockWord.status] = Status.RUNNABLE;
    this.#mode = Mode.PLAYING;
    try {
      this.#record(this.#actor, Op.START, Space.RAM, 0, 0);
      body();
    } catch (thrown) {
      this.#fail(thrown);
    }
    this.#leave();
    this.#words[this.#block + BlockWord.status] = Status.DONE;
    this.#words[this.#block + BlockWord.ops]! += 1;
    return this.#handOn(this.#actor);
  }

  /** Gives the turn to whoever goes on when this thread has nothing to do; returns whether it is this actor. */
  #handOn(from: number): boolean {
    const next = this.#successor(from);
    if (next === nobody) return this.#finish();
    if (next === this.#actor) return true;
    this.#board.pass(next);
    return false;
  }

  /** Who runs next, or unwinds next; `nobody` when the schedule is over. */
  #successor(from: number): number {
    if (this.#words[Head.failed] !== 0) return this.#nextToUnwind();
    try {
      const next = this.#decide(from);
      if (next !== nobody) return next;
      const waiting = this.#nextToUnwind();
      if (waiting !== nobody) this.#fail(this.#deadlock());
      return waiting;
    } catch (thrown) {
      this.#fail(thrown);
      return this.#nextToUnwind();
    }
  }

  /** The schedule is over: judges, restores on every way out, and goes on with the command or reports to the commander. */
  #finish(): boolean {
    const words = this.#words;
    words[Head.current] = startOfSchedule;
    if (words[Head.failed] === 0) this.#judge();
    if (words[Head.failed] !== 0) words[Head.hashHigh]! ^= hashText(this.#board.text(Head.invariant));
    this.#hooks.ended?.(words[Head.failed] !== 0);
    if (words[Head.leavesHost] === 0) this.#checkpoint.restore();
    this.#hooks.reset();
    if (advance(this.#board, this.#ordered, this.#coverer, this.#names)) return this.#begin();
    words[Head.state] = State.IDLE;
    this.#board.report();
    return false;
  }

  #judge(): void {
    try {
      const violation = this.#hooks.judge(traceToCheck(this.#board, this.#isTracing));
      if (violation !== null) this.#fail(violation);
    } catch (thrown) {
      this.#fail(thrown);
    }
    const touch = this.#words[Head.failed] === 0 ? unguardedTouch(this.#board, this.#names) : null;
    if (touch !== null) recordFailure(this.#board, this.#words[Head.unguardedActor]!, touch);
  }
}
