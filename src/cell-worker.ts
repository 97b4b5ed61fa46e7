/**
 * The work of a cell: one world under the baton, its commander, and what is asked of it.
 */
import type { Explained, ExplainRequest, ExploreRequest, Explored, OpenRequest, Replayed, ReplayRequest, ShrinkRequest, ShrunkAnswer, TellRequest, Told } from './cell-protocol.ts';
import { Arena } from './arena.ts';
import { load, loadVariant } from './catalogue.ts';
import { executionIds } from './check/execution.ts';
import { loadInvariants } from './check/catalogue.ts';
import { InputError } from './input-error.ts';
import { answer } from './reach-question.ts';
import { Machine } from './hardware/machine.ts';
import { driverInForce } from './drivers/in-force.ts';
import { parametersOf, type Scenario } from './scenario.ts';
import { keptBytes } from './kept-events.ts';
import { namedHwptsBytes } from './check/named-hwpts.ts';
import { schedulerClaims } from './scheduler-claims.ts';
import { Board } from './schedule/board.ts';
import { Checkpoint } from './schedule/checkpoint.ts';
import { Commander, type Outcome, type Replay, type ReplayOutcome } from './schedule/commander.ts';
import type { Switch } from './schedule/board.ts';
import { shrink, type Attempt } from './schedule/shrink.ts';
import { shrinkPrograms, stepsOfPrograms } from './schedule/shrink-programs.ts';
import { straightened, turnsOf } from './schedule/straighten.ts';
import { Strategies } from './schedule/strategy.ts';
import type { Failure } from './report/failure.ts';
import { addressesOf } from './tell-addresses.ts';
import { tellFailure, type Kept } from './tell-failure.ts';

/** Events of one schedule at most, and trace entries of it. */
const eventCapacity = 1 << 12;
const traceCapacity = 1 << 15;
/** Half of a schedule's budget may be switches. */
const switchCapacity = 1 << 16;
/** Choices that an exhaustive strategy keeps, and things covered that are remembered. */
const stackCapacity = 1 << 15;
const coverCapacity = 1 << 18;
const progressMs = 200;
/** Schedules in which a shorter program is tried where the one that failed before no longer does. */
const retries = 40;

export class CellWorker {
  readonly #arena: Arena;
  readonly #board: Board;
  readonly #commander: Commander;
  readonly #kept: Kept;
  readonly #names: readonly string[];
  readonly #request: OpenRequest;
  /** A forgotten lock is a violation, unless the variant's mistake is to be caught by its consequences. */
  readonly #checksLocking: boolean;

  private constructor(request: OpenRequest, arena: Arena, board: Board, commander: Commander, kept: Kept, engines: readonly string[], caughtBy: string | null) {
    this.#request = request;
    this.#checksLocking = caughtBy === null || caughtBy === 'L2' || executionIds.includes(caughtBy);
    this.#arena = arena;
    this.#board = board;
    this.#commander = commander;
    this.#kept = kept;
    this.#names = [...arena.names, ...engines];
  }

  /** Builds the world and starts the threads. */
  static async open(request: OpenRequest): Promise<CellWorker> {
    const scenario = await load<Scenario>(request.scenario);
    const variant = await loadVariant(request.variant);
    const parameters = parametersOf(scenario.value, request.vms, request.iommu);
    const arena = new Arena({ scenario, variant, holds: request.holds, seed: request.seed, parameters, rings: 1, capacity: eventCapacity });
    const { host } = arena.world;
    const machine = new Machine(host);
    const engines = [...machine.engines(), ...driverInForce(host, machine).engines()].map(({ name }) => name);
    const board = Board.create({ actors: arena.names.length, engines: engines.length, switchCapacity, traceCapacity, stackCapacity, coverCapacity });
    const kept = { events: new SharedArrayBuffer(keptBytes(eventCapacity)), hwpts: new SharedArrayBuffer(namedHwptsBytes) };
    const ended = arena.start({ controlled: { board: board.buffer, checkpoint: Checkpoint.take(host), kept: kept.events, hwpts: kept.hwpts } });
    const commander = new Commander(board, await Strategies.load(), ended);
    return new CellWorker(request, arena, board, commander, kept, engines, variant.value.caughtBy);
  }

  async explore(request: ExploreRequest, onProgress: (schedules: number) => void): Promise<Explored> {
    const timer = setInterval(() => onProgress(this.#commander.schedules), progressMs);
    try {
      const found = await this.#commander.explore({ ...request, checksLocking: this.#checksLocking });
      const { schedules, index, violation, switches, steps, program, actor, counts, isComplete, isTooLong, cover, isCoverTruncated } = found;
      return { schedules, index, violation: plain(violation), switches, steps, program, scene: { actor, counts }, isComplete, isTooLong, cover, isCoverTruncated };
    } finally {
      clearInterval(timer);
    }
  }

  stopBefore(index: number): void {
    this.#commander.stopBefore(index);
  }

  async replay({ switches, times, workload }: ReplayRequest): Promise<Replayed> {
    const { hashes, violation, times: done } = await this.#replay({ switches, times, ...workload });
    // What the checkers of executions find is found in a trace.
    const found = violation ?? (await this.#replay({ switches, trace: true, ...workload })).violation;
    return { hashes, times: done, violation: plain(found) };
  }

  /** The programs first, then the schedule of what is left of them. */
  async shrink({ switches, steps, program, seed, scene, invariant }: ShrinkRequest): Promise<ShrunkAnswer> {
    const begin = performance.now();
    const found: Attempt = { sameFailure: true, switches, steps, scene, turns: turnsOf(this.#board) };
    const programs = stepsOfPrograms(this.#arena.steps);
    const again = (leftOut: readonly number[]) => async (candidate: readonly Switch[]): Promise<Attempt> =>
      this.#attempt(await this.#replay({ switches: candidate, trace: executionIds.includes(invariant), records: true, program, leftOut }), invariant, candidate);
    const elsewhere = async (leftOut: readonly number[]): Promise<Attempt> =>
      this.#attempt(await this.#commander.explore({ count: retries, seed, strategy: 'portfolio', program, leftOut, checksLocking: this.#checksLocking }), invariant, []);
    const shorter = await shrinkPrograms(programs, found, { again: (leftOut, candidate) => again(leftOut)(candidate), elsewhere });
    const { leftOut } = shorter;
    const shrunk = await shrink(shorter.found, again(leftOut), {
      actors: this.#arena.names.length,
      // What was run last is a shorter program, or another schedule.
      ...(programs.length === 0 ? { simpler: (seen, best) => straightened(this.#board, seen?.actor ?? null, best) } : {}),
    });
    const programSteps = programs.length === 0 ? null : programs.flat().length - leftOut.length;
    const effort = { from: switches.length, to: shrunk.switches.length, ms: performance.now() - begin, tries: shrunk.replays + shorter.replays };
    return { switches: shrunk.switches, workload: { program, leftOut }, programSteps, effort };
  }

  #attempt(outcome: Outcome, invariant: string, candidate: readonly Switch[]): Attempt {
    const sameFailure = outcome.violation?.invariant === invariant && outcome.switches !== null;
    const { actor, counts } = outcome;
    return { sameFailure, switches: outcome.switches ?? candidate, steps: outcome.steps, scene: { actor, counts }, turns: sameFailure ? turnsOf(this.#board) : undefined };
  }

  /** One traced replay, and one that leaves the host as it is: the cell's last request. */
  async tell({ switches, token, workload }: TellRequest): Promise<Told> {
    const outcome = await this.#replayInShort({ switches, trace: true, ...workload });
    const steps = outcome.trace.filter(({ guarded, inside }) => !guarded && !inside).map(({ actor, op, label }) => ({
      actor: this.#names[actor] ?? String(actor),
      label: label === '' ? op : `${op} ${label}`,
    }));
    const failure = outcome.violation === null ? null : await this.#failure(outcome, token);
    return { failure: failure === null ? null : { ...failure, addresses: await this.#addresses({ switches, ...workload }) }, steps };
  }

  /** Once more, without the way back: the cell runs no schedule after that. */
  async #addresses(order: Replay): Promise<NonNullable<Failure['addresses']>> {
    await this.#replay({ ...order, leavesHost: true });
    const { host, directory } = this.#arena.world;
    return addressesOf(host, directory, this.#kept.events);
  }

  /** Of what goes round for ever a few rounds are enough: then the way there is to be seen, too. */
  async #replayInShort(order: Replay): Promise<ReplayOutcome> {
    const whole = await this.#replay(order);
    if (whole.violation?.invariant !== 'LIVELOCK') return whole;
    for (const budget of [100, 1_000, 10_000]) {
      const outcome = await this.#replay({ ...order, budget });
      if (outcome.violation?.invariant === 'LIVELOCK') return outcome;
    }
    return whole;
  }

  async explain({ switches, workload, question }: ExplainRequest): Promise<Explained> {
    await this.#replay({ switches, leavesHost: true, ...workload });
    const { host, directory } = this.#arena.world;
    try {
      return { reach: answer(host, directory, question), problem: null };
    } catch (error) {
      if (error instanceof InputError) return { reach: null, problem: error.message };
      throw error;
    }
  }

  #replay(order: Replay): Promise<ReplayOutcome> {
    return this.#commander.replay({ ...order, checksLocking: this.#checksLocking });
  }

  async #failure(outcome: ReplayOutcome, token: string): Promise<Told['failure']> {
    const { invariant, message } = outcome.violation!;
    const { scenario, variant, holds, replayFlags } = this.#request;
    const claims = await loadInvariants(holds);
    const claim = claims.find(({ id }) => id === invariant)?.claim ?? schedulerClaims[invariant] ?? '';
    return tellFailure({
      scenario: scenario.name,
      variant: variant.name,
      violation: { invariant, message, claim },
      names: this.#names,
      directory: this.#arena.world.directory,
      host: this.#arena.world.host,
      outcome,
      kept: this.#kept,
      token,
      replayFlags,
    });
  }

  async close(): Promise<void> {
    await this.#commander.close();
    await this.#arena.destroy();
  }
}

const plain = (violation: { invariant: string; message: string } | null): Explored['violation'] =>
  violation === null ? null : { invariant: violation.invariant, message: violation.message };
