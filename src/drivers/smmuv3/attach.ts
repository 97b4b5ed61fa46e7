/**
 * Attaching a device to a domain (the kernel's `arm_smmu_attach_prepare`, `_commit`): the unit joins the new domain's list, then the entries
 * change, then it leaves the old one's. In between it is on both.
 */
import { NULL, type Ref } from '#hostmem/object';
import { descriptorOf, noDescriptor } from '../../hardware/smmuv3/context-descriptor.ts';
import { abortEntry, bypassEntry, Config, stage1Entry, stage2Entry, type StreamEntry } from '../../hardware/smmuv3/stream-table.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice, type AttachError } from '../driver.ts';
import { addUnitUser, isLastUser, removeUnitUser } from '../unit-tags.ts';
import { descriptorsOf, writeDescriptor, writeStreams } from './entries.ts';
import { spaceCommand } from './invalidation.ts';
import { entryOf, guestConfig, isBeyond, isNested, viommuOf } from './nested.ts';
import type { Smmu, SmmuMember } from './smmu.ts';
import { SmmuUnitState } from './unit-state.ts';
import { SmmuViommu, virtualStreamOf } from './viommu.ts';

/** Lets a device go through a paging domain. ENODEV for a domain of page requests, ENOMEM; what the device had before stays on an error. */
export function attachPaging(smmu: Smmu, device: Ref<'IommuDevice'>, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const { kernel } = smmu;
  if (IommuDomain.pageRequests.peek(kernel, domain) !== 0) return 'ENODEV';
  const unit = smmu.unit(IommuDevice.unit.peek(kernel, device));
  if (!join(smmu, unit, domain)) return 'ENOMEM';
  const before = IommuDevice.domain.peek(kernel, device);
  const number = IommuDomain.driverData.peek(kernel, domain);
  const root = IommuDomain.root.peek(kernel, domain);
  IommuDevice.domain.poke(kernel, device, domain);
  if (smmu.isSecondStage(domain)) {
    writeStreams(smmu, unit, device, stage2Entry(number, root));
    writeDescriptor(smmu, unit, device, noDescriptor);
  } else {
    writeDescriptor(smmu, unit, device, descriptorOf(number, root));
    writeStreams(smmu, unit, device, stage1Entry(descriptorsOf(smmu, device)));
  }
  giveToGuest(smmu, unit, device, NULL, 0);
  if (before !== NULL) leave(smmu, unit, before);
  return 0;
}

/**
 * Lets a device go where its guest's entry says (`arm_smmu_attach_dev_nested`), through the stage 2 of the guest's vIOMMU where it goes anywhere. EINVAL for a device
 * behind another unit, ENOENT for one that is to be translated and has no number within the vIOMMU, ENODEV, ENOMEM; what it had stays.
 */
export function attachNested(smmu: Smmu, device: Ref<'IommuDevice'>, domain: Ref<'IommuDomain'>): 0 | AttachError {
  const { kernel } = smmu;
  const unit = smmu.unit(IommuDevice.unit.peek(kernel, device));
  const viommu = viommuOf(kernel, domain);
  if (SmmuViommu.unit.peek(kernel, viommu) !== unit.ref || isBeyond(kernel, domain)) return 'EINVAL';
  const goesThroughBoth = guestConfig(kernel, domain) === Config.STAGE1;
  const stream = virtualStreamOf(kernel, viommu, IommuDevice.function.peek(kernel, device));
  if (goesThroughBoth && stream === null) return 'ENOENT';
  if (IommuDomain.pageRequests.peek(kernel, domain) !== 0) return 'ENODEV';
  if (!join(smmu, unit, IommuDomain.parent.peek(kernel, domain))) return 'ENOMEM';
  const before = IommuDevice.domain.peek(kernel, device);
  IommuDevice.domain.poke(kernel, device, domain);
  writeStreams(smmu, unit, device, entryOf(kernel, domain));
  writeDescriptor(smmu, unit, device, noDescriptor);
  giveToGuest(smmu, unit, device, stream === null ? NULL : viommu, stream ?? 0);
  if (before !== NULL) leave(smmu, unit, before);
  return 0;
}

/** Every DMA of the device faults from here on. */
export function block(smmu: Smmu, device: Ref<'IommuDevice'>): void {
  withoutTables(smmu, device, abortEntry);
}

/** Requests go to the addresses they name. */
export function attachIdentity(smmu: Smmu, device: Ref<'IommuDevice'>): void {
  withoutTables(smmu, device, bypassEntry);
}

function withoutTables(smmu: Smmu, device: Ref<'IommuDevice'>, entry: StreamEntry): void {
  const { kernel } = smmu;
  const unit = smmu.unit(IommuDevice.unit.peek(kernel, device));
  const before = IommuDevice.domain.peek(kernel, device);
  writeStreams(smmu, unit, device, entry);
  writeDescriptor(smmu, unit, device, noDescriptor);
  giveToGuest(smmu, unit, device, NULL, 0);
  IommuDevice.domain.poke(kernel, device, NULL);
  if (before !== NULL) leave(smmu, unit, before);
}

/** Whose the device's events are from now on: a guest's, under its own number, or nobody's (`arm_smmu_attach_commit_vmaster`). */
function giveToGuest({ kernel }: Smmu, unit: SmmuMember, device: Ref<'IommuDevice'>, viommu: Ref<'SmmuViommu'>, stream: number): void {
  if (viommu === NULL && IommuDevice.guest.peek(kernel, device) === NULL) return;
  SmmuUnitState.guestsLock.acquire(kernel, unit.state);
  IommuDevice.guest.poke(kernel, device, viommu);
  IommuDevice.guestStream.poke(kernel, device, stream);
  SmmuUnitState.guestsLock.release(kernel, unit.state);
}

/** False without memory. */
function join({ kernel }: Smmu, unit: SmmuMember, domain: Ref<'IommuDomain'>): boolean {
  IommuDomain.tagLock.acquire(kernel, domain);
  const added = addUnitUser(kernel, domain, unit.ref, IommuDomain.driverData.peek(kernel, domain));
  IommuDomain.tagLock.release(kernel, domain);
  return added;
}

/** Behind the last one the unit forgets the address space, and only then it leaves the list: of a nested domain, its parent's. */
function leave(smmu: Smmu, unit: SmmuMember, left: Ref<'IommuDomain'>): void {
  const { kernel } = smmu;
  const domain = isNested(kernel, left) ? IommuDomain.parent.peek(kernel, left) : left;
  IommuDomain.tagLock.acquire(kernel, domain);
  if (isLastUser(kernel, domain, unit.ref)) unit.submitter.push(spaceCommand(smmu, domain)).submit();
  removeUnitUser(kernel, domain, unit.ref);
  IommuDomain.tagLock.release(kernel, domain);
}
