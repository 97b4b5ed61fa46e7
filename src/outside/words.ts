/**
 * What a file from outside the repository is handed: it imports nothing, and default-exports a function of these words.
 *
 *   export default ({ scenario }) => scenario({ ... });
 *
 * The same for all four kinds of file; a file takes what it needs. It is loaded anew by every thread: it keeps no state
 * between schedules but in the host's memory, and knows no clock and no randomness.
 */
import { label } from '#hostmem/labels';
import { NULL } from '#hostmem/object';
import { Access, Entry, type PageTableFormat } from '#hostmem/page-table-format';
import { guestFreeGpa } from '../actors/command-ring.ts';
import type { Device } from '../actors/device.ts';
import type { Viommu } from '../actors/viommu.ts';
import type { Vm } from '../actors/vm.ts';
import { breach, invariant, type AnyInvariant } from '../check/invariant.ts';
import * as records from '../check/records.ts';
import * as domain from '../drivers/domain.ts';
import * as hardwareEvents from '../hardware/events.ts';
import * as pciFunction from '../hardware/function.ts';
import * as installedRoot from '../hardware/installed-root.ts';
import * as errno from '../kernel/errno.ts';
import * as kernelEvents from '../kernel/events.ts';
import * as file from '../kernel/file.ts';
import * as hwpt from '../kernel/hwpt.ts';
import * as ioas from '../kernel/ioas.ts';
import * as iommuGroup from '../kernel/iommu-group.ts';
import * as iommufdAttach from '../kernel/iommufd-attach.ts';
import * as iommufdDevice from '../kernel/iommufd-device.ts';
import * as iommufdGroup from '../kernel/iommufd-group.ts';
import * as iommufdReserved from '../kernel/iommufd-reserved.ts';
import * as iopt from '../kernel/iopt.ts';
import * as ioptArea from '../kernel/iopt-area.ts';
import * as ioptDomains from '../kernel/iopt-domains.ts';
import * as ioptRanges from '../kernel/iopt-ranges.ts';
import * as objects from '../kernel/objects.ts';
import { linux72 } from '../kernel/operations.ts';
import * as pages from '../kernel/pages.ts';
import * as processes from '../kernel/process.ts';
import { variant, type Variant } from '../kernel/variant.ts';
import * as vfio from '../kernel/vfio.ts';
import { scenario, type ActorOf, type Actors, type Cast, type Parameters, type Scenario, type Stage } from '../scenario.ts';
import type { World } from '../world.ts';

/** A scenario as a file from outside writes it. */
export interface OutsideStory<S extends Stage> {
  /** What happens, in one line. */
  readonly title: string;
  readonly seed?: string | null;
  /** Kernel variants that it is told for. Any variant of the folder can be named on the command line. */
  readonly variants?: readonly string[];
  /** What `--vms` is unless it is given: its number is `w.vms` in the world, and the second argument of `actors`. */
  readonly vms?: number;
  world(w: World): S;
  /** Either the actors, or a function of the cast, whose bodies then know the type of what `world` returned. */
  readonly actors: Actors<S> | ((cast: Cast<S>, parameters: Parameters) => Actors<S>);
  /** Ids of invariants (`dmarena list`). */
  readonly holds: readonly string[];
}

/** A whole scenario: what is left out has its default. */
function outsideScenario<S extends Stage>(story: OutsideStory<S>): Scenario<S> {
  const { actors } = story;
  const cast = typeof actors === 'function' ? actors : () => actors;
  return scenario<S>({ seed: null, variants: [], ...story, actors: cast });
}

/** What most formats have: leaves of 4 KiB, an IOVA without a sign, addresses of 52 bits, no bits that hardware sets. */
const plainFormat = {
  signExtended: false, largestLeaf: 1, outputBits: 52, accessedBit: 0, marksTables: true, dirtyBit: 0, cleanBit: 0, needsMarks: false,
} as const;

/** A format whose frames are plain numbers. */
type PlainFormat = Omit<PageTableFormat, 'frameOf' | keyof typeof plainFormat> &
  Partial<Pick<PageTableFormat, keyof typeof plainFormat>> & { frameOf(high: number, low: number): number };

export const words = Object.freeze({
  // A scenario, and who acts in it. Guest memory is free from `guestFreeGpa` on.
  scenario: outsideScenario,
  vm: <S>(process: string, body: (vm: Vm, stage: S) => void, steps = 1): ActorOf<Vm, S> => ({ role: 'vm', subject: process, steps, body }),
  device: <S>(name: string, body: (device: Device, stage: S) => void, steps = 1): ActorOf<Device, S> => ({ role: 'device', subject: name, steps, body }),
  viommu: <S>(guest: string, body: (viommu: Viommu, stage: S) => void): ActorOf<Viommu, S> => ({ role: 'viommu', subject: guest, steps: 1, body }),
  guestFreeGpa,

  // A variant: the tables of Linux 7.2 that it changes, and what its functions are written with.
  variant,
  linux72,
  NULL,

  // An invariant: `breach(message)` is what it answers when it does not hold.
  invariant,
  breach,
  /** Kinds of events, with readers of their fields: `VfioCalled.get.group(event)`. */
  events: Object.freeze({ ...kernelEvents, ...hardwareEvents }),
  /** Walks over records: contexts, their groups, their objects. */
  records,

  /** The records and functions of the model, by the file that they are in: `model.iommufdGroup.IommufdGroup`. */
  model: Object.freeze({
    domain, errno, file, hwpt, installedRoot, ioas, iommuGroup, iommufdAttach, iommufdDevice, iommufdGroup, iommufdReserved,
    iopt, ioptArea, ioptDomains, ioptRanges, objects, pages, pciFunction, processes, vfio,
  }),

  // A page-table format.
  format: (definition: PlainFormat): PageTableFormat => Object.freeze({ ...plainFormat, ...definition } as PageTableFormat),
  Access,
  Entry,
  label,
});

export type Words = typeof words;

/** What each kind of file default-exports. In JavaScript: `@type {import('dmarena').OutsideScenario}`. */
export type OutsideScenario = (words: Words) => Scenario;
export type OutsideVariant = (words: Words) => Variant;
export type OutsideInvariant = (words: Words) => AnyInvariant;
export type OutsideFormat = (words: Words) => PageTableFormat | readonly PageTableFormat[];
