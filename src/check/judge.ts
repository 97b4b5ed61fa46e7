/**
 * Folds a history into verdicts: every invariant of a scenario over the events since the last look.
 *
 * In a controlled run all events are in ring 0, in order; any thread may catch up at any moment. In a free run each actor
 * has a ring, and the judge merges them by stamp when everybody stands still.
 */
import { Cursor, type History } from '#hostmem/history';
import type { AnyInvariant, Breach } from './invariant.ts';
import type { View } from './view.ts';

export interface Verdict extends Breach {
  readonly invariant: string;
}

export class Judge {
  readonly #invariants: readonly AnyInvariant[];
  readonly #kinds: readonly ReadonlySet<number>[];
  readonly #moments: readonly ReadonlySet<number>[];
  readonly #orders = new Map<number, number>();
  readonly #history: History;
  readonly #view: View;
  readonly #cursor: Cursor;
  readonly #next: number[];
  #states: unknown[] = [];
  #epoch = -1;

  constructor(invariants: readonly AnyInvariant[], history: History, view: View) {
    this.#invariants = invariants;
    this.#kinds = invariants.map((one) => new Set(one.events.map(({ kind }) => kind)));
    this.#moments = invariants.map((one) => new Set((one.inspectAfter ?? []).map(({ kind }) => kind)));
    const add = (kind: number, order: number): unknown => this.#orders.set(kind, this.ordersOf(kind) | order);
    for (const moments of this.#moments) for (const kind of moments) add(kind, 1);
    this.#kinds.forEach((kinds, index) => kinds.forEach((kind) => add(kind, 2 << (index % 30))));
    this.#history = history;
    this.#view = view;
    this.#cursor = new Cursor(history.words);
    this.#next = Array.from({ length: history.rings }, () => 0);
    this.#restart();
  }

  /** A new history begins: forgets what was folded. */
  #restart(): void {
    this.#epoch = this.#history.epoch;
    this.#states = this.#invariants.map((one) => one.start(this.#view));
    this.#next.fill(0);
  }

  /** The rings were cleared; what has been folded stays known. */
  nextSlice(): void {
    this.#next.fill(0);
  }

  /**
   * In which orders an event of this kind has a place, as a mask: bit 1 + i where the i-th invariant folds it (with very many some share a bit), bit 0 where
   * somebody looks at records behind it, so that its place among all events counts.
   */
  ordersOf(kind: number): number {
    return this.#orders.get(kind) ?? 0;
  }

  /** Those that there are. */
  get orders(): number {
    let orders = 0;
    for (const some of this.#orders.values()) orders |= some;
    return orders;
  }

  /** Folds all new events in stamp order; the first breach, or null. */
  catchUp(): Verdict | null {
    if (this.#history.epoch !== this.#epoch) this.#restart();
    for (let ring = this.#earliest(); ring >= 0; ring = this.#earliest()) {
      this.#cursor.at = this.#history.at(ring, this.#next[ring]!);
      this.#next[ring]!++;
      const verdict = this.#step(this.#cursor.kind);
      if (verdict !== null) return verdict;
    }
    return null;
  }

  /** A controlled run wrote an event: folds it, so that a breach ends the schedule here, and lets those look whose moment it is. */
  moment(kind: number): Verdict | null {
    const found = this.catchUp();
    if (found !== null || !this.#moments.some((moments) => moments.has(kind))) return found;
    return this.#inspect((index) => this.#moments[index]!.has(kind), false);
  }

  /** Everybody stands still: catches up, then all look. */
  quiescence(): Verdict | null {
    return this.catchUp() ?? this.#inspect(() => true, true);
  }

  /** The ring whose next event has the smallest stamp, or -1. */
  #earliest(): number {
    let best = -1;
    let stamp = Infinity;
    for (let ring = 0; ring < this.#history.rings; ring++) {
      const index = this.#next[ring]!;
      if (index >= this.#history.length(ring)) continue;
      const candidate = this.#history.words[this.#history.at(ring, index)]!;
      if (candidate >= stamp) continue;
      stamp = candidate;
      best = ring;
    }
    return best;
  }

  #step(kind: number): Verdict | null {
    for (let index = 0; index < this.#invariants.length; index++) {
      if (!this.#kinds[index]!.has(kind)) continue;
      const one = this.#invariants[index]!;
      const found = one.step(this.#states[index], this.#cursor, this.#view);
      if (found !== null) return { invariant: one.id, ...found };
    }
    return null;
  }

  #inspect(isAsked: (index: number) => boolean, atRest: boolean): Verdict | null {
    for (let index = 0; index < this.#invariants.length; index++) {
      const one = this.#invariants[index]!;
      if (one.inspect === undefined || !isAsked(index)) continue;
      const found = one.inspect(this.#states[index], this.#view, atRest);
      if (found !== null) return { invariant: one.id, ...found };
    }
    return null;
  }
}
