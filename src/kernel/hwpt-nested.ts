/**
 * Nested HWPTs (`iommufd_hwpt_nested_alloc`, `iommufd_viommu_alloc_hwpt_nested`): the guest's tables on top of a nest parent,
 * which the HWPT names itself or through a vIOMMU. `Hwpt.ioas` is the parent's: what is reserved for a device is reserved there.
 */
import { NULL, type Ref } from '#hostmem/object';
import type { UserData } from '../drivers/driver.ts';
import { allocated, fail } from './errno.ts';
import { FaultQueue } from './fault-queue.ts';
import { headerOf, Hwpt, HwptFlag } from './hwpt.ts';
import { PciDevice } from './iommu-group.ts';
import { IommufdDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, addUser, dropUser, IommufdObject, Kind, reserveObject } from './objects.ts';
import { covers, Viommu } from './viommu.ts';

const nestedFlags = HwptFlag.FAULT_ID_VALID | HwptFlag.PASID;

/** On a nest parent. Its id is reserved. EOPNOTSUPP, EINVAL, ENOMEM. */
export function nestOnParent(kernel: Kernel, device: Ref<'IommufdDevice'>, parent: Ref<'Hwpt'>, flags: number, data: UserData): Ref<'Hwpt'> {
  const memory = kernel.memory;
  checkNested(flags, data);
  const isParent = (Hwpt.flags.peek(memory, parent) & HwptFlag.NEST_PARENT) !== 0 && Hwpt.automatic.load(memory, parent) === 0;
  if (!isParent) fail('EINVAL', 'the parent was not allocated as a nest parent');
  const { driver } = kernel;
  if (driver.allocNestedDomain === undefined) fail('EOPNOTSUPP', 'the driver nests nothing');
  const hwpt = reserveNested(kernel, device, parent, flags);
  try {
    const pciFunction = functionOf(kernel, device);
    Hwpt.domain.poke(memory, hwpt, driver.allocNestedDomain(pciFunction, Hwpt.domain.peek(memory, parent), driverFlags(flags), data));
  } catch (error) {
    releaseNested(kernel, hwpt);
    throw error;
  }
  addUser(kernel, headerOf(kernel, parent));
  return hwpt;
}

/** Through a vIOMMU. Its id is reserved. EINVAL for a device behind another IOMMU, EOPNOTSUPP, ENOMEM. */
export function nestOnViommu(kernel: Kernel, device: Ref<'IommufdDevice'>, viommu: Ref<'Viommu'>, flags: number, data: UserData): Ref<'Hwpt'> {
  const memory = kernel.memory;
  if (!covers(kernel, viommu, functionOf(kernel, device))) fail('EINVAL', 'the device is behind another IOMMU');
  checkNested(flags, data);
  const { driver } = kernel;
  if (driver.viommuAllocNested === undefined) fail('EOPNOTSUPP', 'the driver nests nothing through a vIOMMU');
  const hwpt = reserveNested(kernel, device, Viommu.hwpt.peek(memory, viommu), flags);
  try {
    Hwpt.domain.poke(memory, hwpt, driver.viommuAllocNested(Viommu.driverData.peek(memory, viommu), driverFlags(flags), data));
  } catch (error) {
    releaseNested(kernel, hwpt);
    throw error;
  }
  Hwpt.viommu.poke(memory, hwpt, viommu);
  addUser(kernel, Viommu.header.peek(memory, viommu));
  return hwpt;
}

function checkNested(flags: number, { bytes }: UserData): void {
  if ((flags & ~nestedFlags) !== 0 || bytes.length === 0) fail('EOPNOTSUPP', 'unknown flags, or no data for a nested HWPT');
}

const driverFlags = (flags: number): number => flags & ~HwptFlag.FAULT_ID_VALID;

const functionOf = (kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'PciFunction'> =>
  PciDevice.function.peek(kernel.memory, IommufdDevice.device.peek(kernel.memory, device));

/** An HWPT without a domain that holds nothing. ENOMEM. */
function reserveNested(kernel: Kernel, device: Ref<'IommufdDevice'>, parent: Ref<'Hwpt'>, flags: number): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const header = reserveObject(kernel, IommufdDevice.iommufd.peek(memory, device), Kind.NESTED_HWPT);
  const hwpt = Hwpt.tryCreate(memory);
  if (hwpt === NULL) abortObject(kernel, header);
  Hwpt.header.poke(memory, allocated(hwpt), header);
  Hwpt.flags.poke(memory, hwpt, flags);
  Hwpt.parent.poke(memory, hwpt, parent);
  Hwpt.ioas.poke(memory, hwpt, Hwpt.ioas.peek(memory, parent));
  IommufdObject.body.poke(memory, header, hwpt);
  return hwpt;
}

function releaseNested(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const header = headerOf(kernel, hwpt);
  Hwpt.free(kernel.memory, hwpt);
  abortObject(kernel, header);
}

/** Takes back one that was never published. */
export function abortNested(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const header = headerOf(kernel, hwpt);
  destroyNestedHwpt(kernel, hwpt);
  abortObject(kernel, header);
}

/** The destructor (`iommufd_hwpt_nested_destroy`). */
export function destroyNestedHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  kernel.driver.freeDomain(Hwpt.domain.peek(memory, hwpt));
  const viommu = Hwpt.viommu.peek(memory, hwpt);
  dropUser(kernel, viommu === NULL ? headerOf(kernel, Hwpt.parent.peek(memory, hwpt)) : Viommu.header.peek(memory, viommu));
  const queue = Hwpt.faultQueue.peek(memory, hwpt);
  if (queue !== NULL) dropUser(kernel, FaultQueue.header.peek(memory, queue));
  Hwpt.free(memory, hwpt);
}
