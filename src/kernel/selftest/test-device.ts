/**
 * A mock device as an object of a context (`struct selftest_obj`): made, bound and attached by IOMMU_TEST_OP_MOCK_DOMAIN, detached and
 * unbound when its id is destroyed. Each has a group of its own whose default domain blocks.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref } from '#hostmem/struct';
import { createMockFunction, freeMockFunction, knownDeviceFlags, MockDevice, mockDeviceOf } from '../../drivers/mock/device.ts';
import { allocated, fail } from '../errno.ts';
import { IommuGroup, PciDevice } from '../iommu-group.ts';
import { Change, changePt, detachSlot, RID_SLOT } from '../change-pt.ts';
import { bindDevice, IommufdDevice, unbindDevice } from '../iommufd-device.ts';
import { hwptOfRid } from '../iommufd-attach.ts';
import { hasPasid, hwptOfPasid } from '../iommufd-pasid.ts';
import type { Kernel } from '../kernel.ts';
import { abortObject, getObject, IommufdObject, Kind, publishObject, reserveObject } from '../objects.ts';

export const TestDevice = object('TestDevice', { header: ref('IommufdObject'), device: ref('IommufdDevice') });

export interface MockDomain { id: number; deviceFlags?: number; outStdevId: number; outHwptId: number; outIdevId: number }
export interface MockDomainReplace { id: number; ptId: number }
export interface PasidAttach { id: number; pasid: number; ptId: number }
export interface PasidDetach { id: number; pasid: number }
export interface PasidCheckHwpt { id: number; pasid: number; hwptId: number }

/** MOCK_DOMAIN and MOCK_DOMAIN_FLAGS. EINVAL for unknown flags, and as an attach. */
export function mockDomain(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: MockDomain): void {
  const memory = kernel.memory;
  const header = reserveObject(kernel, iommufd, Kind.SELFTEST);
  const made: Ref<'TestDevice'> = TestDevice.tryCreate(memory);
  if (made === NULL) abortObject(kernel, header);
  allocated(made);
  try {
    const { device, hwptId } = bindAndAttach(kernel, iommufd, arg);
    TestDevice.header.poke(memory, made, header);
    TestDevice.device.poke(memory, made, device);
    IommufdObject.body.poke(memory, header, made);
    arg.outHwptId = hwptId;
    arg.outStdevId = IommufdObject.id.peek(memory, header);
    arg.outIdevId = IommufdObject.id.peek(memory, IommufdDevice.header.peek(memory, device));
  } catch (error) {
    TestDevice.free(memory, made);
    abortObject(kernel, header);
    throw error;
  }
  publishObject(kernel, header);
}

function bindAndAttach(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, deviceFlags = 0 }: MockDomain): { device: Ref<'IommufdDevice'>; hwptId: number } {
  if ((deviceFlags & ~knownDeviceFlags) !== 0) fail('EINVAL', `unknown flags 0x${deviceFlags.toString(16)}`);
  const pci = createMockDevice(kernel, deviceFlags);
  try {
    const device = bindDevice(kernel, iommufd, pci, false);
    try {
      return { device, hwptId: changePt(kernel, device, id, Change.ATTACH) };
    } catch (error) {
      unbindDevice(kernel, device, false);
      throw error;
    }
  } catch (error) {
    freeMockDevice(kernel, pci);
    throw error;
  }
}

/** A device of the mock bus in a group of its own, and its driver's record. ENOMEM. */
function createMockDevice(kernel: Kernel, flags: number): Ref<'PciDevice'> {
  const memory = kernel.memory;
  const pciFunction = createMockFunction(memory, flags);
  const group = IommuGroup.tryCreate(memory);
  const device = group === NULL ? NULL : PciDevice.tryCreate(memory);
  if (device === NULL) {
    if (group !== NULL) IommuGroup.free(memory, group);
    freeMockFunction(memory, pciFunction);
    fail('ENOMEM', 'kernel memory is used up');
  }
  kernel.driver.probe(pciFunction);
  const blocked = MockDevice.domain.peek(memory, mockDeviceOf(memory, pciFunction));
  PciDevice.function.poke(memory, device, pciFunction);
  PciDevice.group.poke(memory, device, group);
  IommuGroup.members.poke(memory, group, device);
  IommuGroup.defaultDomain.poke(memory, group, blocked);
  IommuGroup.blockingDomain.poke(memory, group, blocked);
  IommuGroup.domain.poke(memory, group, blocked);
  return device;
}

function freeMockDevice(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const pciFunction = PciDevice.function.peek(memory, device);
  kernel.driver.release(pciFunction);
  freeMockFunction(memory, pciFunction);
  IommuGroup.free(memory, PciDevice.group.peek(memory, device));
  PciDevice.free(memory, device);
}

/** The destructor (`iommufd_selftest_destroy`). */
export function destroyTestDevice(kernel: Kernel, made: Ref<'TestDevice'>): void {
  const memory = kernel.memory;
  const device = TestDevice.device.peek(memory, made);
  const pci = IommufdDevice.device.peek(memory, device);
  detachIfAttached(kernel, device, RID_SLOT);
  unbindDevice(kernel, device, false);
  freeMockDevice(kernel, pci);
  TestDevice.free(memory, made);
}

/** The DEVICE behind the id of a mock device. ENOENT. */
function getTestDevice(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'IommufdDevice'> {
  const header = kernel.hold(getObject(kernel, iommufd, id, Kind.SELFTEST));
  return TestDevice.device.peek(kernel.memory, IommufdObject.body.peek(kernel.memory, header) as Ref<'TestDevice'>);
}

/** MOCK_DOMAIN_REPLACE; `ptId` becomes the HWPT in force. */
export function mockDomainReplace(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: MockDomainReplace): void {
  arg.ptId = changePt(kernel, getTestDevice(kernel, iommufd, arg.id), arg.ptId, Change.REPLACE);
}

export function pasidAttach(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: PasidAttach): void {
  arg.ptId = changePt(kernel, getTestDevice(kernel, iommufd, arg.id), arg.ptId, Change.ATTACH, arg.pasid);
}

export function pasidReplace(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: PasidAttach): void {
  arg.ptId = changePt(kernel, getTestDevice(kernel, iommufd, arg.id), arg.ptId, Change.REPLACE, arg.pasid);
}

/** PASID 0 is the RID. */
export function pasidDetach(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, pasid }: PasidDetach): void {
  detachIfAttached(kernel, getTestDevice(kernel, iommufd, id), pasid);
}

/** What is not attached is detached without an error. */
function detachIfAttached(kernel: Kernel, device: Ref<'IommufdDevice'>, slot: number): void {
  const attached = slot === RID_SLOT ? hwptOfRid(kernel, device) !== NULL : hasPasid(kernel, device, slot);
  if (attached) detachSlot(kernel, device, slot);
}

/** Whether a PASID, of which 0 is the RID, goes through an HWPT, or with 0 through none. ENOENT, EINVAL. */
export function pasidCheckHwpt(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, pasid, hwptId }: PasidCheckHwpt): void {
  const memory = kernel.memory;
  const device = getTestDevice(kernel, iommufd, id);
  const attached = pasid === RID_SLOT ? hwptOfRid(kernel, device) : hwptOfPasid(kernel, device, pasid);
  if (hwptId === 0 && attached !== 0) fail('EINVAL', `PASID ${pasid} is attached`);
  if (hwptId === 0) return;
  const header = kernel.hold(getObject(kernel, iommufd, hwptId, Kind.ANY));
  if (IommufdObject.body.peek(memory, header) !== attached) {
    fail('EINVAL', `PASID ${pasid} does not go through HWPT ${hwptId}`);
  }
}
