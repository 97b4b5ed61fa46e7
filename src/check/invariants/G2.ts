/** G2, views agree: what iommufd has recorded for a group is what the core and the hardware have. */
import { NULL, type Ref } from '#hostmem/object';
import { HwptRecorded, VfioCall, VfioCalled, VfioReturned } from '../../kernel/events.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { IommuGroup } from '../../kernel/iommu-group.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommufdObject, Kind } from '../../kernel/objects.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { contexts, iommufdGroups, membersAttached, objects, strayMember } from '../records.ts';
import type { View } from '../view.ts';

interface Changes {
  /** Attaches, replaces, detaches and closes in progress, per group: the claim is silent about a group during one. */
  readonly running: Map<number, number>;
  /** The device for which the last event says that a group is recorded on an HWPT: it has to be one of those attached. */
  recorded: { readonly group: number; readonly device: number } | null;
  /** The last event is of a change that is not over yet, whoever makes it: a mock device's test operations are no calls of VFIO. */
  isWithin: boolean;
}

const changes = (what: number): boolean => what !== VfioCall.BIND;

export default invariant<Changes>({
  id: 'G2',
  claim: 'while no attach, replace, detach or close of a group runs: the recorded HWPT, the group and the hardware name one domain; who has it recorded is attached',
  events: [HwptRecorded, VfioCalled, VfioReturned],
  start: () => ({ running: new Map(), recorded: null, isWithin: false }),
  step(state, event) {
    state.recorded = null;
    state.isWithin = event.kind === HwptRecorded.kind;
    if (event.kind === HwptRecorded.kind) {
      if (HwptRecorded.get.hwpt(event) !== 0) state.recorded = { group: HwptRecorded.get.group(event), device: HwptRecorded.get.device(event) };
    } else if (event.kind === VfioCalled.kind) {
      if (changes(VfioCalled.get.what(event))) add(state.running, VfioCalled.get.group(event), 1);
    } else if (changes(VfioReturned.get.what(event))) add(state.running, VfioReturned.get.group(event), -1);
    return null;
  },
  inspectAfter: [HwptRecorded, VfioReturned],
  inspect({ running, recorded, isWithin }, view, atRest) {
    // At rest it may have been detached since.
    if (recorded !== null && !atRest && !isAttached(view, recorded)) {
      return breach(`group ${recorded.group} was moved for device ${recorded.device}, which is not attached: the record does not have it`);
    }
    if (isWithin && !atRest) return null;
    for (const iommufd of contexts(view)) {
      for (const group of iommufdGroups(view, iommufd)) {
        const core = IommufdGroup.group.peek(view.host.kernel, group);
        if ((running.get(IommuGroup.number.peek(view.host.kernel, core)) ?? 0) !== 0) continue;
        // A bind in progress, or one that is about to be refused: the group is not this context's.
        if (IommuGroup.owner.peek(view.host.kernel, core) !== iommufd) continue;
        const found = compare(view, group, core);
        if (found !== null) return found;
      }
    }
    return null;
  },
});

function add(state: Map<number, number>, group: number, change: number): void {
  state.set(group, (state.get(group) ?? 0) + change);
}

/** Device ids are told apart by their contexts; of those that own the group there is one. */
function isAttached(view: View, { group, device }: { readonly group: number; readonly device: number }): boolean {
  const memory = view.host.kernel;
  const groups = contexts(view).flatMap((iommufd) => iommufdGroups(view, iommufd));
  const own = groups.filter((one) => IommuGroup.number.peek(memory, IommufdGroup.group.peek(memory, one)) === group);
  return own.some((one) => membersAttached(view, one).some((member) => idOf(view, member) === device));
}

function compare(view: View, group: Ref<'IommufdGroup'>, core: Ref<'IommuGroup'>): Breach | null {
  const memory = view.host.kernel;
  const current = IommuGroup.domain.peek(memory, core);
  const number = IommuGroup.number.peek(memory, core);
  const recorded = IommufdGroup.hwpt.peek(memory, group);
  const coreWord = { space: 1, at: IommuGroup.domain.address(memory, core) } as const;
  if (recorded === NULL) {
    if (current !== IommuGroup.blockingDomain.peek(memory, core)) {
      return breach(`nobody of group ${number} is attached, but the group is not blocked`, [coreWord]);
    }
  }
  const members = membersAttached(view, group);
  if ((members.length === 0) !== (recorded === NULL)) {
    const word = { space: 1, at: IommufdGroup.hwpt.address(memory, group) } as const;
    return breach(`group ${number} is recorded on ${recorded === NULL ? 'nothing' : nameOf(view, recorded)}, with ${members.length} members attached`, [word]);
  }
  for (const device of members) {
    if (!isBound(view, group, device)) return breach(`a device of group ${number} is attached that is not bound`);
    const own = IommufdDevice.hwpt.peek(memory, device);
    const hwpt = own === NULL ? recorded : own;
    if (Hwpt.domain.peek(memory, hwpt) === current) continue;
    const recordWord = own === NULL ? IommufdGroup.hwpt.address(memory, group) : IommufdDevice.hwpt.address(memory, device);
    return breach(
      `device ${idOf(view, device)} of group ${number} is recorded on ${nameOf(view, hwpt)}, ` +
        `but the group and its hardware translate through ${nameOfDomain(view, group, current)}`,
      [{ space: 1, at: recordWord }, coreWord],
    );
  }
  const stray = strayMember(view, core);
  return stray === null ? null : breach(`group ${number} ${stray}`, [coreWord]);
}

const isBound = (view: View, group: Ref<'IommufdGroup'>, device: Ref<'IommufdDevice'>): boolean =>
  objects(view, IommufdGroup.iommufd.peek(view.host.kernel, group)).includes(IommufdDevice.header.peek(view.host.kernel, device));

const idOf = (view: View, device: Ref<'IommufdDevice'>): number =>
  IommufdObject.id.peek(view.host.kernel, IommufdDevice.header.peek(view.host.kernel, device));

/** `HWPT 7 of IOAS 2`. */
function nameOf(view: View, hwpt: Ref<'Hwpt'>): string {
  const memory = view.host.kernel;
  const id = IommufdObject.id.peek(memory, Hwpt.header.peek(memory, hwpt));
  return `HWPT ${id} of IOAS ${IommufdObject.id.peek(memory, Ioas.header.peek(memory, Hwpt.ioas.peek(memory, hwpt)))}`;
}

function nameOfDomain(view: View, group: Ref<'IommufdGroup'>, domain: Ref<'IommuDomain'>): string {
  const memory = view.host.kernel;
  for (const target of objects(view, IommufdGroup.iommufd.peek(memory, group))) {
    if (IommufdObject.kind.peek(memory, target) !== Kind.HWPT) continue;
    const hwpt = IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>;
    if (Hwpt.domain.peek(memory, hwpt) === domain) return nameOf(view, hwpt);
  }
  return domain === IommuGroup.blockingDomain.peek(memory, IommufdGroup.group.peek(memory, group)) ? 'nothing (blocked)' : 'another domain';
}
