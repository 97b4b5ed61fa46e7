/**
 * The PASIDs that a VFIO device has attached (`vfio_iommufd_physical_pasid_attach_ioas`): VFIO keeps them itself, in a table of ids, and
 * tells iommufd to attach or replace. The caller holds `DevSet.lock`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { Change, changePt, detachSlot, RID_SLOT } from './change-pt.ts';
import type { Kernel } from './kernel.ts';
import { VfioDevice } from './vfio.ts';

export const VfioPasid = object('VfioPasid', { devSet: ref('DevSet'), pasid: u32, next: ref('VfioPasid').under('devSet.lock') });

/** The table of ids ends here (`INT_MAX`). */
const lastPasid = 0x7fffffff;

/** Attaches, or replaces what the PASID has; returns the id of the HWPT in force. ENOSPC, and as `changePt`. */
export function changePasidUnderLock(kernel: Kernel, device: Ref<'VfioDevice'>, pasid: number, ptId: number): number {
  const memory = kernel.memory;
  // K5: 7.2 takes PASID 0 for one, but to iommufd it means the RID.
  if (pasid === RID_SLOT && !kernel.operations.faults.pasidZeroIsRid) fail('EINVAL', 'PASID 0 is the RID');
  const bound = VfioDevice.iommufdDevice.read(memory, device);
  if (find(kernel, device, pasid) !== NULL) return changePt(kernel, bound, ptId, Change.REPLACE, pasid);
  if (pasid > lastPasid) fail('ENOSPC', 'there is no such PASID');
  const added = allocated(VfioPasid.tryCreate(memory));
  try {
    const id = changePt(kernel, bound, ptId, Change.ATTACH, pasid);
    link(kernel, device, added, pasid);
    return id;
  } catch (error) {
    VfioPasid.free(memory, added);
    throw error;
  }
}

/** Nothing when the PASID is not attached. */
export function detachPasidUnderLock(kernel: Kernel, device: Ref<'VfioDevice'>, pasid: number): void {
  const memory = kernel.memory;
  const own = find(kernel, device, pasid);
  if (own === NULL) return;
  detachSlot(kernel, VfioDevice.iommufdDevice.read(memory, device), pasid);
  unlink(kernel, device, own);
}

export const firstPasid = (kernel: Kernel, device: Ref<'VfioDevice'>): Ref<'VfioPasid'> => VfioDevice.pasids.read(kernel.memory, device);

function find(kernel: Kernel, device: Ref<'VfioDevice'>, pasid: number): Ref<'VfioPasid'> {
  const memory = kernel.memory;
  let at = firstPasid(kernel, device);
  while (at !== NULL && VfioPasid.pasid.peek(memory, at) >>> 0 !== pasid) at = VfioPasid.next.read(memory, at);
  return at;
}

function link(kernel: Kernel, device: Ref<'VfioDevice'>, added: Ref<'VfioPasid'>, pasid: number): void {
  const memory = kernel.memory;
  VfioPasid.devSet.poke(memory, added, VfioDevice.devSet.peek(memory, device));
  VfioPasid.pasid.poke(memory, added, pasid);
  VfioPasid.next.write(memory, added, firstPasid(kernel, device));
  VfioDevice.pasids.write(memory, device, added);
}

function unlink(kernel: Kernel, device: Ref<'VfioDevice'>, gone: Ref<'VfioPasid'>): void {
  const memory = kernel.memory;
  const next = VfioPasid.next.read(memory, gone);
  let at = firstPasid(kernel, device);
  if (at === gone) VfioDevice.pasids.write(memory, device, next);
  else {
    while (VfioPasid.next.read(memory, at) !== gone) at = VfioPasid.next.read(memory, at);
    VfioPasid.next.write(memory, at, next);
  }
  VfioPasid.free(memory, gone);
}
