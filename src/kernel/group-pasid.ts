/**
 * PASIDs of a group in the core (drivers/iommu/iommu.c, SEMANTICS B10): what the requests of all members that have PASIDs go through. The group moves as one,
 * each member has a table of its own. It does not know iommufd.
 */
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '../drivers/domain.ts';
import { fail, type ErrnoName } from './errno.ts';
import { PasidMoved, PasidMoves } from './events.ts';
import { checkOwner, IommuGroup, PciDevice } from './iommu-group.ts';
import type { Kernel } from './kernel.ts';

/**
 * Lets requests with the PASID go through a domain instead of `old` (`__iommu_set_group_pasid`), the blocked one included. A member that refuses makes those
 * before it go back. EOPNOTSUPP of a driver that sets none, EINVAL for a PASID that a member does not have or for a domain of another driver, and what the
 * driver says.
 */
export function setGroupPasid(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number, domain: Ref<'IommuDomain'>, old: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  if (kernel.driver.setPasid === undefined) fail('EOPNOTSUPP', 'the driver sets no PASIDs');
  if (domain !== kernel.driver.blockedDomain) checkOwner(kernel, group, domain);
  const number = IommuGroup.number.peek(memory, group);
  IommuGroup.mutex.acquire(memory, group);
  try {
    checkWidths(kernel, group, pasid);
    PasidMoves.emit(memory, number, pasid, rootOf(kernel, old), rootOf(kernel, domain), kernel.processNumber);
    let inForce = old;
    try {
      setMembers(kernel, group, pasid, domain, old);
      inForce = domain;
    } finally {
      PasidMoved.emit(memory, number, pasid, rootOf(kernel, inForce));
    }
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

/** Asked of all members before the first one is set. Those without PASIDs are passed by. */
function checkWidths(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number): void {
  const memory = kernel.memory;
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    const width = widthOf(kernel, member);
    if (width > 0 && pasid >= width) fail('EINVAL', `a member of the group has PASIDs below ${width}, and not ${pasid}`);
  }
}

/** How many PASIDs a member has (`max_pasids`). */
const widthOf = (kernel: Kernel, member: Ref<'PciDevice'>): number => kernel.driver.pasidsOf?.(PciDevice.function.peek(kernel.memory, member)) ?? 0;

function setMembers(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number, domain: Ref<'IommuDomain'>, old: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  const first = IommuGroup.members.peek(memory, group);
  for (let member: Ref<'PciDevice'> = first; member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    const problem = setMember(kernel, member, pasid, domain);
    if (problem === 0) continue;
    for (let undo = first; undo !== member; undo = PciDevice.nextInGroup.peek(memory, undo)) setMember(kernel, undo, pasid, old);
    fail(problem, `the driver refuses PASID ${pasid}`);
  }
}

/** What the driver says; 0 for a member without PASIDs, which has nothing to set. */
function setMember(kernel: Kernel, member: Ref<'PciDevice'>, pasid: number, domain: Ref<'IommuDomain'>): 0 | ErrnoName {
  if (widthOf(kernel, member) === 0) return 0;
  return kernel.driver.setPasid?.(domain, PciDevice.function.peek(kernel.memory, member), pasid) ?? 0;
}

/** The root frame by which hardware names a domain; 0 for blocking. */
const rootOf = (kernel: Kernel, domain: Ref<'IommuDomain'>): number => (domain === NULL ? 0 : IommuDomain.root.peek(kernel.memory, domain));
