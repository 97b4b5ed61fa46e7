/**
 * Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): random priorities, lowered at d - 1 random
 * moments. Finds a bug of depth d in n actors and k choices with probability at least 1 / (n k^(d-1)).
 *
 * `pct` is `pct3`. Moments are counted in choices, of which schedule 0 (non-preemptive) tells how many to expect.
 */
import { BlockWord, Head, type Board } from '../board.ts';
import { chooseRarely, type Choice, type Strategy, type StrategyFile } from '../strategy.ts';

const greatestDepth = 16;

export class Pct implements Strategy {
  readonly choose = chooseRarely;
  readonly #moments: number;

  constructor(depth: number) {
    this.#moments = depth - 1;
  }

  begin(board: Board): void {
    this.#shufflePriorities(board);
    // In a tiny model every choice would be a moment, and all schedules alike: some moments have to fall behind the end.
    const choices = Math.max(board.get(Head.choicesOfFirst), 2 * this.#moments + 2);
    for (let moment = 0; moment < this.#moments; moment++) {
      let at = 1 + board.randomBelow(choices);
      // The moments are distinct: the next free one, round the end.
      while (this.#momentAt(board, at, moment) >= 0) at = (at % choices) + 1;
      board.set(Head.strategyWords + moment, at);
    }
  }

  pick(board: Board, choice: Choice): number {
    if (choice.count === 1) return choice.enabled[0]!;
    const moment = this.#momentAt(board, board.get(Head.choices), this.#moments);
    if (moment >= 0 && choice.current < board.actors + board.engines) setPriority(board, choice.current, moment);
    let best = choice.enabled[0]!;
    for (let i = 1; i < choice.count; i++) {
      const other = choice.enabled[i]!;
      if (priority(board, other) > priority(board, best)) best = other;
    }
    return best;
  }

  /** Initial priorities are above all those that moments give. */
  #shufflePriorities(board: Board): void {
    const everyone = board.actors + board.engines;
    for (let actor = 0; actor < everyone; actor++) {
      const other = board.randomBelow(actor + 1);
      setPriority(board, actor, other === actor ? greatestDepth + actor : priority(board, other));
      setPriority(board, other, greatestDepth + actor);
    }
  }

  /** Which of the first `count` moments is at that choice, or -1. */
  #momentAt(board: Board, at: number, count: number): number {
    for (let moment = 0; moment < count; moment++) if (board.get(Head.strategyWords + moment) === at) return moment;
    return -1;
  }
}

const priority = (board: Board, actor: number): number => board.get(board.block(actor) + BlockWord.strategyA);
const setPriority = (board: Board, actor: number, value: number): void => board.set(board.block(actor) + BlockWord.strategyA, value);

const pct: StrategyFile = {
  name: 'pct',
  make(parameter) {
    const depth = parameter ?? 3;
    if (depth < 1 || depth > greatestDepth) throw new Error(`strategy 'pct${depth}': the depth is 1 to ${greatestDepth}`);
    return new Pct(depth);
  },
};
export default pct;
