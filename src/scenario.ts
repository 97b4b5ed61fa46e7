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
import type { World } from './world.ts';

export type Role = 'vm' | 'device' | 'viommu';

/** What the world hands to the actors' bodies: plain data, numbers above all. */
export type Stage = Readonly<Record<string, unknown>>;

/** An actor of a scenario: its role decides the worker file, its subject what it is. */
export interface ActorOf<A extends Actor, S> {
  readonly role: Role;
  /** The process, function or guest, by its name in the world. */
  readonly subject: string;
  body(actor: A, stage: S): void;
}

export interface Scenario<S extends Stage = Stage> {
  /** What happens, in one line. */
  readonly title: string;
  /** The discussion it belongs to (`002`), or null. */
  readonly seed: string | null;
  /** Names of files in `kernel/variants`; `correct` is always there. */
  readonly variants: readonly string[];
  world(w: World): S;
  readonly actors: Readonly<Record<string, ActorOf<Vm, S> | ActorOf<Device, S> | ActorOf<Viommu, S>>>;
  /** Ids of invariants. */
  readonly holds: readonly string[];
}

/** Makes actors; its functions know the type of the stage. */
export interface Cast<S> {
  /** A thread of the named process: a VMM thread, or its guest's. */
  vm(process: string, body: (vm: Vm, stage: S) => void): ActorOf<Vm, S>;
  /** The device of the named PCI function. */
  device(pciFunction: string, body: (device: Device, stage: S) => void): ActorOf<Device, S>;
  /** The virtual IOMMU of the named guest. */
  viommu(guest: string, body: (viommu: Viommu, stage: S) => void): ActorOf<Viommu, S>;
}

/** A scenario as it is written: `actors` is told who can be cast. */
type Story<S extends Stage> = Omit<Scenario<S>, 'actors'> & { actors(cast: Cast<S>): Scenario<S>['actors'] };

const cast: Cast<never> = {
  vm: (subject, body) => ({ role: 'vm', subject, body }),
  device: (subject, body) => ({ role: 'device', subject, body }),
  viommu: (subject, body) => ({ role: 'viommu', subject, body }),
};

export function scenario<S extends Stage>(story: Story<S>): Scenario<S> {
  return Object.freeze({ ...story, actors: story.actors(cast as unknown as Cast<S>) });
}
