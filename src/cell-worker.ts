/**
 * The work of a cell: one world under the baton, its commander, and what is asked of it.
 */
import type { ExploreRequest, Explored, OpenRequest, Replayed, ReplayRequest, ShrinkRequest, ShrunkAnswer, TellRequest, Told } from './cell-protocol.ts';
import { Arena } from './arena.ts';
import { load, loadVariant } from './catalogue.ts';
import { loadInvariants } from './check/catalogue.ts';
import { Machine } from './hardware/machine.ts';
import { driverInForce } from './drivers/in-force.ts';
import { parametersOf, type Scenario } from './scenario.ts';
import { keptBytes } from './kept-events.ts';
import { namedHwptsBytes } from './check/named-hwpts.ts';
import { schedulerClaims } from './scheduler-claims.ts';
import { Board } from './schedule/board.ts';
import { Checkpoint } from './schedule/checkpoint.ts';
import { Commander, type Replay, type ReplayOutcome } from './schedule/commander.ts';
import { shrink } from './schedule/shrink.ts';
import { Strategies } from './schedule/strategy.ts';
import { tellFailure, type Kept } from './tell-failure.ts';

/** Events of one schedule at most, and trace entries of it. */
const eventCapacity = 1 << 12;
const traceCapacity = 1 << 15;
/** Choices that an exhaustive strategy keeps, and things covered that are remembered. */
const stackCapacity = 1 << 15;
const coverCapacity = 1 << 18;
const progressMs = 200;

export class CellWorker {
  readonly #arena: Arena;
  readonly #commander: Commander;
  readonly #kept: Kept;
  readonly #names: readonly string[];
  readonly #request: OpenRequest;
  /** A forgotten lock is a violation, unless the variant's mistake is to be caught by its consequences. */
  readonly #reportsUnguarded: boolean;

  private constructor(request: OpenRequest, arena: Arena, commander: Commander, kept: Kept, engines: readonly string[], caughtBy: string | null) {
    this.#request = request;
    this.#reportsUnguarded = caughtBy === null || caughtBy === 'L2';
    this.#arena = arena;
    this.#commander = commander;
    this.#kept = kept;
    this.#names = [...arena.names, ...engines];
  }

  /** Builds the world and starts the threads. */
  static async open(request: OpenRequest): Promise<CellWorker> {
    const scenario = await load<Scenario>(request.scenario);
    const variant = await loadVariant(request.variant);
    const parameters = parametersOf(scenario.value, request.vms);
    const arena = new Arena({ scenario, variant, holds: request.holds, seed: request.seed, parameters, rings: 1, capacity: eventCapacity });
    const { host } = arena.world;
    const machine = new Machine(host);
    const engines = [...machine.engines(), ...driverInForce(host, machine).engines()].map(({ name }) => name);
    const board = Board.create({ actors: arena.names.length, engines: engines.length, traceCapacity, stackCapacity, coverCapacity });
    const kept = { events: new SharedArrayBuffer(keptBytes(eventCapacity)), hwpts: new SharedArrayBuffer(namedHwptsBytes) };
    const ended = arena.start({ controlled: { board: board.buffer, checkpoint: Checkpoint.take(host), kept: kept.events, hwpts: kept.hwpts } });
    const commander = new Commander(board, await Strategies.load(), ended);
    return new CellWorker(request, arena, commander, kept, engines, variant.value.caughtBy);
  }

  async explore(request: ExploreRequest, onProgress: (schedules: number) => void): Promise<Explored> {
    const timer = setInterval(() => onProgress(this.#commander.schedules), progressMs);
    try {
      const found = await this.#commander.explore({ ...request, reportsUnguarded: this.#reportsUnguarded });
      const { schedules, index, violation, switches, steps, actor, counts, isComplete, isTooLong, cover, isCoverTruncated } = found;
      return { schedules, index, violation: plain(violation), switches, steps, scene: { actor, counts }, isComplete, isTooLong, cover, isCoverTruncated };
    } finally {
      clearInterval(timer);
    }
  }

  stopBefore(index: number): void {
    this.#commander.stopBefore(index);
  }

  async replay({ switches, times }: ReplayRequest): Promise<Replayed> {
    const { hashes, violation, times: done } = await this.#replay({ switches, times });
    return { hashes, times: done, violation: plain(violation) };
  }

  async shrink({ switches, steps, scene, invariant }: ShrinkRequest): Promise<ShrunkAnswer> {
    return shrink(
      { switches, steps, scene },
      async (candidate) => {
        const outcome = await this.#replay({ switches: candidate });
        const sameFailure = outcome.violation?.invariant === invariant && outcome.switches !== null;
        const { actor, counts } = outcome;
        return { sameFailure, switches: outcome.switches ?? candidate, steps: outcome.steps, scene: { actor, counts } };
      },
      { actors: this.#arena.names.length },
    );
  }

  /** One traced replay. */
  async tell({ switches, token }: TellRequest): Promise<Told> {
    const outcome = await this.#replay({ switches, trace: true });
    const steps = outcome.trace.filter(({ guarded, inside }) => !guarded && !inside).map(({ actor, op, label }) => ({
      actor: this.#names[actor] ?? String(actor),
      label: label === '' ? op : `${op} ${label}`,
    }));
    return { failure: outcome.violation === null ? null : await this.#failure(outcome, token), steps };
  }

  #replay(order: Replay): Promise<ReplayOutcome> {
    return this.#commander.replay({ ...order, reportsUnguarded: this.#reportsUnguarded });
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
