/**
 * IOMMU_HWPT_ALLOC (`iommufd_hwpt_alloc`): an HWPT that its user made and destroys, in the kernel's order of checks.
 */
import type { Ref } from '#hostmem/object';
import { IommuDomain } from '../drivers/domain.ts';
import type { TailField } from './argument.ts';
import { Errno, fail } from './errno.ts';
import { abortHwpt, allocateHwpt, headerOf, Hwpt, HwptFlag, hwptId, joinIoas, leaveIoas } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { getDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';
import { addUser, getObject, IommufdObject, Kind, publishObject, type ObjectRef } from './objects.ts';

export interface HwptAlloc {
  flags: number;
  devId: number;
  ptId: number;
  reserved?: number;
  /** The driver's data: 0 is none. */
  dataType?: number;
  dataLength?: number;
  faultId?: number;
  outHwptId: number;
}

export const hwptAllocTail: readonly TailField[] = [
  { name: 'dataType', offset: 24, bytes: 4 }, { name: 'dataLength', offset: 28, bytes: 4 }, { name: 'data', offset: 32, bytes: 8 },
  { name: 'faultId', offset: 40, bytes: 4 },
];

/** EOPNOTSUPP, EINVAL, ENOENT, and what filling the domain may end in: EADDRINUSE, EFAULT, ENOMEM. */
export function hwptAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: HwptAlloc): void {
  const { dataType = 0, dataLength = 0, reserved = 0 } = arg;
  if (reserved !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  if ((dataType === 0) !== (dataLength === 0)) fail('EINVAL', 'data of no type, or a type without data');
  const device = getDevice(kernel, iommufd, arg.devId);
  const target = getTarget(kernel, iommufd, arg.ptId);
  const kind = IommufdObject.kind.peek(kernel.memory, target);
  const body = IommufdObject.body.peek(kernel.memory, target);
  if (kind === Kind.IOAS) arg.outHwptId = allocatePaging(kernel, iommufd, device, body as Ref<'Ioas'>, arg);
  else if (kind === Kind.HWPT) refuseNested(arg);
  else fail('EINVAL', `object ${arg.ptId} is neither an IOAS nor an HWPT`);
}

/** `pt_id`: what does not exist is EINVAL here, not ENOENT. */
function getTarget(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): ObjectRef {
  try {
    return kernel.hold(getObject(kernel, iommufd, id, Kind.ANY));
  } catch (error) {
    if (error instanceof Errno) fail('EINVAL', `there is no object with id ${id}`);
    throw error;
  }
}

/** Joined to the IOAS at once, attached to nothing. Returns the id. */
function allocatePaging(kernel: Kernel, iommufd: Ref<'Iommufd'>, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>, arg: HwptAlloc): number {
  Ioas.mutex.acquire(kernel.memory, ioas);
  try {
    const hwpt = allocateHwpt(kernel, device, ioas, arg.flags, (arg.dataLength ?? 0) !== 0);
    joinOrAbort(kernel, hwpt);
    if ((arg.flags & HwptFlag.FAULT_ID_VALID) !== 0) deliverTo(kernel, iommufd, hwpt, arg.faultId ?? 0);
    publishObject(kernel, headerOf(kernel, hwpt));
    return hwptId(kernel, hwpt);
  } finally {
    Ioas.mutex.release(kernel.memory, ioas);
  }
}

function joinOrAbort(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  try {
    joinIoas(kernel, hwpt);
  } catch (error) {
    abortHwpt(kernel, hwpt);
    throw error;
  }
}

/** Page requests of the HWPT's devices go to the queue from now on. ENOENT; the HWPT is gone then. */
function deliverTo(kernel: Kernel, iommufd: Ref<'Iommufd'>, hwpt: Ref<'Hwpt'>, faultId: number): void {
  const memory = kernel.memory;
  try {
    const header = kernel.hold(getObject(kernel, iommufd, faultId, Kind.FAULT_QUEUE));
    addUser(kernel, header);
    Hwpt.faultQueue.poke(memory, hwpt, IommufdObject.body.peek(memory, header) as Ref<'FaultQueue'>);
    IommuDomain.pageRequests.poke(memory, Hwpt.domain.peek(memory, hwpt), 1);
  } catch (error) {
    leaveIoas(kernel, hwpt);
    abortHwpt(kernel, hwpt);
    throw error;
  }
}

/** A nested HWPT needs data, and a parent made for it, which no driver here makes (`iommufd_hwpt_nested_alloc`). */
function refuseNested({ flags, dataLength = 0 }: HwptAlloc): never {
  if ((flags & ~(HwptFlag.FAULT_ID_VALID | HwptFlag.PASID)) !== 0 || dataLength === 0) fail('EOPNOTSUPP', 'unknown flags, or no data for a nested HWPT');
  return fail('EINVAL', 'the parent was not allocated as a nest parent');
}
