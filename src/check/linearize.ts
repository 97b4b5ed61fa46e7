/**
 * Whether answers that were given at the same time are those of some order, one after the other, in which each call comes between its begin
 * and its end (Wing and Gong 1993, with Lowe's cache of what was tried, 2017). It knows nothing of what is called: that is the model's.
 */

/** A call with its answer; `ended` is Infinity where there was none yet: it may have taken effect or not. */
export interface Operation<I> {
  readonly input: I;
  readonly began: number;
  readonly ended: number;
}

/** What would happen one call after the other. */
export interface SequentialModel<S, I> {
  readonly initial: S;
  /** The state afterwards, or null where that is no answer that could be given. */
  step(state: S, input: I): S | null;
}

/** A begin or an end; those that are in no order yet are a list. */
interface Moment {
  readonly operation: number;
  readonly isEnd: boolean;
  /** Of a begin: its end, if there is one. */
  readonly end: Moment | null;
  previous: Moment | null;
  next: Moment | null;
}

/**
 * True or false, or null where `mostTries` were not enough to tell. States that are the same thing have to be the same value: a number or a string.
 */
export function isLinearizable<S extends number | string, I>(operations: readonly Operation<I>[], model: SequentialModel<S, I>, mostTries: number): boolean | null {
  const head = momentsOf(operations);
  let endsLeft = operations.filter(({ ended }) => ended !== Infinity).length;
  const path: { readonly begin: Moment; readonly state: S }[] = [];
  const ordered = new Uint8Array(operations.length);
  const tried = new Set<string>();
  let state = model.initial;
  let at = head.next;
  for (let tries = 0; endsLeft > 0; tries++) {
    if (tries === mostTries) return null;
    if (at !== null && !at.isEnd) {
      const after = model.step(state, operations[at.operation]!.input);
      ordered[at.operation] = 1;
      if (after === null || !isNew(tried, ordered, after)) {
        ordered[at.operation] = 0;
        at = at.next;
        continue;
      }
      path.push({ begin: at, state });
      state = after;
      endsLeft -= lift(at);
      at = head.next;
      continue;
    }
    // Somebody's answer had been given before: an earlier choice was wrong.
    const last = path.pop();
    if (last === undefined) return false;
    ordered[last.begin.operation] = 0;
    state = last.state;
    endsLeft += putBack(last.begin);
    at = last.begin.next;
  }
  return true;
}

function isNew(tried: Set<string>, ordered: Uint8Array, state: number | string): boolean {
  const key = `${ordered.join('')} ${state}`;
  if (tried.has(key)) return false;
  tried.add(key);
  return true;
}

/** The list's head, which is no moment itself. */
function momentsOf(operations: readonly Operation<unknown>[]): Moment {
  const stamped: { readonly stamp: number; readonly moment: Moment }[] = [];
  operations.forEach(({ began, ended }, operation) => {
    const end = ended === Infinity ? null : newMoment(operation, true, null);
    stamped.push({ stamp: began, moment: newMoment(operation, false, end) });
    if (end !== null) stamped.push({ stamp: ended, moment: end });
  });
  const head = newMoment(-1, false, null);
  let last = head;
  for (const { moment } of stamped.sort((one, other) => one.stamp - other.stamp)) {
    last.next = moment;
    moment.previous = last;
    last = moment;
  }
  return head;
}

const newMoment = (operation: number, isEnd: boolean, end: Moment | null): Moment => ({ operation, isEnd, end, previous: null, next: null });

/** The operation has its place in the order: takes both of its moments out of the list. Returns how many ends that were. */
function lift({ previous, next, end }: Moment): number {
  previous!.next = next;
  if (next !== null) next.previous = previous;
  if (end === null) return 0;
  end.previous!.next = end.next;
  if (end.next !== null) end.next.previous = end.previous;
  return 1;
}

/** Undoes the last `lift` that is not undone yet. */
function putBack(begin: Moment): number {
  const { previous, next, end } = begin;
  if (end !== null) {
    end.previous!.next = end;
    if (end.next !== null) end.next.previous = end;
  }
  previous!.next = begin;
  if (next !== null) next.previous = begin;
  return end === null ? 0 : 1;
}
