/**
 * What users can observe of a host, as one line each: descriptors, objects and who holds them, areas and reserved regions, attachments,
 * and what each function's table entry says. For O5, which holds two of these against each other.
 */
import type { IntervalTree } from '#hostmem/interval-tree';
import { NULL, type Ref } from '#hostmem/object';
import { PciFunction } from '../hardware/function.ts';
import { installedRoot } from '../hardware/installed-root.ts';
import { Hwpt } from '../kernel/hwpt.ts';
import { Ioas } from '../kernel/ioas.ts';
import { IommuGroup, PciDevice } from '../kernel/iommu-group.ts';
import { IommufdDevice } from '../kernel/iommufd-device.ts';
import { IommufdGroup } from '../kernel/iommufd-group.ts';
import { PasidAttachment } from '../kernel/iommufd-pasid.ts';
import { KernelRoot } from '../kernel/kernel.ts';
import { big } from '../kernel/u64.ts';
import { IommufdObject, Kind, kindNames, type ObjectRef } from '../kernel/objects.ts';
import { Process } from '../kernel/process.ts';
import { VfioDevice } from '../kernel/vfio.ts';
import { addressText, contexts, descriptors, iommufdGroups, membersAttached, objects, pasidsAttached, processes } from './records.ts';
import type { View } from './view.ts';

/** What there is, by its name. */
export type Observed = ReadonlyMap<string, number>;

/** Of a host that stands still. */
export function observe(view: View): Observed {
  const seen = new Map<string, number>();
  observeVfio(view, seen);
  for (const group of view.groups()) observeGroup(view, group, seen);
  contexts(view).forEach((iommufd, index) => observeContext(view, iommufd, `context ${index}`, seen));
  for (const process of processes(view)) observeProcess(view, process, seen);
  return seen;
}

/** The first thing that is not as it was, as the end of a sentence; null when all is. */
export function difference(before: Observed, after: Observed): string | null {
  for (const [name, was] of before) {
    const is = after.get(name);
    if (is === undefined) return `${name} is gone`;
    if (is !== was) return `${name} was ${was} and is ${is}`;
  }
  for (const name of after.keys()) if (!before.has(name)) return `${name} is new`;
  return null;
}

function observeProcess(view: View, process: Ref<'Process'>, seen: Map<string, number>): void {
  const memory = view.host.kernel;
  const name = `process ${Process.number.peek(memory, process)}`;
  for (const [fd, file] of descriptors(view, process)) seen.set(`${name}: descriptor ${fd}`, file);
  seen.set(`${name}: number of pinned pages`, Process.pinnedPages.peek(memory, process));
}

function observeContext(view: View, iommufd: Ref<'Iommufd'>, name: string, seen: Map<string, number>): void {
  const memory = view.host.kernel;
  for (const target of objects(view, iommufd)) {
    const what = `${name}: ${nameOf(view, target)}`;
    seen.set(`${what}, number of users`, IommufdObject.users.peek(memory, target));
    const body = IommufdObject.body.peek(memory, target);
    if (IommufdObject.kind.peek(memory, target) === Kind.IOAS) observeIoas(view, body as Ref<'Ioas'>, what, seen);
  }
  for (const group of iommufdGroups(view, iommufd)) observeAttachment(view, group, name, seen);
}

function observeIoas(view: View, ioas: Ref<'Ioas'>, name: string, seen: Map<string, number>): void {
  for (const range of ranges(view, Ioas.areas, ioas)) seen.set(`${name}, area ${range}`, 1);
  for (const range of ranges(view, Ioas.allowed, ioas)) seen.set(`${name}, allowed range ${range}`, 1);
  // One region may be reserved for several devices.
  for (const range of ranges(view, Ioas.reserved, ioas)) seen.set(`${name}, reserved region ${range}`, (seen.get(`${name}, reserved region ${range}`) ?? 0) + 1);
}

function observeAttachment(view: View, group: Ref<'IommufdGroup'>, name: string, seen: Map<string, number>): void {
  const memory = view.host.kernel;
  const number = IommuGroup.number.peek(memory, IommufdGroup.group.peek(memory, group));
  const hwpt = IommufdGroup.hwpt.peek(memory, group);
  seen.set(`${name}: recorded HWPT of group ${number}`, hwpt === NULL ? 0 : idOf(view, Hwpt.header.peek(memory, hwpt)));
  for (const device of membersAttached(view, group)) seen.set(`${name}: attachment of device ${idOf(view, IommufdDevice.header.peek(memory, device))}`, 1);
  for (const share of pasidsAttached(view, group)) {
    const device = idOf(view, IommufdDevice.header.peek(memory, PasidAttachment.device.peek(memory, share)));
    const id = idOf(view, Hwpt.header.peek(memory, PasidAttachment.hwpt.peek(memory, share)));
    seen.set(`${name}: HWPT of pasid ${PasidAttachment.pasid.peek(memory, share)} of device ${device}`, id);
  }
}

function observeGroup(view: View, group: Ref<'IommuGroup'>, seen: Map<string, number>): void {
  const memory = view.host.kernel;
  seen.set(`domain of group ${IommuGroup.number.peek(memory, group)}`, IommuGroup.domain.peek(memory, group));
  for (const device of view.members(group)) {
    const pciFunction = PciDevice.function.peek(memory, device);
    seen.set(`root frame of function ${addressText(PciFunction.rid.peek(memory, pciFunction))}`, installedRoot(view.host, pciFunction));
  }
}

function observeVfio(view: View, seen: Map<string, number>): void {
  const memory = view.host.kernel;
  for (let at = KernelRoot.vfioDevices.peek(memory, view.root); at !== NULL; at = VfioDevice.next.peek(memory, at)) {
    const name = `vfio${VfioDevice.number.peek(memory, at)}`;
    seen.set(`${name}: number of opens`, VfioDevice.openCount.peek(memory, at));
    seen.set(`${name}: attachment`, VfioDevice.attached.peek(memory, at));
  }
}

/** `0x1000-0x1fff`. */
function ranges(view: View, tree: IntervalTree, ioas: Ref<'Ioas'>): string[] {
  const memory = view.host.kernel;
  const found: string[] = [];
  for (let node = tree.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = tree.next(memory, ioas, node, 0, 0, -1, -1)) {
    const first = big(tree.startHigh(memory, node), tree.startLow(memory, node));
    found.push(`0x${first.toString(16)}-0x${big(tree.lastHigh(memory, node), tree.lastLow(memory, node)).toString(16)}`);
  }
  return found;
}

const nameOf = (view: View, target: ObjectRef): string => `${kindNames[IommufdObject.kind.peek(view.host.kernel, target)]} ${idOf(view, target)}`;
const idOf = (view: View, target: ObjectRef): number => IommufdObject.id.peek(view.host.kernel, target);
