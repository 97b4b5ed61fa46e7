/**
 * iommufd's side of an iommu group, one per context (`struct iommufd_group`): it lives while a bound device uses it.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated } from './errno.ts';
import { IommuGroup } from './iommu-group.ts';
import type { Kernel } from './kernel.ts';
import { Iommufd } from './objects.ts';

/** iommufd's side of an iommu group, one per context (`struct iommufd_group`). */
export const IommufdGroup = object('IommufdGroup', {
  lock: mutex,
  group: ref('IommuGroup'),
  iommufd: ref('Iommufd'),
  /** Bound devices that use it; under the context's `groupsLock`. */
  references: u32.under('iommufd.groupsLock'),
  next: ref('IommufdGroup').under('iommufd.groupsLock'),
  /** The attachment record of the RID slot: what the members asked for, null when none is attached. */
  hwpt: ref('Hwpt').under('lock'),
  attached: ref('IommufdDevice').under('lock'),
  /** The shares of members in PASID slots. */
  pasids: ref('PasidAttachment').under('lock'),
});

export function getGroup(kernel: Kernel, iommufd: Ref<'Iommufd'>, group: Ref<'IommuGroup'>): Ref<'IommufdGroup'> {
  const memory = kernel.memory;
  Iommufd.groupsLock.acquire(memory, iommufd);
  let found: Ref<'IommufdGroup'> = Iommufd.groups.read(memory, iommufd);
  while (found !== NULL && IommufdGroup.group.peek(memory, found) !== group) found = IommufdGroup.next.read(memory, found);
  if (found === NULL) found = tryAddGroup(kernel, iommufd, group);
  if (found !== NULL) IommufdGroup.references.write(memory, found, IommufdGroup.references.read(memory, found) + 1);
  Iommufd.groupsLock.release(memory, iommufd);
  return allocated(found);
}

/** The caller holds `groupsLock`. */
function tryAddGroup(kernel: Kernel, iommufd: Ref<'Iommufd'>, group: Ref<'IommuGroup'>): Ref<'IommufdGroup'> {
  const memory = kernel.memory;
  const added = IommufdGroup.tryCreate(memory);
  if (added === NULL) return added;
  IommufdGroup.group.poke(memory, added, group);
  IommufdGroup.iommufd.poke(memory, added, iommufd);
  IommufdGroup.next.poke(memory, added, Iommufd.groups.read(memory, iommufd));
  Iommufd.groups.write(memory, iommufd, added);
  return added;
}

export function putGroup(kernel: Kernel, shared: Ref<'IommufdGroup'>): void {
  const memory = kernel.memory;
  const iommufd = IommufdGroup.iommufd.peek(memory, shared);
  Iommufd.groupsLock.acquire(memory, iommufd);
  const references = IommufdGroup.references.read(memory, shared) - 1;
  IommufdGroup.references.write(memory, shared, references);
  if (references === 0) unlinkGroup(kernel, iommufd, shared);
  Iommufd.groupsLock.release(memory, iommufd);
  if (references === 0) IommufdGroup.free(memory, shared);
}

function unlinkGroup(kernel: Kernel, iommufd: Ref<'Iommufd'>, shared: Ref<'IommufdGroup'>): void {
  const memory = kernel.memory;
  const next = IommufdGroup.next.read(memory, shared);
  let at = Iommufd.groups.read(memory, iommufd);
  if (at === shared) {
    Iommufd.groups.write(memory, iommufd, next);
    return;
  }
  while (IommufdGroup.next.read(memory, at) !== shared) at = IommufdGroup.next.read(memory, at);
  IommufdGroup.next.write(memory, at, next);
}

export const groupNumber = (kernel: Kernel, group: Ref<'IommufdGroup'>): number =>
  IommuGroup.number.peek(kernel.memory, IommufdGroup.group.peek(kernel.memory, group));
