/**
 * IOMMU_HWPT_ALLOC (`iommufd_hwpt_alloc`): an HWPT that its user made and destroys, in the kernel's order of checks.
 */
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '../drivers/domain.ts';
import type { UserData } from '../drivers/driver.ts';
import { respond, userData, type DataBuffer, type TailField } from './argument.ts';
import { Errno, fail } from './errno.ts';
import { FaultQueue } from './fault-queue.ts';
import { abortHwpt, allocateHwpt, headerOf, Hwpt, HwptFlag, joinIoas, leaveIoas } from './hwpt.ts';
import { abortNested, nestOnParent, nestOnViommu } from './hwpt-nested.ts';
import { Ioas } from './ioas.ts';
import { getDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';
import { addUser, dropUser, getObject, IommufdObject, Kind, publishObject, type ObjectRef } from './objects.ts';

export interface HwptAlloc extends DataBuffer {
  flags: number;
  devId: number;
  ptId: number;
  reserved?: number;
  /** The driver's data: 0 is none. */
  dataType?: number;
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
  else if (kind === Kind.HWPT) arg.outHwptId = publishNested(kernel, iommufd, nestOnParent(kernel, device, body as Ref<'Hwpt'>, arg.flags, dataOf(arg)), arg);
  else if (kind === Kind.VIOMMU) arg.outHwptId = publishNested(kernel, iommufd, nestOnViommu(kernel, device, body as Ref<'Viommu'>, arg.flags, dataOf(arg)), arg);
  else fail('EINVAL', `object ${arg.ptId} is neither an IOAS nor an HWPT nor a vIOMMU`);
}

/** What the driver gets. */
const dataOf = (arg: HwptAlloc): UserData => userData(arg.dataType ?? 0, arg);

/** Returns the id. ENOENT for the fault queue, EFAULT; the HWPT is gone then. */
function publishNested(kernel: Kernel, iommufd: Ref<'Iommufd'>, hwpt: Ref<'Hwpt'>, arg: HwptAlloc): number {
  try {
    if ((arg.flags & HwptFlag.FAULT_ID_VALID) !== 0) deliverTo(kernel, iommufd, hwpt, arg.faultId ?? 0);
    respond(kernel, arg);
  } catch (error) {
    abortNested(kernel, hwpt);
    throw error;
  }
  return publishObject(kernel, headerOf(kernel, hwpt));
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
    const hwpt = allocateHwpt(kernel, device, ioas, arg.flags, (arg.dataLength ?? 0) === 0 ? null : dataOf(arg));
    joinOrAbort(kernel, hwpt);
    answerOrAbort(kernel, iommufd, hwpt, arg);
    return publishObject(kernel, headerOf(kernel, hwpt));
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

/** ENOENT for the fault queue, EFAULT; the HWPT is gone then. */
function answerOrAbort(kernel: Kernel, iommufd: Ref<'Iommufd'>, hwpt: Ref<'Hwpt'>, arg: HwptAlloc): void {
  try {
    if ((arg.flags & HwptFlag.FAULT_ID_VALID) !== 0) deliverTo(kernel, iommufd, hwpt, arg.faultId ?? 0);
    respond(kernel, arg);
  } catch (error) {
    const queue = Hwpt.faultQueue.peek(kernel.memory, hwpt);
    if (queue !== NULL) dropUser(kernel, FaultQueue.header.peek(kernel.memory, queue));
    leaveIoas(kernel, hwpt);
    abortHwpt(kernel, hwpt);
    throw error;
  }
}

/** Page requests of the HWPT's devices go to the queue from now on. ENOENT. */
function deliverTo(kernel: Kernel, iommufd: Ref<'Iommufd'>, hwpt: Ref<'Hwpt'>, faultId: number): void {
  const memory = kernel.memory;
  const header = kernel.hold(getObject(kernel, iommufd, faultId, Kind.FAULT_QUEUE));
  addUser(kernel, header);
  Hwpt.faultQueue.poke(memory, hwpt, IommufdObject.body.peek(memory, header) as Ref<'FaultQueue'>);
  IommuDomain.pageRequests.poke(memory, Hwpt.domain.peek(memory, hwpt), 1);
}
