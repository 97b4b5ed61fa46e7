/**
 * Who goes next: the one interface that a strategy implements, and finding it by name.
 *
 * A strategy is run by whichever thread holds the baton, so all its state is on the board: `Head.strategyWords` (16
 * words), two words in each actor's block, and the schedule's random stream. A new strategy is a file in `strategies/`
 * whose default export is a `StrategyFile`; its name may end in a number, which is handed to `make`.
 */
import { readdirSync } from 'node:fs';
import { loadModule } from '../load-module.ts';
import type { Board } from './board.ts';

/** The actors and engines that can go on at this moment. */
export interface Choice {
  /** In ascending order; valid up to `count`. */
  readonly enabled: Int32Array;
  readonly count: number;
  /** Who ran last, or `startOfSchedule`. */
  readonly current: number;
  /** Whom the default policy picks. */
  readonly byDefault: number;
}

export interface Strategy {
  /** Draws what schedule `index` needs; the random stream is that schedule's own already. */
  begin(board: Board, index: number): void;
  /** One of `choice.enabled`; asked also where there is only one. */
  pick(board: Board, choice: Choice): number;
  /** One of `count` alternatives that `actor` has, 0 being the usual one. */
  choose(board: Board, count: number, actor: number): number;
}

/** One in so many choices is not the usual one, where strategies draw. */
const rarity = 16;

/** How sampling strategies choose: faults are rare, so that a schedule has few. */
export function chooseRarely(board: Board, count: number): number {
  return board.randomBelow(rarity) === 0 ? 1 + board.randomBelow(count - 1) : 0;
}

/** A strategy that comes to an end by itself: it plays schedule 0 too, and its schedules follow one another in one cell. */
export interface Exhaustive extends Strategy {
  /** Chooses the next schedule by the trace of the one that has ended; false: there is none, or one was too long (`Head.overflowed`). */
  proceed(board: Board): boolean;
  /** Preemptions that a schedule may have, where they are bounded. */
  readonly bound: number | null;
}

export const isExhaustive = (strategy: Strategy): strategy is Exhaustive => 'proceed' in strategy;

export interface StrategyFile {
  /** As the command line writes it, without its number. */
  readonly name: string;
  /** `parameter` is the number at the end of the name, or null. Throws one line when it makes no sense. */
  make(parameter: number | null): Strategy;
}

/** All strategies of the folder, for threads that cannot import while they hold the baton. */
export class Strategies {
  readonly #files: ReadonlyMap<string, StrategyFile>;

  private constructor(files: readonly StrategyFile[]) {
    this.#files = new Map(files.map((file) => [file.name, file]));
  }

  static async load(): Promise<Strategies> {
    const folder = new URL('./strategies/', import.meta.url);
    const names = readdirSync(folder).filter((name) => name.endsWith('.js'));
    const modules = await Promise.all(names.sort().map((name) => loadModule<{ default: StrategyFile }>(new URL(name, folder).href)));
    return new Strategies(modules.map((module) => module.default));
  }

  get names(): string[] {
    return [...this.#files.keys()];
  }

  /** Throws one line when there is no such strategy. */
  find(name: string): Strategy {
    const [, base, parameter] = /^(.*?)(\d*)$/.exec(name)!;
    const file = this.#files.get(base!);
    if (file === undefined) throw new Error(`no strategy is called '${name}'; there are ${this.names.join(', ')}`);
    return file.make(parameter === '' ? null : Number(parameter));
  }
}

/** For strategies that take no number. */
export function withoutParameter(name: string, strategy: Strategy): StrategyFile {
  return {
    name,
    make(parameter) {
      if (parameter !== null) throw new Error(`strategy '${name}' takes no number`);
      return strategy;
    },
  };
}
