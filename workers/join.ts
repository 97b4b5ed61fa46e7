/**
 * A worker joins a host: its own views of the shared buffers, the kernel in force, and either the baton or the pace.
 *
 * It decides nothing: in a controlled run the board does, in a free run nobody.
 */
import { threadId } from 'node:worker_threads';
import { History } from '#hostmem/history';
import { Host } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import type { Actor, Seat } from '#src/actors/actor';
import { Counters } from '#src/actors/counters';
import { Killed } from '#src/actors/mortal';
import { Pace, Stopped } from '#src/actors/pace';
import { loadInvariants } from '#src/check/catalogue';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { Kernel } from '#src/kernel/kernel';
import { correct, operationsOf, type Variant } from '#src/kernel/variant';
import { judgeExecution } from '#src/check/execution';
import { loadModule } from '#src/load-module';
import { keepEvent } from '#src/kept-events';
import { writeHwpts } from '#src/check/named-hwpts';
import { Baton } from '#src/schedule/baton';
import { Board, Head } from '#src/schedule/board';
import { Checkpoint } from '#src/schedule/checkpoint';
import { Strategies } from '#src/schedule/strategy';
import { Abandon, Violation, violationOf } from '#src/schedule/violation';
import { actorsOf, type ActorOf, type Role, type Scenario } from '#src/scenario';
import type { ActorReport, Controlled, Task } from '#src/task';
import { withoutClocks } from './poison.ts';

type AnyActor = ActorOf<Actor, unknown>;

/** What a joined thread has in its hands. */
interface Joined {
  readonly task: Task;
  readonly host: Host;
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly history: History;
  readonly judge: Judge;
  readonly view: View;
}

/** Lives the life of one actor; `enter` makes it from its seat. */
export async function join(task: Task, role: Role, enter: (seat: Seat, subject: string) => Actor): Promise<ActorReport> {
  const name = task.names[task.actor]!;
  const { default: scenario } = await loadModule<{ default: Scenario }>(task.scenarioUrl);
  const definition = actorsOf(scenario, task.parameters)[name] as AnyActor;
  const joined = await joinHost(task);
  const counters = new Counters(task.counters, task.actor);
  const seed = mix32(task.seed ^ mix32(task.actor + 1)) | 0;
  const { host, kernel } = joined;
  const slices = task.actor === 0 ? sliceJudge(joined) : null;
  const pace = task.pace === null ? null : new Pace(task.pace, host, task.names.length, task.actor, joined.history, slices?.judge ?? null);
  const actor = enter({ name, host, kernel, counters, pace, seed, directory: task.directory }, definition.subject);
  const part: Part = { actor, steps: definition.steps, firstStep: stepsBefore(task), body: () => performBody(definition, actor, task.stage) };
  if (task.controlled !== null) await runControlled(joined, task.controlled, part);
  const broken = pace === null ? null : runFreely(pace, counters, part);
  return { actor: name, role, threadId, violation: slices?.found() ?? broken };
}

/** A thread whose process is killed leaves its body where it is. */
function performBody(definition: AnyActor, actor: Actor, stage: Task['stage']): void {
  actor.beginBody();
  try {
    definition.body(actor, stage);
  } catch (thrown) {
    if (!(thrown instanceof Killed)) throw thrown;
  }
  actor.endBody();
}

/** What an actor does in one schedule or round. */
interface Part {
  readonly actor: Actor;
  readonly steps: number;
  /** Where its steps are among those of all actors. */
  readonly firstStep: number;
  body(): void;
}

const stepsBefore = ({ actor, steps }: Task): number => steps.slice(0, actor).reduce((sum, count) => sum + count, 0);

/** The program that a number stands for; without the steps that are left out. */
function play({ actor, steps, firstStep, body }: Part, program: number, isLeftOut: (step: number) => boolean): void {
  for (let step = 0; step < steps; step++) {
    if (steps > 1 && isLeftOut(firstStep + step)) continue;
    if (steps > 1) actor.reseed(program, step);
    body();
  }
}

const nothingLeftOut = (): boolean => false;

async function joinHost(task: Task): Promise<Joined> {
  const variant: Variant = task.variantUrl === null ? correct : (await loadModule<{ default: Variant }>(task.variantUrl)).default;
  const host = new Host(task.host);
  const machine = new Machine(host);
  const operations = operationsOf(variant);
  const kernel = new Kernel(host, operations, driverInForce(host, machine, operations));
  const { buffer, rings, capacity } = task.history;
  const history = new History(buffer, rings, capacity);
  const invariants = await loadInvariants(task.holds);
  const view = new View(task.host);
  const judge = new Judge(invariants, new History(buffer, rings, capacity), view);
  history.actor = task.actor;
  history.ring = task.controlled === null ? task.actor : 0;
  host.ram.history = history;
  host.kernel.history = history;
  return { task, host, machine, kernel, history, judge, view };
}

/** Actor 0 judges the slices of a free run; what it finds is its report's. */
function sliceJudge({ history, judge }: Joined): { judge: () => boolean; found: () => Violation | null } {
  let found: Violation | null = null;
  return {
    found: () => found,
    judge() {
      // Events that are not there would be taken for things that did not happen.
      if (history.overflowed) found = new Violation('THROWN', 'one round of a body wrote more events than its ring holds');
      const verdict = history.overflowed ? null : judge.quiescence();
      if (verdict !== null) found = new Violation(verdict.invariant, verdict.message);
      history.clear();
      judge.nextSlice();
      return found !== null;
    },
  };
}

/** Repeats the body, or plays one program after another, until the run is stopped: by time, by the judge, or by an actor that broke. */
function runFreely(pace: Pace, counters: Counters, part: Part): Violation | null {
  let broken: Violation | null = null;
  for (let round = 1; ; round++) {
    try {
      pace.rest();
      play(part, round, nothingLeftOut);
      counters.add('rounds', 1);
    } catch (thrown) {
      if (thrown instanceof Stopped) return broken;
      broken ??= violationOf(thrown);
      pace.breakOff();
    }
  }
}

async function runControlled({ task, host, machine, kernel, history, judge, view }: Joined, run: Controlled, part: Part): Promise<void> {
  const board = new Board(run.board);
  const isLeftOut = (step: number): boolean => board.isLeftOut(step);
  const engines = [...machine.engines(), ...kernel.driver.engines()];
  const names = [...task.names, ...engines.map(({ name }) => name)];
  const baton = new Baton({
    board,
    actor: task.actor,
    host,
    checkpoint: new Checkpoint(host, run.checkpoint),
    engines,
    names: task.names,
    strategies: await Strategies.load(),
    hooks: {
      judge(trace) {
        const verdict = judge.quiescence() ?? (trace === null ? null : judgeExecution(trace, names));
        return verdict === null ? null : new Violation(verdict.invariant, verdict.message, verdict.words);
      },
      reset: () => history.reset(),
      ended(failed) {
        if (failed) writeHwpts(run.hwpts, view);
      },
    },
  });
  const kept = new Int32Array(run.kept);
  history.listener = (kind) => {
    keepEvent(kept, history, baton.step);
    const orders = judge.ordersOf(kind);
    baton.inOrder(orders, judge.orders & ~orders & 1);
    const verdict = judge.moment(kind);
    if (verdict !== null) baton.violate(new Violation(verdict.invariant, verdict.message, verdict.words));
  };
  history.asked = () => baton.inOrder(0, judge.orders & ~1);
  const playOnce = (): void => {
    part.actor.reseed();
    try {
      play(part, board.get(Head.program), isLeftOut);
    } catch (thrown) {
      if (thrown instanceof Abandon) throw thrown;
      // What the history shows came first: an assertion or a check of the scenario is often its consequence.
      const verdict = judge.catchUp();
      throw verdict === null ? thrown : new Violation(verdict.invariant, verdict.message, verdict.words);
    }
  };
  withoutClocks(() => baton.run(playOnce));
}
