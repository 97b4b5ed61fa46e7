/**
 * Lock order, as lockdep has it: reports the possible deadlock from executions in which nothing hung.
 *
 * Locks are told apart by class, the label of their field; two of one class by their addresses. An edge says that somebody took
 * `inner` while holding `outer`; a cycle of edges is a deadlock that some other schedule can reach. Two kinds of waiting that are no
 * locks take part, told apart by address: whoever counts itself into a word that others wait for holds that word as a reader until it
 * counts itself out, and whoever completes a wait while holding a lock needs that lock for it.
 * It reads traces and knows nothing of what is locked.
 */
import { wordOf, type TracedStep } from './traced-step.ts';

/** `actor` took `inner` at `step` while holding `outer`. */
export interface LockEdge {
  readonly outer: string;
  readonly inner: string;
  readonly actor: number;
  readonly step: number;
  readonly outerReads: boolean;
  readonly innerReads: boolean;
}

interface Held {
  readonly label: string;
  readonly word: number;
  readonly reads: boolean;
}

const lockOps: ReadonlySet<string> = new Set(['LOCK', 'UNLOCK', 'RLOCK', 'RUNLOCK']);

export class LockOrder {
  /** Edges by the node that they leave, then by the node that they reach and the two modes. */
  readonly #edges = new Map<string, Map<string, LockEdge>>();
  readonly #locks = new Set<string>();
  readonly #awaited = new Set<string>();
  /** Classes that somebody takes for writing: a reader of such a one may have to queue behind a writer. */
  readonly #written = new Set<string>();
  readonly #held = new Map<number, Held[]>();
  readonly #values = new Map<number, number>();
  /** Words that go up and down: counts of those who are inside. */
  readonly #counts = new Set<number>();

  /** Folds one execution from its start. */
  fold(trace: readonly TracedStep[]): void {
    this.#held.clear();
    for (const { op, label } of trace) {
      if (lockOps.has(op)) this.#locks.add(label);
      if (op === 'WAIT') this.#awaited.add(label);
    }
    this.#findCounts(trace);
    for (const entry of trace) this.#step(entry);
  }

  #findCounts(trace: readonly TracedStep[]): void {
    this.#values.clear();
    this.#counts.clear();
    for (const entry of trace) {
      if (entry.op === 'RMW' && this.#change(entry) < 0) this.#counts.add(wordOf(entry));
    }
    this.#values.clear();
  }

  /** How much a word has gone up since it was last written; 0 where nobody has written it before. */
  #change(entry: TracedStep): number {
    const before = this.#values.get(wordOf(entry));
    this.#values.set(wordOf(entry), entry.value ?? 0);
    return before === undefined ? 0 : (entry.value ?? 0) - before;
  }

  /** The edges of a shortest possible deadlock, in order; null where every order is the same. */
  cycle(): readonly LockEdge[] | null {
    let best: readonly LockEdge[] | null = null;
    for (const from of this.#edges.keys()) {
      const found = this.#pathBack(from);
      if (found !== null && (best === null || found.length < best.length)) best = found;
    }
    return best;
  }

  #step(entry: TracedStep): void {
    const { op, label } = entry;
    if (op === 'LOCK' || op === 'RLOCK') this.#acquire(entry, op === 'RLOCK');
    else if (op === 'UNLOCK' || op === 'RUNLOCK') this.#release(entry);
    else if (op === 'WAIT') this.#takes(entry, false);
    // A writer of a semaphore arrives with one step and is granted it with another, or with the same.
    else if (op === 'RMW' && this.#locks.has(label)) this.#acquire(entry, false);
    else if ((op === 'RMW' || op === 'STORE') && this.#awaited.has(label)) this.#count(entry);
  }

  #acquire(entry: TracedStep, reads: boolean): void {
    const held = this.#heldBy(entry.actor);
    if (held.some(({ word }) => word === wordOf(entry))) return;
    this.#takes(entry, reads);
    held.push({ label: entry.label, word: wordOf(entry), reads });
  }

  #release(entry: TracedStep): boolean {
    const held = this.#heldBy(entry.actor);
    const index = held.findLastIndex(({ word }) => word === wordOf(entry));
    if (index >= 0) held.splice(index, 1);
    return index >= 0;
  }

  /** A word that others wait for changes: who counts itself in holds it; who completes a wait needs what it holds. */
  #count(entry: TracedStep): void {
    if (entry.op === 'STORE') this.#completes(entry);
    else if (!this.#counts.has(wordOf(entry))) return;
    // Nobody is kept from counting itself in: edges lead out of it only.
    else if (this.#change(entry) > 0) this.#heldBy(entry.actor).push({ label: entry.label, word: wordOf(entry), reads: true });
    else this.#release(entry);
  }

  #completes(entry: TracedStep): void {
    for (const held of this.#heldBy(entry.actor)) {
      if (held.word !== wordOf(entry)) this.#add(this.#node(entry), this.#node(held), entry, false, held.reads);
    }
  }

  /** Edges from everything that the actor holds. */
  #takes(entry: TracedStep, reads: boolean): void {
    if (!reads) this.#written.add(entry.label);
    for (const held of this.#heldBy(entry.actor)) {
      if (held.word === wordOf(entry)) continue;
      const sameClass = held.label === entry.label;
      const outer = sameClass ? instance(held.label, held.word) : this.#node(held);
      const inner = sameClass ? instance(entry.label, wordOf(entry)) : this.#node(entry);
      this.#add(outer, inner, entry, held.reads, reads);
    }
  }

  #add(outer: string, inner: string, { actor, step }: TracedStep, outerReads: boolean, innerReads: boolean): void {
    let edges = this.#edges.get(outer);
    if (edges === undefined) this.#edges.set(outer, (edges = new Map()));
    const key = `${inner} ${outerReads} ${innerReads}`;
    if (!edges.has(key)) edges.set(key, { outer, inner, actor, step, outerReads, innerReads });
  }

  /** A lock by its class, a word that is waited for by itself. */
  #node(one: Held | TracedStep): string {
    return this.#awaited.has(one.label) ? instance(one.label, 'word' in one ? one.word : wordOf(one)) : one.label;
  }

  #heldBy(actor: number): Held[] {
    let held = this.#held.get(actor);
    if (held === undefined) this.#held.set(actor, (held = []));
    return held;
  }

  /** Breadth first over edges, because a path may only be continued where a holder and a taker exclude each other. */
  #pathBack(from: string): readonly LockEdge[] | null {
    const paths: LockEdge[][] = [...this.#edges.get(from)!.values()].map((edge) => [edge]);
    const seen = new Set<LockEdge>(paths.flat());
    for (const path of paths) {
      const last = path.at(-1)!;
      if (last.inner === from && this.#exclude(last, path[0]!)) return path;
      for (const next of this.#edges.get(last.inner)?.values() ?? []) {
        if (seen.has(next) || !this.#exclude(last, next)) continue;
        seen.add(next);
        paths.push([...path, next]);
      }
    }
    return null;
  }

  /** Whether who takes `edge.inner` can be kept waiting by who holds it as `next.outer`: two readers only where writers queue. */
  #exclude(edge: LockEdge, next: LockEdge): boolean {
    return !edge.innerReads || !next.outerReads || this.#written.has(edge.inner.split('@')[0]!);
  }
}

const instance = (label: string, word: number): string => `${label}@0x${word.toString(16)}`;

/** The cycle in words: who takes what while holding what. */
export function describeCycle(cycle: readonly LockEdge[], names: readonly string[]): string {
  const parts = cycle.map(({ outer, inner, actor, step }) => `${names[actor] ?? `actor ${actor}`} takes ${inner} while it holds ${outer} (step ${step})`);
  return `locks are taken in two orders: ${parts.join('; ')}`;
}
