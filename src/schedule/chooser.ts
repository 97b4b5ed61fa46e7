/**
 * One decision: who can go on, whom the default policy would take, whom the strategy takes, and a note where they differ.
 *
 * Whether an actor can go on is a pure function of shared memory: its announced condition, or the engine's `ready()`.
 */
import type { Engine } from '#hostmem/engine';
import { Until } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import { BlockWord, firstAlternative, Head, startOfSchedule, Status, type Board } from './board.ts';
import { isInTurn, nextInTurn } from './endless.ts';
import { nonPreemptive } from './strategies/non-preemptive.ts';
import type { Choice, Strategy } from './strategy.ts';

export const nobody = -1;

export class Chooser implements Choice {
  readonly enabled: Int32Array;
  count = 0;
  current = startOfSchedule;
  byDefault = nobody;
  readonly #board: Board;
  /** By `Space`. */
  readonly #memories: readonly Memory[];
  readonly #engines: readonly Engine[];

  constructor(board: Board, memories: readonly Memory[], engines: readonly Engine[]) {
    this.enabled = new Int32Array(board.actors + board.engines);
    this.#board = board;
    this.#memories = memories;
    this.#engines = engines;
  }

  /** Picks who goes on after `current`, or `nobody`. */
  choose(current: number, strategy: Strategy): number {
    const board = this.#board;
    this.current = current;
    this.#gather();
    if (this.count === 0) return nobody;
    // Whoever runs goes on.
    if (this.byDefault === nobody) this.byDefault = this.#successor();
    board.set(Head.isChoice, this.count > 1 ? 1 : 0);
    if (this.count > 1) board.set(Head.choices, board.get(Head.choices) + 1);
    const next = isInTurn(board) ? nextInTurn(this) : this.#draw(strategy);
    board.set(Head.current, next);
    if (next < board.actors) board.set(Head.lastActor, next);
    return next;
  }

  /** One of the alternatives that an actor has at its present operation. In turn nothing unusual happens any more. */
  alternative(actor: number, count: number, strategy: Strategy): number {
    const board = this.#board;
    const taken = isInTurn(board) ? 0 : strategy.choose(board, count, actor);
    if (taken !== 0) board.recordSwitch(actor, this.#ops(actor), firstAlternative + taken);
    return taken;
  }

  #draw(strategy: Strategy): number {
    // Schedule 0 asks nobody: called through two strategies here, V8 would make neither part of this function.
    const next = strategy === nonPreemptive ? this.byDefault : strategy.pick(this.#board, this);
    if (next !== this.byDefault) this.#board.recordSwitch(this.current, this.#ops(this.current), next);
    return next;
  }

  /** Whether the condition that an actor has announced holds. */
  holds(block: number): boolean {
    const words = this.#board.words;
    const until = words[block + BlockWord.until]!;
    if (until < 0) return true;
    const found = this.#memories[words[block + BlockWord.space]!]!.words[words[block + BlockWord.at]! >>> 2]!;
    const equal = (found & words[block + BlockWord.mask]!) === words[block + BlockWord.value]!;
    return equal === (until === Until.EQUAL);
  }

  #gather(): void {
    const board = this.#board;
    let count = 0;
    this.byDefault = nobody;
    for (let actor = 0; actor < board.actors; actor++) {
      const block = board.block(actor);
      if (board.get(block + BlockWord.status) === Status.DONE || !this.holds(block)) continue;
      this.enabled[count++] = actor;
      if (actor === this.current) this.byDefault = actor;
    }
    // What is late is so in every strategy: some of the orders that there are without.
    if (count > 0 && board.get(Head.late) !== 0) this.count = count;
    else this.#gatherEngines(count);
  }

  #gatherEngines(actors: number): void {
    const board = this.#board;
    let count = actors;
    for (let i = 0; i < this.#engines.length; i++) {
      if (!this.#engines[i]!.ready()) continue;
      this.enabled[count++] = board.actors + i;
      if (board.actors + i === this.current) this.byDefault = this.current;
    }
    this.count = count;
  }

  /** When whoever ran cannot go on: the first ready engine; else the actor that ran last; else the lowest. */
  #successor(): number {
    const lastActor = this.#board.get(Head.lastActor);
    let ranLast = nobody;
    let engine = nobody;
    for (let i = 0; i < this.count; i++) {
      const one = this.enabled[i]!;
      if (one === lastActor) ranLast = one;
      if (one >= this.#board.actors && engine === nobody) engine = one;
    }
    // At the start actor 0 comes first: an engine has nothing to do yet that cannot wait.
    if (this.current === startOfSchedule) return this.enabled[0]!;
    if (engine !== nobody) return engine;
    return ranLast === nobody ? this.enabled[0]! : ranLast;
  }

  #ops(actor: number): number {
    return actor === startOfSchedule ? 0 : this.#board.get(this.#board.block(actor) + BlockWord.ops);
  }
}
