/** P5, trees and lists: each node is in its list exactly once, and what lies in one IOAS is mutually legal. */
import type { IntervalTree } from '#hostmem/interval-tree';
import { NULL, type Ref } from '#hostmem/object';
import { HwptLinked } from '../../kernel/events.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IoptAccess } from '../../kernel/access.ts';
import { IoptDomain } from '../../kernel/iopt-domains.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { Kind } from '../../kernel/objects.ts';
import { Vdevice } from '../../kernel/vdevice.ts';
import { Viommu } from '../../kernel/viommu.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { bodies, contexts, grouped, iommufdGroups, nameOf } from '../records.ts';
import type { View } from '../view.ts';

/** Lists and trees change under their locks in one step, so that they may be looked at whenever nobody runs. */
export default invariant<null>({
  id: 'P5',
  claim: 'every list names a node once, every tree is in order, areas, reserved and allowed ranges are where they may be',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [HwptLinked],
  inspect(_state, view, atRest) {
    for (const iommufd of contexts(view)) {
      const hwpts = grouped(bodies<'Hwpt'>(view, iommufd, Kind.HWPT), (hwpt) => Hwpt.ioas.peek(view.host.kernel, hwpt));
      for (const ioas of bodies<'Ioas'>(view, iommufd, Kind.IOAS)) {
        const found = ofIoas(view, ioas, atRest ? (hwpts.get(ioas) ?? []) : null);
        if (found !== null) return found;
      }
      const found = ofDevices(view, iommufd);
      if (found !== null) return found;
    }
    return null;
  },
});

/** `hwpts` are those on the IOAS; at rest its list names just them. */
function ofIoas(view: View, ioas: Ref<'Ioas'>, hwpts: readonly Ref<'Hwpt'>[] | null): Breach | null {
  const memory = view.host.kernel;
  const name = nameOf(view, Ioas.header.peek(memory, ioas));
  const linked = walk(Ioas.hwpts.peek(memory, ioas), (at) => Hwpt.next.peek(memory, at));
  const word = [{ space: 1, at: Ioas.hwpts.address(memory, ioas) }] as const;
  if (linked === null) return breach(`the list of HWPTs of ${name} comes back to one that it has named before`, word);
  const missing = hwpts?.find((hwpt) => !linked.has(hwpt));
  if (missing !== undefined) return breach(`${nameOf(view, Hwpt.header.peek(memory, missing))} is not on the list of ${name}`, word);
  if (hwpts !== null && linked.size > hwpts.length) return breach(`the list of ${name} names an HWPT of another IOAS`, word);
  const domains = walk(Ioas.domains.peek(memory, ioas), (at) => IoptDomain.next.peek(memory, at));
  if (domains === null) return breach(`the list of domains of ${name} comes back to one that it has named before`);
  const filled = new Set([...domains].map((link) => IoptDomain.domain.peek(memory, link)));
  if (filled.size !== domains.size) return breach(`${name} fills a domain twice`);
  if (hwpts !== null && [...linked].some((hwpt) => !filled.has(Hwpt.domain.peek(memory, hwpt)))) return breach(`${name} does not fill the domain of one of its HWPTs`);
  if (walk(Ioas.accesses.peek(memory, ioas), (at) => IoptAccess.next.peek(memory, at)) === null) return breach(`the list of accesses of ${name} comes back to one that it has named before`);
  return ofRanges(view, ioas, name);
}

function ofRanges(view: View, ioas: Ref<'Ioas'>, name: string): Breach | null {
  const memory = view.host.kernel;
  for (const tree of [Ioas.areas, Ioas.reserved, Ioas.allowed]) {
    const wrong = auditOf(view, tree, ioas);
    if (wrong !== null) return breach(`${name}: ${wrong}`);
  }
  for (let node = Ioas.areas.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.areas.next(memory, ioas, node, 0, 0, -1, -1)) {
    const range = [Ioas.areas.startHigh(memory, node), Ioas.areas.startLow(memory, node), Ioas.areas.lastHigh(memory, node), Ioas.areas.lastLow(memory, node)] as const;
    if (Ioas.reserved.first(memory, ioas, ...range) !== NULL) return breach(`a mapping of ${name} lies in a reserved range`);
    if (Ioas.areas.first(memory, ioas, ...range) !== node) return breach(`two mappings of ${name} overlap`);
  }
  for (let node = Ioas.allowed.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.allowed.next(memory, ioas, node, 0, 0, -1, -1)) {
    const meets = Ioas.reserved.first(memory, ioas, Ioas.allowed.startHigh(memory, node), Ioas.allowed.startLow(memory, node), Ioas.allowed.lastHigh(memory, node), Ioas.allowed.lastLow(memory, node));
    if (meets !== NULL) return breach(`an allowed range of ${name} is reserved`);
  }
  return null;
}

/** What is wrong with a tree, or null. */
function auditOf(view: View, tree: IntervalTree, ioas: Ref<'Ioas'>): string | null {
  try {
    tree.audit(view.host.kernel, ioas);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function ofDevices(view: View, iommufd: Ref<'Iommufd'>): Breach | null {
  const memory = view.host.kernel;
  const devices = grouped(bodies<'IommufdDevice'>(view, iommufd, Kind.DEVICE), (device) => IommufdDevice.group.peek(memory, device));
  for (const group of iommufdGroups(view, iommufd)) {
    const attached = walk(IommufdGroup.attached.peek(memory, group), (at) => IommufdDevice.nextAttached.peek(memory, at));
    if (attached === null) return breach('the list of attached members of a group comes back to one that it has named before');
    const other = devices.get(group)?.find((device) => (IommufdDevice.attached.peek(memory, device) !== 0) !== attached.has(device));
    if (other !== undefined) return breach(`${nameOf(view, IommufdDevice.header.peek(memory, other))} and the list of its group do not agree whether it is attached`);
  }
  for (const viommu of bodies<'Viommu'>(view, iommufd, Kind.VIOMMU)) {
    if (walk(Viommu.vdevices.peek(memory, viommu), (at) => Vdevice.next.peek(memory, at)) === null) return breach('the list of vdevices of a vIOMMU comes back to one that it has named before');
  }
  return null;
}

/** The nodes of a list; null when it does not end. */
function walk<T extends string>(first: Ref<T>, next: (at: Ref<T>) => Ref<T>): Set<Ref<T>> | null {
  const seen = new Set<Ref<T>>();
  for (let at = first; at !== NULL; at = next(at)) {
    if (seen.has(at)) return null;
    seen.add(at);
  }
  return seen;
}
