/**
 * One world and its actors' threads: builds the host, hands each actor's task to a pool in which every task has a thread
 * of its own for the life of the host.
 */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { History, historyBytes } from '#hostmem/history';
import { Piscina } from 'piscina';
import { Counters } from './actors/counters.ts';
import type { Found } from './catalogue.ts';
import { operationsOf, type Variant } from './kernel/variant.ts';
import { actorsOf, worldOptions, type Parameters, type Role, type Scenario, type Stage } from './scenario.ts';
import { stepCapacity } from './schedule/board.ts';
import type { ActorReport, Controlled, HistoryBuffer, Task } from './task.ts';
import { World } from './world.ts';

const { resolve } = createRequire(import.meta.url);

const workerUrl = pathToFileURL(resolve('#bundle/worker')).href;

export interface ArenaOptions {
  readonly scenario: Found<Scenario> & { readonly url: string };
  readonly variant: Found<Variant>;
  /** Ids of invariants, or URLs of those from outside. */
  readonly holds: readonly string[];
  readonly seed: number;
  readonly parameters: Parameters;
  /** Rings of the history, and events a ring. */
  readonly rings: number;
  readonly capacity: number;
}

export class Arena {
  readonly world: World;
  readonly names: readonly string[];
  readonly roles: readonly Role[];
  /** Of each actor's program; 1 for a body that is none. */
  readonly steps: readonly number[];
  readonly counters: SharedArrayBuffer;
  readonly history: HistoryBuffer;
  readonly #stage: Stage;
  readonly #options: ArenaOptions;
  #pool: Piscina | null = null;

  constructor(options: ArenaOptions) {
    const { scenario } = options;
    this.#options = options;
    const actors = actorsOf(scenario.value, options.parameters);
    const { aliasPasidTableSkipped } = operationsOf(options.variant.value).faults;
    this.world = new World({ ...worldOptions(scenario.value, options.parameters), aliasPasidTableSkipped });
    this.#stage = scenario.value.world(this.world);
    this.names = Object.keys(actors);
    this.roles = Object.values(actors).map(({ role }) => role);
    this.steps = Object.values(actors).map(({ steps }) => steps);
    if (this.steps.reduce((sum, one) => sum + one, 0) > stepCapacity) throw new Error(`the programs have more than ${stepCapacity} steps together`);
    this.counters = Counters.createBuffer(this.names.length);
    const { rings, capacity } = options;
    this.history = { buffer: new SharedArrayBuffer(historyBytes(rings, capacity)), rings, capacity };
    new History(this.history.buffer, rings, capacity).reset();
  }

  /** Starts every actor on a thread of its own; settles when all have ended, or when one breaks. */
  start(mode: { readonly controlled: Controlled } | { readonly pace: SharedArrayBuffer }): Promise<ActorReport[]> {
    const actors = this.names.length;
    this.#pool = new Piscina({
      minThreads: actors,
      maxThreads: actors,
      concurrentTasksPerWorker: 1,
      idleTimeout: Infinity,
      atomics: 'async',
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16, stackSizeMb: 2 },
    });
    return Promise.all(this.names.map((_, actor) => this.#pool!.run(this.#task(actor, mode), { filename: workerUrl, name: this.roles[actor]! }) as Promise<ActorReport>));
  }

  #task(actor: number, mode: { readonly controlled?: Controlled; readonly pace?: SharedArrayBuffer }): Task {
    const { scenario, variant, holds, seed, parameters } = this.#options;
    return {
      actor,
      names: this.names,
      steps: this.steps,
      scenarioUrl: scenario.url,
      variantUrl: variant.url,
      holds,
      host: this.world.host.buffers,
      directory: this.world.directory,
      stage: this.#stage,
      parameters,
      seed,
      counters: this.counters,
      history: this.history,
      controlled: mode.controlled ?? null,
      pace: mode.pace ?? null,
    };
  }

  /** Ends the threads, also those that hang. */
  async destroy(): Promise<void> {
    await this.#pool?.destroy();
    this.#pool = null;
  }
}
