/**
 * The vIOMMU object (drivers/iommu/iommufd/viommu.c): what a VM sees as one IOMMU, on one nest parent. The driver has a record of its
 * own, which the kernel only hands back to it.
 */
import { mutex, rwsem } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import type { Registers } from '../drivers/driver.ts';
import { isWritable, refusesAnswer, refusesCopy, userData, type DataBuffer, type TailField } from './argument.ts';
import { allocated, fail } from './errno.ts';
import { headerOf, Hwpt, HwptFlag } from './hwpt.ts';
import { PciDevice } from './iommu-group.ts';
import { getDevice, IommufdDevice } from './iommufd-device.ts';
import { hideRegisters, showRegisters } from './iommufd-mmap.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, addUser, dropUser, getObject, IommufdObject, Kind, publishObject, reserveObject } from './objects.ts';

export const Viommu = object('Viommu', {
  header: ref('IommufdObject'),
  /** The nest parent. */
  hwpt: ref('Hwpt'),
  driverData: u32,
  vdevicesLock: mutex,
  vdevices: ref('Vdevice').under('vdevicesLock'),
  eventQueuesRwsem: rwsem,
  eventQueues: ref('EventQueue').under('eventQueuesRwsem'),
  hwQueuesLock: mutex,
  hwQueues: ref('HwQueue').under('hwQueuesLock'),
});

export interface ViommuAlloc extends DataBuffer {
  flags: number;
  type: number;
  devId: number;
  hwptId: number;
  outViommuId: number;
  reserved?: number;
}

export const viommuAllocTail: readonly TailField[] = [
  { name: 'dataLength', offset: 24, bytes: 4 }, { name: 'reserved', offset: 28, bytes: 4 }, { name: 'data', offset: 32, bytes: 8 },
];

/** IOMMU_VIOMMU_ALLOC (`iommufd_viommu_alloc_ioctl`): EOPNOTSUPP, ENOENT for the device or the HWPT, EINVAL for one that is no nest parent. */
export function viommuAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: ViommuAlloc): void {
  const { driver, memory } = kernel;
  if (arg.flags !== 0 || arg.type === 0) fail('EOPNOTSUPP', 'unknown flags, or no type');
  const device = getDevice(kernel, iommufd, arg.devId);
  const pciFunction = PciDevice.function.peek(memory, IommufdDevice.device.peek(memory, device));
  if (driver.hasViommu?.(pciFunction, arg.type) !== true) fail('EOPNOTSUPP', `the driver has no vIOMMU of type ${arg.type}`);
  const parent = IommufdObject.body.peek(memory, kernel.hold(getObject(kernel, iommufd, arg.hwptId, Kind.HWPT))) as Ref<'Hwpt'>;
  if ((Hwpt.flags.peek(memory, parent) & HwptFlag.NEST_PARENT) === 0) fail('EINVAL', 'the HWPT was not allocated as a nest parent');
  const viommu = createViommu(kernel, iommufd, parent);
  const answer = initialiseOrFree(kernel, viommu, pciFunction, arg);
  const header = Viommu.header.peek(memory, viommu);
  addUser(kernel, headerOf(kernel, parent));
  if (refusesAnswer(kernel, arg)) {
    destroyViommu(kernel, viommu);
    abortObject(kernel, header);
    fail('EFAULT', 'the argument cannot be written');
  }
  arg.data?.set(answer.subarray(0, arg.data.length));
  arg.outViommuId = publishObject(kernel, header);
}

/** Its id is reserved; it holds nothing. ENOMEM. */
function createViommu(kernel: Kernel, iommufd: Ref<'Iommufd'>, parent: Ref<'Hwpt'>): Ref<'Viommu'> {
  const memory = kernel.memory;
  const header = reserveObject(kernel, iommufd, Kind.VIOMMU);
  const viommu = Viommu.tryCreate(memory);
  if (viommu === NULL) abortObject(kernel, header);
  Viommu.header.poke(memory, allocated(viommu), header);
  Viommu.hwpt.poke(memory, viommu, parent);
  IommufdObject.body.poke(memory, header, viommu);
  return viommu;
}

/** The driver's part; returns its answer. What the driver says, and EFAULT for data that cannot be read. */
function initialiseOrFree(kernel: Kernel, viommu: Ref<'Viommu'>, pciFunction: Ref<'PciFunction'>, arg: ViommuAlloc): Uint8Array {
  const memory = kernel.memory;
  const { type, data, dataLength = 0 } = arg;
  try {
    const parent = Hwpt.domain.peek(memory, Viommu.hwpt.peek(memory, viommu));
    const made = kernel.driver.viommuInit?.(pciFunction, parent, userData(type, arg), viommu);
    if (made === undefined) fail('EOPNOTSUPP', 'the driver makes no vIOMMUs');
    Viommu.driverData.poke(memory, viommu, made.viommu);
    if (data !== undefined && (refusesCopy(kernel) || !isWritable(arg, dataLength))) {
      kernel.driver.viommuDestroy?.(made.viommu);
      fail('EFAULT', 'the data cannot be written');
    }
    if (made.registers !== undefined) showOrDestroy(kernel, viommu, made.answer, made.registers);
    return made.answer;
  } catch (error) {
    const header = Viommu.header.peek(memory, viommu);
    Viommu.free(memory, viommu);
    abortObject(kernel, header);
    throw error;
  }
}

/** Lets user space map the vIOMMU's registers, and tells it where. ENOMEM; the driver's part is gone then. */
function showOrDestroy(kernel: Kernel, viommu: Ref<'Viommu'>, answer: Uint8Array, { firstFrame, pages, offsetAt }: Registers): void {
  try {
    const offset = showRegisters(kernel, Viommu.header.peek(kernel.memory, viommu), firstFrame, pages);
    new DataView(answer.buffer).setBigUint64(offsetAt, offset, true);
  } catch (error) {
    kernel.driver.viommuDestroy?.(Viommu.driverData.peek(kernel.memory, viommu));
    throw error;
  }
}

/** The vIOMMU with this id, held for the rest of the call. ENOENT. */
export function getViommu(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'Viommu'> {
  return IommufdObject.body.peek(kernel.memory, kernel.hold(getObject(kernel, iommufd, id, Kind.VIOMMU))) as Ref<'Viommu'>;
}

/** Whether a function is behind the IOMMU of which the vIOMMU is a part. */
export const covers = (kernel: Kernel, viommu: Ref<'Viommu'>, pciFunction: Ref<'PciFunction'>): boolean =>
  kernel.driver.viommuCovers?.(Viommu.driverData.peek(kernel.memory, viommu), pciFunction) ?? true;

/** The destructor (`iommufd_viommu_destroy`): nothing is in it any more. */
export function destroyViommu(kernel: Kernel, viommu: Ref<'Viommu'>): void {
  const memory = kernel.memory;
  hideRegisters(kernel, Viommu.header.peek(memory, viommu));
  kernel.driver.viommuDestroy?.(Viommu.driverData.peek(memory, viommu));
  dropUser(kernel, headerOf(kernel, Viommu.hwpt.peek(memory, viommu)));
  Viommu.free(memory, viommu);
}
