/**
 * What a user writes: a story of a world, of who acts in it, and of what must hold.
 *
 * The world is built once, by one thread; every actor is a thread of its own. In a controlled run a body is run once per
 * schedule, in a free run over and over: write it so that it can run again.
 */
import type { Actor } from './actors/actor.ts';
import type { Device } from './actors/device.ts';
import type { Viommu } from './actors/viommu.ts';
import type { Vm } from './actors/vm.ts';
import type { Iommu } from './built-units.ts';
import type { World, WorldOptions } from './world.ts';

export type Role = 'vm' | 'device' | 'viommu';

/** What the world hands to the actors' bodies: plain data, numbers above all. */
export type Stage = Readonly<Record<string, unknown>>;

/** An actor of a scenario: its role decides the worker file, its subject what it is. */
export interface ActorOf<A extends Actor, S> {
  readonly role: Role;
  /** The process, function or guest, by its name in the world. */
  readonly subject: string;
  /**
   * How often the body is run in a schedule, each time with random numbers of its own: more than once is a program of so many random
   * steps, another one in every schedule and every round. Leaving one out changes no other: so a failing program is made shorter.
   */
  readonly steps: number;
  body(actor: A, stage: S): void;
}

export type Actors<S> = Readonly<Record<string, ActorOf<Vm, S> | ActorOf<Device, S> | ActorOf<Viommu, S>>>;

/** What the command line may say about the size of a scenario, and about its host. */
export interface Parameters {
  readonly vms: number;
  /** Whose unit stands before its functions; null: the scenario's own. */
  readonly iommu: Iommu | null;
}

export interface Scenario<S extends Stage = Stage> {
  /** What happens, in one line. */
  readonly title: string;
  /** The discussion it belongs to (`002`), or null. */
  readonly seed: string | null;
  /** One of the first dozen races, by its number there; `buggy` is that race's mistake, by its name in `kernel/variants`. */
  readonly race?: { readonly number: number; readonly buggy: string };
  /** Names of files in `kernel/variants`; `correct` is always there, and so is a race's `buggy`. */
  readonly variants: readonly string[];
  /**
   * The invariant that catches Linux 7.2 as it is, where the story meets faults that it has (`faults-of-72.ts`): what is `correct`
   * elsewhere is called `as-7.2` here, and the variant `mended` holds.
   */
  readonly caught72?: string;
  /** What `correct` stands for, where it is not Linux 7.2 as it is: a design of which 7.2 has nothing, or another order than its own. */
  readonly correctIs?: string;
  /** What `--vms` is unless it is given; absent where the scenario has no such number. */
  readonly vms?: number;
  /** What kind of host it needs, where that is not the usual one. */
  readonly host?: Partial<WorldOptions>;
  world(w: World): S;
  /** By name, in the order of their numbers. */
  actors(cast: Cast<S>, parameters: Parameters): Actors<S>;
  /** Ids of invariants. */
  readonly holds: readonly string[];
}

/** Makes actors; its functions know the type of the stage. */
export interface Cast<S> {
  /** A thread of the named process: a VMM thread, or its guest's. */
  vm(process: string, body: (vm: Vm, stage: S) => void, steps?: number): ActorOf<Vm, S>;
  /** The device of the named PCI function. */
  device(pciFunction: string, body: (device: Device, stage: S) => void, steps?: number): ActorOf<Device, S>;
  /** The virtual IOMMU of the named guest. */
  viommu(guest: string, body: (viommu: Viommu, stage: S) => void): ActorOf<Viommu, S>;
}

const cast: Cast<never> = {
  vm: (subject, body, steps = 1) => ({ role: 'vm', subject, steps, body }),
  device: (subject, body, steps = 1) => ({ role: 'device', subject, steps, body }),
  viommu: (subject, body) => ({ role: 'viommu', subject, steps: 1, body }),
};

export function scenario<S extends Stage>(definition: Scenario<S>): Scenario<S> {
  return Object.freeze(definition);
}

/** The actors of a scenario at a size. */
export function actorsOf<S extends Stage>(definition: Scenario<S>, parameters: Parameters): Actors<S> {
  return definition.actors(cast as unknown as Cast<S>, parameters);
}

/** What the world of a scenario is made with. */
export const worldOptions = (definition: Scenario, { vms, iommu }: Parameters): Partial<WorldOptions> => ({ ...definition.host, vms, ...(iommu === null ? {} : { iommu }) });

/** Its own size and host, unless others are asked for. */
export const parametersOf = (definition: Scenario, vms: number | null, iommu: Iommu | null = null): Parameters => ({ vms: vms ?? definition.vms ?? 1, iommu });
