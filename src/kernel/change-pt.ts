/**
 * What VFIO asks for a device: attach or replace by the id of an HWPT, or of an IOAS, whose automatic HWPT is found or made
 * (`iommufd_device_change_pt`); and detach. Which slot it concerns decides who does it: `iommufd-attach.ts`, `iommufd-pasid.ts`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { Errno, fail } from './errno.ts';
import { abortHwpt, allocateHwpt, headerOf, Hwpt, hwptId, joinIoas, leaveIoas, putHwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { IommufdDevice } from './iommufd-device.ts';
import { attachPasid, detachPasid, replacePasid } from './iommufd-pasid.ts';
import type { Kernel } from './kernel.ts';
import { addUser, dropUser, getObject, IommufdObject, Kind, lockObject, publishObject, putObject } from './objects.ts';

/** What `changePt` does with the HWPT it found. */
export const Change = { ATTACH: 0, REPLACE: 1 } as const;

/** The slot of requests without a PASID. */
export const RID_SLOT = 0;

/** What is asked of a device: the kind of change, and the slot, which is a PASID or `RID_SLOT`. */
export interface SlotChange {
  readonly change: number;
  readonly pasid: number;
}

/** What came of it: the HWPT whose user the caller has to drop, or null, and the id of the one in force. */
export interface Changed {
  readonly old: Ref<'Hwpt'>;
  readonly id: number;
}

/**
 * Attaches or replaces (`iommufd_device_change_pt`): `ptId` names an HWPT, or an IOAS, for which an automatic HWPT is
 * found or made. Returns the id of the HWPT in force. ENOENT, EINVAL, EADDRINUSE, EBUSY, ENOMEM.
 */
export function changePt(kernel: Kernel, device: Ref<'IommufdDevice'>, ptId: number, change: number, pasid: number = RID_SLOT): number {
  const memory = kernel.memory;
  const asked: SlotChange = { change, pasid };
  const target = getObject(kernel, IommufdDevice.iommufd.peek(memory, device), ptId, Kind.ANY);
  let old: Ref<'Hwpt'> = NULL;
  let id = ptId;
  try {
    const kind = IommufdObject.kind.peek(memory, target);
    if (kind === Kind.HWPT || kind === Kind.NESTED_HWPT) old = changeTo(kernel, device, IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>, asked);
    else if (kind === Kind.IOAS) {
      const result = changeToIoas(kernel, device, IommufdObject.body.peek(memory, target) as Ref<'Ioas'>, asked);
      old = result.old;
      id = result.id;
    } else fail('EINVAL', `object ${ptId} is neither an IOAS nor an HWPT`);
  } finally {
    putObject(kernel, target);
  }
  // An attachment holds the DEVICE object itself: destroying it while attached would be its driver's bug (A9).
  if (change === Change.ATTACH) addUser(kernel, IommufdDevice.header.peek(memory, device));
  if (old !== NULL) putHwpt(kernel, old);
  return id;
}

/** Returns the HWPT whose user the caller has to drop, or null. */
function changeTo(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, { change, pasid }: SlotChange): Ref<'Hwpt'> {
  const { attach: ofRid } = kernel.operations;
  if (change === Change.REPLACE) return pasid === RID_SLOT ? ofRid.replace(kernel, device, hwpt) : replacePasid(kernel, device, pasid, hwpt);
  if (pasid === RID_SLOT) ofRid.attach(kernel, device, hwpt);
  else attachPasid(kernel, device, pasid, hwpt);
  return NULL;
}

/** Takes the device out of a slot (`iommufd_device_detach`). */
export function detachSlot(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): void {
  putHwpt(kernel, leaveSlot(kernel, device, pasid));
  dropUser(kernel, IommufdDevice.header.peek(kernel.memory, device));
}

const leaveSlot = (kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): Ref<'Hwpt'> =>
  pasid === RID_SLOT ? kernel.operations.attach.detach(kernel, device) : detachPasid(kernel, device, pasid);

/** Tries every automatic HWPT of the IOAS, then makes one (`iommufd_device_auto_get_domain`). */
function changeToIoas(kernel: Kernel, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>, asked: SlotChange): Changed {
  const memory = kernel.memory;
  Ioas.mutex.acquire(memory, ioas);
  try {
    for (let hwpt = Ioas.hwpts.read(memory, ioas); hwpt !== NULL; hwpt = Hwpt.next.read(memory, hwpt)) {
      if (Hwpt.automatic.load(memory, hwpt) === 0) continue;
      const changed = kernel.operations.attach.tryAutomatic(kernel, device, hwpt, asked);
      if (changed !== null) return changed;
    }
    return makeAutomatic(kernel, device, ioas, asked);
  } finally {
    Ioas.mutex.release(memory, ioas);
  }
}

/** One automatic HWPT, held meanwhile; null when it is being destroyed or does not suit the device. */
export function tryAutomatic(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Changed | null {
  if (!lockObject(kernel, headerOf(kernel, hwpt))) return null;
  try {
    return changeIfSuited(kernel, device, hwpt, asked);
  } finally {
    putObject(kernel, headerOf(kernel, hwpt));
  }
}

/** Null when the HWPT does not suit the device; the next may. */
export function changeIfSuited(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Changed | null {
  try {
    return { old: changeTo(kernel, device, hwpt, asked), id: hwptId(kernel, hwpt) };
  } catch (error) {
    if (error instanceof Errno && error.name === 'EINVAL') return null;
    throw error;
  }
}

/** An attach switches the group before the new domain is filled ("immediate attach"), a replace after it. */
function makeAutomatic(kernel: Kernel, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>, asked: SlotChange): Changed {
  const hwpt = allocateHwpt(kernel, device, ioas);
  let old: Ref<'Hwpt'> = NULL;
  if (asked.change === Change.ATTACH) attachThenFill(kernel, device, hwpt, asked);
  else old = fillThenReplace(kernel, device, hwpt, asked);
  Hwpt.automatic.store(kernel.memory, hwpt, 1);
  return { old, id: publishObject(kernel, headerOf(kernel, hwpt)) };
}

function attachThenFill(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): void {
  let attached = false;
  try {
    changeTo(kernel, device, hwpt, asked);
    attached = true;
    joinIoas(kernel, hwpt);
  } catch (error) {
    if (attached) {
      leaveSlot(kernel, device, asked.pasid);
      dropUser(kernel, headerOf(kernel, hwpt));
    }
    abortHwpt(kernel, hwpt);
    throw error;
  }
}

function fillThenReplace(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Ref<'Hwpt'> {
  try {
    joinIoas(kernel, hwpt);
  } catch (error) {
    abortHwpt(kernel, hwpt);
    throw error;
  }
  try {
    return changeTo(kernel, device, hwpt, asked);
  } catch (error) {
    leaveIoas(kernel, hwpt);
    abortHwpt(kernel, hwpt);
    throw error;
  }
}
