/** A process while the world is built: its first system calls. None is told as an event; what fails ends the building. */
import { fill } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import { selftestData } from './drivers/mock/nested.ts';
import { viommuType } from './drivers/mock/viommu.ts';
import { steBytes, steData, steOf } from './drivers/smmuv3/nested.ts';
import { firstStageData, vtdS1Bytes, vtdS1Data } from './drivers/vtd/nested.ts';
import { HwptFlag } from './kernel/hwpt.ts';
import { MapFlag } from './kernel/ioas.ts';
import { addVfioFile } from './kernel/kvm-vfio.ts';
import type { Kernel } from './kernel/kernel.ts';
import { mmap, userAddress } from './kernel/process.ts';
import { testIoctl } from './kernel/selftest/commands.ts';
import { CreateFlag } from './kernel/selftest/test-access.ts';
import { eventType } from './kernel/selftest/triggers.ts';
import { ioctl, open } from './kernel/syscalls.ts';
import { vfioFileOf, VfioFlag } from './kernel/vfio.ts';

/** A device that is bound: its descriptor, and the id of its DEVICE object. */
export interface Bound {
  readonly fd: number;
  readonly deviceId: number;
}

/** A device of the selftest: its own object, and the DEVICE object of its binding. */
interface BuiltMockDevice {
  readonly mockId: number;
  readonly deviceId: number;
}

export class BuiltProcess {
  readonly ref: Ref<'Process'>;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel, process: Ref<'Process'>) {
    this.#kernel = kernel;
    this.ref = process;
  }

  /** A descriptor of `/dev/iommu`. */
  iommufd(): number {
    this.#kernel.enter(this.ref);
    return open(this.#kernel, '/dev/iommu');
  }

  /** The id of a new IOAS. */
  ioas(iommufd: number): number {
    const arg = { flags: 0, outIoasId: 0 };
    this.#ioctl(iommufd, 'IOMMU_IOAS_ALLOC', arg);
    return arg.outIoasId;
  }

  /** Zeroed memory of the process, or memory whose every word is `tag`; returns its address. */
  memory(lengthBytes: number, tag: number = 0): bigint {
    const va = mmap(this.#kernel, this.ref, lengthBytes, true, null);
    for (let offset = 0; offset < lengthBytes; offset += 4096) {
      fill(this.#kernel.host.ram, userAddress(this.#kernel, this.ref, va + BigInt(offset)), 4096, tag);
    }
    return va;
  }

  /** An IOAS with a page of memory mapped at `iova`, every word of which is `tag`: who reads it tells where it was. Returns its id. */
  taggedIoas(iommufd: number, iova: number, tag: number): number {
    const ioasId = this.ioas(iommufd);
    this.map(iommufd, ioasId, iova, this.memory(4096, tag), 4096);
    return ioasId;
  }

  /** One for each tag. */
  taggedIoases<const Tags extends readonly number[]>(iommufd: number, iova: number, tags: Tags): { readonly [K in keyof Tags]: number } {
    return tags.map((tag) => this.taggedIoas(iommufd, iova, tag)) as { readonly [K in keyof Tags]: number };
  }

  /** IOMMU_IOAS_MAP at a fixed iova, readable and writeable. */
  map(iommufd: number, ioasId: number, iova: number, userVa: bigint, lengthBytes: number): void {
    const flags = MapFlag.FIXED_IOVA | MapFlag.READABLE | MapFlag.WRITEABLE;
    this.#ioctl(iommufd, 'IOMMU_IOAS_MAP', { flags, ioasId, userVa, length: BigInt(lengthBytes), iova: BigInt(iova) });
  }

  /** Lets automatic placement choose from `[first, last]` alone. */
  allow(iommufd: number, ioasId: number, first: number, last: number): void {
    this.#ioctl(iommufd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId, ranges: [[BigInt(first), BigInt(last)]] });
  }

  /** Opens `/dev/vfio/devices/vfio<n>` and binds it to the iommufd; returns its descriptor. */
  bind(vfio: number, iommufd: number): number {
    return this.bound(vfio, iommufd).fd;
  }

  /** As `bind`; with the id of the DEVICE object. */
  bound(vfio: number, iommufd: number): Bound {
    this.#kernel.enter(this.ref);
    const fd = open(this.#kernel, `/dev/vfio/devices/vfio${vfio}`);
    const arg = { argsz: 24, flags: 0, iommufd, outDevid: 0 };
    this.#ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', arg);
    return { fd, deviceId: arg.outDevid };
  }

  /** As `bound`, the members of a group. */
  boundAll<const Numbers extends readonly number[]>(vfio: Numbers, iommufd: number): { readonly [K in keyof Numbers]: Bound } {
    return vfio.map((number) => this.bound(number, iommufd)) as { readonly [K in keyof Numbers]: Bound };
  }

  /** As `bind`; and attaches it to an IOAS or HWPT. */
  assign(vfio: number, iommufd: number, ptId: number): number {
    const fd = this.bind(vfio, iommufd);
    this.attach(fd, ptId);
    return fd;
  }

  /** IOMMU_HWPT_ALLOC for a bound device on an IOAS; `flags` are `HwptFlag`. Returns the id. */
  hwpt(iommufd: number, deviceId: number, ioasId: number, flags: number = 0, faultId: number = 0): number {
    const arg = { flags, devId: deviceId, ptId: ioasId, faultId, outHwptId: 0 };
    this.#ioctl(iommufd, 'IOMMU_HWPT_ALLOC', arg);
    return arg.outHwptId;
  }

  /** An HWPT of VT-d for a guest's first stage, whose root is at `rootGpa`, on a nest parent; its page requests go to a queue, if one is given. */
  nestedHwpt(iommufd: number, deviceId: number, parentId: number, rootGpa: number, faultId: number = 0): number {
    const flags = faultId === 0 ? 0 : HwptFlag.FAULT_ID_VALID;
    const arg = { flags, devId: deviceId, ptId: parentId, dataType: vtdS1Data, dataLength: vtdS1Bytes, data: firstStageData(rootGpa), faultId, outHwptId: 0 };
    this.#ioctl(iommufd, 'IOMMU_HWPT_ALLOC', arg);
    return arg.outHwptId;
  }

  /** A queue of page requests: its id and descriptor. */
  faultQueue(iommufd: number): { readonly faultId: number; readonly faultFd: number } {
    const arg = { flags: 0, outFaultId: 0, outFaultFd: 0 };
    this.#ioctl(iommufd, 'IOMMU_FAULT_QUEUE_ALLOC', arg);
    return { faultId: arg.outFaultId, faultFd: arg.outFaultFd };
  }

  /** An HWPT that delivers page requests to a queue of its own. Returns the id. */
  faultHwpt(iommufd: number, deviceId: number, ioasId: number): number {
    return this.faultHwptAndQueue(iommufd, deviceId, ioasId).hwpt;
  }

  /** As `faultHwpt`, with the descriptor of the queue. */
  faultHwptAndQueue(iommufd: number, deviceId: number, ioasId: number, flags: number = 0): { readonly hwpt: number; readonly faultFd: number } {
    const { faultId, faultFd } = this.faultQueue(iommufd);
    return { hwpt: this.hwpt(iommufd, deviceId, ioasId, HwptFlag.FAULT_ID_VALID | flags, faultId), faultFd };
  }

  /** Switches dirty tracking of an HWPT on. */
  trackDirty(iommufd: number, hwptId: number): void {
    this.#ioctl(iommufd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags: 1, hwptId });
  }

  /** A mock device of the selftest, attached to an IOAS or HWPT. */
  mockDevice(iommufd: number, ptId: number): BuiltMockDevice {
    const arg = { id: ptId, outStdevId: 0, outHwptId: 0, outIdevId: 0 };
    this.#kernel.enter(this.ref);
    testIoctl(this.#kernel, iommufd, 'IOMMU_TEST_MOCK_DOMAIN', arg);
    return { mockId: arg.outStdevId, deviceId: arg.outIdevId };
  }

  /** A vIOMMU on a nest parent, of the mock IOMMU unless another type is named. Returns the id. */
  viommu(iommufd: number, deviceId: number, parentId: number, type: number = viommuType): number {
    const arg = { flags: 0, type, devId: deviceId, hwptId: parentId, outViommuId: 0 };
    this.#ioctl(iommufd, 'IOMMU_VIOMMU_ALLOC', arg);
    return arg.outViommuId;
  }

  /** A device as its guest numbers it. */
  vdevice(iommufd: number, viommuId: number, deviceId: number, virtId: number): void {
    this.#ioctl(iommufd, 'IOMMU_VDEVICE_ALLOC', { viommuId, devId: deviceId, virtId: BigInt(virtId), outVdeviceId: 0 });
  }

  /** An HWPT of SMMUv3 for a guest's stage 1, whose context descriptor is at `descriptorGpa`, through a vIOMMU. Returns the id. */
  smmuNestedHwpt(iommufd: number, deviceId: number, viommuId: number, descriptorGpa: number): number {
    const arg = { flags: 0, devId: deviceId, ptId: viommuId, dataType: steData, dataLength: steBytes, data: steOf(descriptorGpa), outHwptId: 0 };
    this.#ioctl(iommufd, 'IOMMU_HWPT_ALLOC', arg);
    return arg.outHwptId;
  }

  /** What a guest's device goes through on the mock IOMMU: its number within the vIOMMU, and a nested HWPT, to which it is moved. */
  mockGuestDevice(iommufd: number, device: BuiltMockDevice, viommuId: number, virtId: number): void {
    this.vdevice(iommufd, viommuId, device.deviceId, virtId);
    const nested = { flags: 0, devId: device.deviceId, ptId: viommuId, dataType: selftestData, dataLength: 4, data: new Uint8Array(4), outHwptId: 0 };
    this.#ioctl(iommufd, 'IOMMU_HWPT_ALLOC', nested);
    this.mockReplace(iommufd, device, nested.outHwptId);
  }

  /** The descriptor of a vIOMMU's queue of so many events, of the selftest's type unless another is named. */
  eventQueue(iommufd: number, viommuId: number, depth: number, type: number = eventType): number {
    const arg = { flags: 0, viommuId, type, depth, outEventQueueId: 0, outEventQueueFd: 0 };
    this.#ioctl(iommufd, 'IOMMU_VEVENTQ_ALLOC', arg);
    return arg.outEventQueueFd;
  }

  /** Moves a mock device to another IOAS or HWPT. */
  mockReplace(iommufd: number, { mockId }: BuiltMockDevice, ptId: number): void {
    this.#kernel.enter(this.ref);
    testIoctl(this.#kernel, iommufd, 'IOMMU_TEST_MOCK_DOMAIN_REPLACE', { id: mockId, ptId });
  }

  /** The descriptor of a new access of an IOAS, which pins pages (the selftest's). */
  access(iommufd: number, ioasId: number): number {
    const arg = { id: ioasId, flags: CreateFlag.NEEDS_PIN_PAGES, outAccessFd: 0 };
    this.#kernel.enter(this.ref);
    testIoctl(this.#kernel, iommufd, 'IOMMU_TEST_CREATE_ACCESS', arg);
    return arg.outAccessFd;
  }

  attach(vfioFd: number, ptId: number): void {
    this.#ioctl(vfioFd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId });
  }

  /** Lets requests with a PASID go through an HWPT made for PASIDs. */
  attachPasid(vfioFd: number, pasid: number, ptId: number): void {
    this.#ioctl(vfioFd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: VfioFlag.PASID, ptId, pasid });
  }

  /** A device is for a VM of KVM. */
  handToVm(kvm: Ref<'Kvm'>, vfioFd: number): void {
    this.#kernel.enter(this.ref);
    addVfioFile(this.#kernel, kvm, vfioFileOf(this.#kernel, vfioFd));
  }

  #ioctl(...[fd, command, arg]: Parameters<typeof ioctl> extends [Kernel, ...infer Rest] ? Rest : never): void {
    this.#kernel.enter(this.ref);
    ioctl(this.#kernel, fd, command, arg);
  }
}
