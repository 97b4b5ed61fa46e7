/**
 * Makes everything in a call that can fail fail, one thing a time: the call says ENOMEM or EFAULT and has changed nothing, succeeds when it
 * is made again, and nothing is left when the process has ended.
 */
import { FaultInjection } from '#hostmem/fault-injection';
import { View } from '../check/view.ts';
import type { AnyInvariant } from '../check/invariant.ts';
import type { ErrnoName } from '../kernel/errno.ts';
import type { Operations } from '../kernel/operations.ts';
import type { FailNthProblem, FailNthResult } from '../results.ts';
import { Caller } from './caller.ts';
import { census, differences, takePhotograph, type Photograph } from './photograph.ts';
import type { Sequence } from './sequence.ts';

/** More than this many things that can fail are a call that never ends. */
const most = 10_000;

export interface SweepOptions {
  readonly operations: Operations;
  /** Those that look at records at rest are asked before and after every failure: what held has to hold still. */
  readonly invariants: readonly AnyInvariant[];
  /** Only this one is refused. */
  readonly only?: number;
}

/** One sequence, with everything in it refused in turn. */
export function sweep(sequence: Sequence, options: SweepOptions): FailNthResult['sequences'][number] {
  const done = succeed(sequence, options.operations);
  const problems: FailNthProblem[] = [];
  const first = options.only ?? 1;
  for (let nth = first; nth <= Math.min(done.points, options.only ?? most); nth++) {
    const trial = new Trial(sequence, options, nth);
    try {
      trial.run(done);
    } catch (error) {
      trial.say(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
    }
    problems.push(...trial.problems);
  }
  return { name: sequence.name, points: done.points, problems };
}

interface Done {
  readonly points: number;
  readonly census: string;
}

/** The call as it should be: counts what can fail, and what there is afterwards. */
function succeed(sequence: Sequence, operations: Operations): Done {
  const caller = new Caller(sequence.iommu, operations);
  const call = sequence.begin(caller);
  const faults = new FaultInjection(0);
  const errno = refusing(caller, faults, call);
  if (errno !== null) throw new Error(`${sequence.name} fails by itself: ${errno}`);
  return { points: faults.asked, census: census(takePhotograph(caller.world.host)) };
}

function refusing(caller: Caller, faults: FaultInjection, call: () => ErrnoName | null): ErrnoName | null {
  const memory = caller.kernel.memory;
  memory.faults = faults;
  try {
    return call();
  } finally {
    memory.faults = null;
  }
}

class Trial {
  readonly problems: FailNthProblem[] = [];
  readonly #sequence: Sequence;
  readonly #options: SweepOptions;
  readonly #nth: number;
  readonly #faults: FaultInjection;

  constructor(sequence: Sequence, options: SweepOptions, nth: number) {
    this.#sequence = sequence;
    this.#options = options;
    this.#nth = nth;
    this.#faults = new FaultInjection(nth);
  }

  say(message: string): void {
    this.problems.push({ nth: this.#nth, refused: this.#faults.refused ?? 'nothing', message });
  }

  run(done: Done): void {
    const caller = new Caller(this.#sequence.iommu, this.#options.operations);
    const call = this.#sequence.begin(caller);
    const { host } = caller.world;
    const before = takePhotograph(host);
    const brokenBefore = new Set(this.#broken(caller).map(({ id }) => id));
    const errno = refusing(caller, this.#faults, call);
    for (const { id, message } of this.#broken(caller)) if (!brokenBefore.has(id)) this.say(`${id}: ${message}`);
    if (errno === null) {
      if (this.#sequence.goesOn !== true) this.say('the call succeeded without it');
    } else this.#judgeFailure(caller, call, { errno, before, after: takePhotograph(host), done });
    this.#expectNothingLeft(caller);
  }

  #judgeFailure(caller: Caller, call: () => ErrnoName | null, { errno, before, after, done }: Failure): void {
    const { host } = caller.world;
    const isAnswer = this.#faults.refused === 'a copy to the user';
    if (errno !== 'ENOMEM' && errno !== 'EFAULT') this.say(`the call failed with ${errno}`);
    if (isAnswer && this.#sequence.answersLast === true) {
      if (census(after) !== done.census) this.say(`the call took effect otherwise than one whose answer arrives: ${census(after)} instead of ${done.census}`);
      return;
    }
    if (this.#sequence.stopsHalfway !== true) for (const difference of differences(host, before, after)) this.say(difference);
    const again = call();
    if (again !== null) this.say(`the same call, made again, fails with ${again}`);
    else if (census(takePhotograph(host)) !== done.census) this.say('the same call, made again, does something else than the first time');
  }

  /** What does not hold at this moment. */
  #broken(caller: Caller): { readonly id: string; readonly message: string }[] {
    const view = new View(caller.world.host.buffers);
    return this.#options.invariants.flatMap((invariant) => {
      const found = invariant.inspect?.(invariant.start(view), view, true) ?? null;
      return found === null ? [] : [{ id: invariant.id, message: found.message }];
    });
  }

  #expectNothingLeft(caller: Caller): void {
    caller.exit();
    const { objects, frames } = caller.left();
    if (objects !== 0) this.say(`when the process has ended, ${objects} objects are left: ${census(takePhotograph(caller.world.host))}`);
    if (frames !== 0) this.say(`when the process has ended, ${frames} frames are left`);
  }
}

interface Failure {
  readonly errno: ErrnoName;
  readonly before: Photograph;
  readonly after: Photograph;
  readonly done: Done;
}
