/**
 * Which choices of the last schedule have to be made otherwise too: for every two operations that depend on each other and
 * are ordered by nothing else, somebody who leads to the second one is to be tried where the first was chosen.
 *
 * Vector clocks over the schedule's choices. A schedule that broke off is looked at to its end too: what the others were
 * about to do takes part, and the step that broke it depends on everything, because nothing comes behind it.
 */
import { Op } from '#hostmem/atomics';
import { BlockWord, Head, NodeWord, startOfSchedule, type Board } from './board.ts';
import { Accesses, canSwap, conflict, effect, Effect, wordKey } from './dependence.ts';
import { isAlternatives, lowest, nodeWord, setNodeWord } from './stack.ts';

const none = -1;
const access = new Accesses();

export class RaceAnalysis {
  #board!: Board;
  /** Nodes of the stack, and those of them that are choices of actors: a step has all choices between alternatives that follow in it. */
  #stackDepth = 0;
  #depth = 0;
  #nodes = new Int32Array(0);
  #actors = 0;
  /** `clocks[node * actors + a]`: one more than the last node of `a` that comes before `node`, itself included. */
  #clocks = new Int32Array(0);
  /** The same of each actor's last node. */
  #present = new Int32Array(0);
  #seen = new Int32Array(0);
  #chosen = new Int32Array(0);
  /** Of each entry: its node, effect and operation, and the entry before it on the same word. */
  #node = new Int32Array(0);
  #op = new Int32Array(0);
  #before = new Int32Array(0);
  readonly #last = new Map<number, number>();

  /**
   * Adds to the nodes' `backtrack`; races whose second operation is before node `from` were found when it was run first. A
   * schedule that went on by default from its last choice, being redundant, is looked at up to there. The trace ring has
   * to hold all of it.
   */
  findRaces(board: Board, depth: number, from: number): void {
    this.#reset(board, depth);
    for (let node = 0; node < this.#depth; node++) this.#step(node, node + 1 === this.#depth || this.#nodes[node + 1]! >= from);
    if (board.get(Head.failed) === 0 || board.get(Head.redundant) !== 0) return;
    for (let rest = this.#pending(); rest !== 0; rest &= rest - 1) this.#stepPending(lowest(rest));
    if (this.isCutShort(board)) this.#stepBreaking();
  }

  /** Whether a step of an actor or engine, not the judge or a deadlock, ended the schedule. */
  isCutShort(board: Board): boolean {
    return board.get(Head.failed) !== 0 && board.get(Head.failedActor) !== startOfSchedule && board.text(Head.invariant) !== 'DEADLOCK';
  }

  #reset(board: Board, depth: number): void {
    this.#board = board;
    this.#stackDepth = depth;
    this.#findNodes();
    this.#actors = board.actors + board.engines;
    const entries = board.get(Head.traceLength) + 1;
    if (this.#clocks.length < (depth + 1) * this.#actors) this.#clocks = new Int32Array(2 * (depth + 1) * this.#actors);
    if (this.#chosen.length <= depth) this.#chosen = new Int32Array(2 * (depth + 1));
    if (this.#node.length < entries) {
      this.#node = new Int32Array(2 * entries);
      this.#op = new Int32Array(2 * entries);
      this.#before = new Int32Array(2 * entries);
    }
    this.#present = new Int32Array(this.#actors * this.#actors);
    this.#seen = new Int32Array(this.#actors);
    this.#last.clear();
    for (let node = 0; node < this.#depth; node++) this.#chosen[node] = this.#word(node, NodeWord.chosen);
  }

  #findNodes(): void {
    if (this.#nodes.length < this.#stackDepth) this.#nodes = new Int32Array(2 * this.#stackDepth);
    this.#depth = 0;
    for (let at = 0; at < this.#stackDepth; at++) if (!isAlternatives(this.#board, at)) this.#nodes[this.#depth++] = at;
  }

  #word(node: number, word: number): number {
    return nodeWord(this.#board, this.#nodes[node]!, word);
  }

  /** An executed choice: its clock, then its races, then it becomes part of the past. */
  #step(node: number, isNew: boolean): void {
    const actor = this.#chosen[node]!;
    const first = this.#word(node, NodeWord.entry);
    const end = node + 1 < this.#depth ? this.#word(node + 1, NodeWord.entry) : this.end;
    this.#clockFromPresent(node, actor);
    for (let entry = first; entry < end; entry++) if (this.#isVisible(entry)) this.#order(node, access.key, access.op);
    this.#clocks[node * this.#actors + actor] = node + 1;
    for (let entry = first; isNew && entry < end; entry++) if (this.#isVisible(entry)) this.#race(node, actor, access.key, access.op);
    for (let entry = first; entry < end; entry++) if (this.#isVisible(entry)) this.#link(entry, node);
    this.#present.set(this.#clocks.subarray(node * this.#actors, (node + 1) * this.#actors), actor * this.#actors);
  }

  /** What an actor was about to do when the schedule broke off: as if it came next. */
  #stepPending(actor: number): void {
    const block = this.#board.block(actor);
    const key = wordKey(this.#board.get(block + BlockWord.space), this.#board.get(block + BlockWord.at));
    const op = this.#board.get(block + BlockWord.op);
    const node = this.#depth;
    this.#chosen[node] = actor;
    this.#clockFromPresent(node, actor);
    this.#order(node, key, op);
    this.#clocks[node * this.#actors + actor] = node + 1;
    this.#race(node, actor, key, op);
  }

  /** The step that broke the schedule could have come before whatever it does not follow from, and behind all that was pending. */
  #stepBreaking(): void {
    const last = this.#depth - 1;
    const actor = this.#chosen[last]!;
    this.#addBacktrack(last, this.#word(last, NodeWord.enabled));
    this.#seen.set(this.#clocks.subarray(last * this.#actors, (last + 1) * this.#actors));
    for (let node = last - 1; node >= 0; node--) {
      if (this.#seen[this.#chosen[node]!]! > node || this.#isBareStart(node)) continue;
      if (this.#reverse(node, last, actor)) this.#see(node);
    }
  }

  /** A start with which nothing was told or chosen: nobody sees whether it has been. */
  #isBareStart(node: number): boolean {
    const entry = this.#word(node, NodeWord.entry);
    return this.#word(node + 1, NodeWord.entry) === entry + 1 && access.turn(this.#board, entry) && access.op === Op.START;
  }

  /** Where the entries of the last node end. */
  get end(): number {
    const board = this.#board;
    return board.get(Head.redundant) !== 0 ? nodeWord(board, this.#stackDepth, NodeWord.entry) : board.get(Head.traceLength);
  }

  #addBacktrack(node: number, actors: number): void {
    setNodeWord(this.#board, this.#nodes[node]!, NodeWord.backtrack, this.#word(node, NodeWord.backtrack) | actors);
  }

  #isVisible(entry: number): boolean {
    return access.turn(this.#board, entry) && effect(access.op) !== Effect.NONE;
  }

  #clockFromPresent(node: number, actor: number): void {
    this.#clocks.set(this.#present.subarray(actor * this.#actors, (actor + 1) * this.#actors), node * this.#actors);
  }

  /** Puts a node behind the operations on a word that its own depends on: back to the last write, which has all before it. */
  #order(node: number, key: number, op: number): void {
    for (let entry = this.#last.get(key) ?? none; entry !== none; entry = this.#before[entry]!) {
      const other = effect(this.#op[entry]!);
      if (conflict(other, effect(op))) join(this.#clocks, node * this.#actors, this.#clocks, this.#node[entry]! * this.#actors, this.#actors);
      if (other === Effect.WRITES) return;
    }
  }

  /** Walks back over the word's operations to those that nothing but this race puts before the node. */
  #race(node: number, actor: number, key: number, op: number): void {
    this.#seen.set(this.#present.subarray(actor * this.#actors, (actor + 1) * this.#actors));
    for (let entry = this.#last.get(key) ?? none; entry !== none; entry = this.#before[entry]!) {
      const earlier = this.#node[entry]!;
      const isSeen = this.#seen[this.#chosen[earlier]!]! > earlier;
      if (isSeen && effect(this.#op[entry]!) === Effect.WRITES) return;
      if (isSeen || !conflict(effect(this.#op[entry]!), effect(op)) || !canSwap(this.#op[entry]!, op)) continue;
      if (this.#reverse(earlier, node, actor)) this.#see(earlier);
    }
  }

  #see(node: number): void {
    join(this.#seen, 0, this.#clocks, node * this.#actors, this.#actors);
  }

  /** Sees to it that the later node can come before the earlier one; false where it cannot: the earlier one made it possible. */
  #reverse(earlier: number, later: number, actor: number): boolean {
    const enabled = this.#word(earlier, NodeWord.enabled);
    const leading = this.#initials(earlier, later);
    if (leading === 1 << actor && this.#isNext(earlier, later, actor) && (enabled & leading) === 0) return false;
    if ((this.#word(earlier, NodeWord.backtrack) & leading) !== 0) return true;
    const possible = leading & enabled;
    const added = possible === 0 ? enabled : (possible & (1 << actor)) !== 0 ? 1 << actor : 1 << lowest(possible);
    this.#addBacktrack(earlier, added);
    return true;
  }

  /** Who can come first among what lies between two nodes and does not follow from the earlier one, the later one included. */
  #initials(earlier: number, later: number): number {
    const row = this.#actors;
    const tried = this.#chosen[earlier]!;
    const firstNode = new Int32Array(row).fill(none);
    let initials = 0;
    for (let node = earlier + 1; node <= later; node++) {
      const actor = this.#chosen[node]!;
      if (node !== later && this.#clocks[node * row + tried]! > earlier) continue;
      if (firstNode[actor] !== none) continue;
      firstNode[actor] = node;
      let isFirst = true;
      for (let other = 0; other < row; other++) {
        if (other !== actor && firstNode[other] !== none && this.#clocks[node * row + other]! > firstNode[other]!) isFirst = false;
      }
      if (isFirst) initials |= 1 << actor;
      if (node === later) break;
    }
    return initials;
  }

  /** Whether an actor did nothing between two nodes: the later one was what it was about to do. */
  #isNext(earlier: number, later: number, actor: number): boolean {
    for (let node = earlier + 1; node < later; node++) if (this.#chosen[node] === actor) return false;
    return true;
  }

  #link(entry: number, node: number): void {
    this.#node[entry] = node;
    this.#op[entry] = access.op;
    this.#before[entry] = this.#last.get(access.key) ?? none;
    this.#last.set(access.key, entry);
  }

  /** Those with an operation that was not executed. */
  #pending(): number {
    const board = this.#board;
    if (!this.isCutShort(board) && board.get(Head.failedActor) === startOfSchedule) return 0;
    let mask = this.#depth === 0 ? 0 : this.#word(this.#depth - 1, NodeWord.alive);
    mask &= ~(1 << this.#chosen[this.#depth - 1]!);
    for (let actor = 0; actor < board.actors; actor++) if (board.get(board.block(actor) + BlockWord.until) >= 0) mask |= 1 << actor;
    return mask;
  }
}

/** The later of both, actor by actor. */
function join(to: Int32Array, toAt: number, from: Int32Array, fromAt: number, count: number): void {
  for (let i = 0; i < count; i++) if (from[fromAt + i]! > to[toAt + i]!) to[toAt + i] = from[fromAt + i]!;
}
