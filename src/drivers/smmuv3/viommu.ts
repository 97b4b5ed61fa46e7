/**
 * vIOMMUs of SMMUv3 (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c): the part of a unit that is a VM's, which is the VMID of its nest parent; the
 * streams of its devices by the VM's own numbers; and the commands of the VM's queue, which its VMM hands over as they are.
 */
import { mutex } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { PciFunction } from '../../hardware/function.ts';
import * as commands from '../../hardware/smmuv3/commands.ts';
import { Opcode, type Command } from '../../hardware/smmuv3/commands.ts';
import { allocated, fail, type ErrnoName } from '../../kernel/errno.ts';
import { commandBytes } from '../command-submitter.ts';
import { IommuDomain } from '../domain.ts';
import type { Invalidations } from '../driver.ts';
import { copyEntries } from '../user-data.ts';
import { GuestCommands, GuestCommandsCounted } from '../events.ts';
import type { Smmu, SmmuMember } from './smmu.ts';

/** IOMMU_VIOMMU_TYPE_ARM_SMMUV3. */
export const smmuViommuType = 1;
/** IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: commands of the hardware's own form. */
export const smmuInvalidateData = 1;
/** Commands that go to the queue together, with a SYNC behind them (CMDQ_BATCH_ENTRIES - 1). */
export const batchCommands = 63;

export const SmmuViommu = object('SmmuViommu', {
  /** What the kernel knows it as. */
  viommu: u32,
  unit: ref('IommuUnit'),
  /** The nest parent, whose VMID it has (7.2 gives a vIOMMU none of its own). */
  parent: ref('IommuDomain'),
  vmid: u32,
  lock: mutex,
  vdevices: ref('SmmuVdevice').under('lock'),
});

const SmmuVdevice = object('SmmuVdevice', { viommu: ref('SmmuViommu'), function: ref('PciFunction'), virtId: u64, next: ref('SmmuVdevice').under('viommu.lock') });

/** `arm_vsmmu_init`: EINVAL for a parent that was made for a device behind another unit, ENOMEM. */
export function createViommu(memory: Memory, unit: Ref<'IommuUnit'>, parent: Ref<'IommuDomain'>, known: number): Ref<'SmmuViommu'> {
  if (IommuDomain.unit.peek(memory, parent) !== unit) fail('EINVAL', "the nest parent is another unit's");
  const viommu = allocated(SmmuViommu.tryCreate(memory));
  SmmuViommu.viommu.poke(memory, viommu, known);
  SmmuViommu.unit.poke(memory, viommu, unit);
  SmmuViommu.parent.poke(memory, viommu, parent);
  SmmuViommu.vmid.poke(memory, viommu, IommuDomain.driverData.peek(memory, parent));
  return viommu;
}

/** False without memory. */
export function addVdevice(memory: Memory, viommu: Ref<'SmmuViommu'>, pciFunction: Ref<'PciFunction'>, virtId: bigint): boolean {
  const added = SmmuVdevice.tryCreate(memory);
  if (added === NULL) return false;
  SmmuVdevice.viommu.poke(memory, added, viommu);
  SmmuVdevice.function.poke(memory, added, pciFunction);
  SmmuVdevice.virtId.pokeBig(memory, added, virtId);
  SmmuViommu.lock.acquire(memory, viommu);
  SmmuVdevice.next.write(memory, added, SmmuViommu.vdevices.read(memory, viommu));
  SmmuViommu.vdevices.write(memory, viommu, added);
  SmmuViommu.lock.release(memory, viommu);
  return true;
}

export function removeVdevice(memory: Memory, viommu: Ref<'SmmuViommu'>, pciFunction: Ref<'PciFunction'>): void {
  SmmuViommu.lock.acquire(memory, viommu);
  let before: Ref<'SmmuVdevice'> = NULL;
  let at: Ref<'SmmuVdevice'> = SmmuViommu.vdevices.read(memory, viommu);
  while (SmmuVdevice.function.peek(memory, at) !== pciFunction) {
    before = at;
    at = SmmuVdevice.next.read(memory, at);
  }
  const next = SmmuVdevice.next.read(memory, at);
  if (before === NULL) SmmuViommu.vdevices.write(memory, viommu, next);
  else SmmuVdevice.next.write(memory, before, next);
  SmmuViommu.lock.release(memory, viommu);
  SmmuVdevice.free(memory, at);
}

/** The stream of the device as the vIOMMU numbers it, or null (`iommufd_viommu_get_vdev_id`). */
export function virtualStreamOf(memory: Memory, viommu: Ref<'SmmuViommu'>, pciFunction: Ref<'PciFunction'>): number | null {
  SmmuViommu.lock.acquire(memory, viommu);
  let at: Ref<'SmmuVdevice'> = SmmuViommu.vdevices.read(memory, viommu);
  while (at !== NULL && SmmuVdevice.function.peek(memory, at) !== pciFunction) at = SmmuVdevice.next.read(memory, at);
  const stream = at === NULL ? null : SmmuVdevice.virtId.peek(memory, at);
  SmmuViommu.lock.release(memory, viommu);
  return stream;
}

/** The stream of the device with that number, of which it has but one (`arm_vsmmu_vsid_to_sid`); -1 where there is none. */
function streamOf(memory: Memory, viommu: Ref<'SmmuViommu'>, virtualStream: number): number {
  const virtId = BigInt(virtualStream >>> 0);
  SmmuViommu.lock.acquire(memory, viommu);
  let at: Ref<'SmmuVdevice'> = SmmuViommu.vdevices.read(memory, viommu);
  while (at !== NULL && SmmuVdevice.virtId.peekBig(memory, at) !== virtId) at = SmmuVdevice.next.read(memory, at);
  const stream = at === NULL ? -1 : PciFunction.rid.peek(memory, SmmuVdevice.function.peek(memory, at));
  SmmuViommu.lock.release(memory, viommu);
  return stream;
}

/** A guest's command as the host's queue may have it (`arm_vsmmu_convert_user_cmd`); null for one that it may not. */
export function convert(memory: Memory, viommu: Ref<'SmmuViommu'>, [first, second, third, fourth]: Command): Command | null {
  const opcode = commands.opcodeOf(first);
  const vmid = SmmuViommu.vmid.peek(memory, viommu);
  if (opcode === Opcode.TLBI_NSNH_ALL) return commands.invalidateStages1(vmid);
  if (ofAddressSpace.has(opcode)) return [first, (second & ~0xffff) | vmid, third, fourth];
  const stream = ofStream.has(opcode) ? streamOf(memory, viommu, second) : -1;
  return stream < 0 ? null : [first, stream, third, fourth];
}
const ofAddressSpace: ReadonlySet<number> = new Set([Opcode.TLBI_NH_ALL, Opcode.TLBI_NH_ASID, Opcode.TLBI_NH_VA, Opcode.TLBI_NH_VAA]);
const ofStream: ReadonlySet<number> = new Set([Opcode.ATC_INV, Opcode.CFGI_CD, Opcode.CFGI_CD_ALL]);

/**
 * `arm_vsmmu_cache_invalidate`: EINVAL for another type or no entries at all (which the uAPI promises to be a question about the type), EFAULT, E2BIG; EIO for a
 * command that cannot be converted. `handled` is its number then, and those before it were converted.
 *
 * K2: what was converted since the last full batch was not issued. Mended: it is, before the error returns.
 */
export function invalidate(smmu: Smmu, unit: SmmuMember, viommu: Ref<'SmmuViommu'>, asked: Invalidations): 0 | ErrnoName {
  if (asked.type !== smmuInvalidateData || asked.count === 0) return 'EINVAL';
  const entries = copyEntries(asked, commandBytes);
  if (typeof entries === 'string') return entries;
  GuestCommands.emit(smmu.kernel, asked.count);
  const issued = issueConverted(smmu, unit, viommu, asked, new DataView(entries.buffer));
  GuestCommandsCounted.emit(smmu.kernel, asked.count, asked.handled, issued);
  return asked.handled === asked.count ? 0 : 'EIO';
}

/** How many commands the queue has had; `handled` is how many were converted. */
function issueConverted(smmu: Smmu, unit: SmmuMember, viommu: Ref<'SmmuViommu'>, asked: Invalidations, entries: DataView): number {
  let issued = 0;
  let batch: Command[] = [];
  for (; asked.handled < asked.count; asked.handled++) {
    const command = convert(smmu.kernel, viommu, commandAt(entries, asked.handled * commandBytes));
    if (command === null) break;
    batch.push(command);
    if (batch.length < batchCommands) continue;
    issued += issue(unit, batch);
    batch = [];
  }
  const isRefused = asked.handled < asked.count;
  return isRefused && smmu.faults.smmuPartialBatch ? issued : issued + issue(unit, batch);
}

function issue({ submitter }: SmmuMember, batch: readonly Command[]): number {
  for (const command of batch) submitter.push(command);
  if (batch.length > 0) submitter.submit();
  return batch.length;
}

const commandAt = (entries: DataView, at: number): Command =>
  [entries.getInt32(at, true), entries.getInt32(at + 4, true), entries.getInt32(at + 8, true), entries.getInt32(at + 12, true)];
