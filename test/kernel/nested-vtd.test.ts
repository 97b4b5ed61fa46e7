/** Nested HWPTs on VT-d, as a VMM sees them: what HWPT_ALLOC, attach and HWPT_INVALIDATE answer, and what the device reaches then. */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { layFirstStage, setLeaf } from '#src/actors/guest-first-stage';
import { firstStageGpa, nestedFreeGpa, windowIova } from '#src/actors/virtual-vtd';
import { Machine } from '#src/hardware/machine';
import { driverInForce } from '#src/drivers/in-force';
import { HwptFlag } from '#src/kernel/hwpt';
import { MapFlag } from '#src/kernel/ioas';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { ioctl, type Commands } from '#src/kernel/syscalls';
import { VfioFlag } from '#src/kernel/vfio';
import type { ErrnoName } from '#src/kernel/errno';
import { World, type WorldOptions } from '#src/world';
import { expect, test } from 'vitest';
import { s1Data } from '../hardware/guest-machine.ts';
import { errnoOf } from './vmm.ts';

const page = 4096;
const gpa = nestedFreeGpa;
const readOnly = MapFlag.FIXED_IOVA | MapFlag.READABLE;

/** A guest of 16 pages, whose VMM has all of it in an IOAS under a nest parent. */
function setUp(options: Partial<WorldOptions> = {}) {
  const w = new World({ iommu: 'vtd-nested', pasids: true, ...options });
  const vmm = w.guest('vm', 16);
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  const memory = BigInt(w.directory['vm.memory']!);
  for (let at = 0; at < 16 * page; at += page) vmm.map(iommufd, ioas, at, memory + BigInt(at), page);
  const { fd, deviceId } = vmm.bound(w.group('A').vfio[0]!, iommufd);
  const frames = w.directory['vm.frames'] as Ref<'Run'>;
  layFirstStage(w.host, frames);
  setLeaf(w.host, frames, windowIova, gpa);
  fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, gpa / page) as Frame), page, 0x77);
  const machine = new Machine(w.host);
  const kernel = new Kernel(w.host, linux72, driverInForce(w.host, machine));
  kernel.enter(vmm.ref);
  const engine = machine.dma(w.directory['A'] as Ref<'PciFunction'>);
  const call = <N extends keyof Commands>(on: number, name: N, arg: Commands[N]): ErrnoName | null => errnoOf(() => ioctl(kernel, on, name, arg));
  const hwpt = (ptId: number, flags = 0, data?: Uint8Array, dataType = data === undefined ? 0 : 1): number | ErrnoName => {
    const arg = { flags, devId: deviceId, ptId, dataType, dataLength: data?.length ?? 0, ...(data === undefined ? {} : { data }), outHwptId: 0 };
    return call(iommufd, 'IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  };
  return {
    w, frames, kernel, iommufd, ioas, fd, memory, call, hwpt,
    attach: (ptId: number, pasid?: number) => call(fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: pasid === undefined ? 0 : VfioFlag.PASID, ptId, ...(pasid === undefined ? {} : { pasid }) }),
    detach: () => call(fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 }),
    destroy: (id: number) => call(iommufd, 'IOMMU_DESTROY', { id }),
    sees: (iova: number, pasid?: number) => (engine.read(0, iova, 64, 0, pasid) === 0 ? engine.bufferWord(0) : 'fault'),
  };
}

const root = BigInt(firstStageGpa);
const good = s1Data(root);

test.each(['vtd-legacy', 'vtd-scalable', 'vtd-first-stage'] as const)('no nest parent is made for a device behind a unit that nests nothing: %s', (iommu) => {
  const { hwpt, ioas } = setUp({ iommu, pasids: false });
  expect(hwpt(ioas, HwptFlag.NEST_PARENT)).toBe('EOPNOTSUPP');
  const plain = hwpt(ioas) as number;
  expect(hwpt(plain, 0, good)).toBe('EINVAL');
});

test('a nested HWPT is refused in the kernel\'s order: flags and missing data, parent, type, length, reserved fields', () => {
  const { hwpt, ioas, destroy } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT) as number;
  const plain = hwpt(ioas) as number;
  expect(hwpt(parent, HwptFlag.NEST_PARENT | HwptFlag.PASID, good)).toBe('EOPNOTSUPP');
  expect(hwpt(parent, 0)).toBe('EOPNOTSUPP');
  expect(hwpt(plain, 0, good, 2)).toBe('EINVAL');
  expect(hwpt(parent, 0, good, 2)).toBe('EOPNOTSUPP');
  expect([s1Data(root, { bytes: 23 }), s1Data(root, { bytes: 8 }), new Uint8Array(25)].map((data) => hwpt(parent, 0, data))).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  expect(hwpt(parent, 0, s1Data(root, { flags: 8n }))).toBe('EOPNOTSUPP');
  expect(hwpt(parent, 0, s1Data(root, { reserved: 1 }))).toBe('EOPNOTSUPP');
  const nested = hwpt(parent, 0, good) as number;
  expect(hwpt(nested, 0, good)).toBe('EINVAL');
  expect([parent, nested, parent].map((id) => destroy(id))).toEqual(['EBUSY', null, null]);
});

test('what the unit cannot do for a first stage is found when the device is attached, and the device stays blocked', () => {
  const { hwpt, ioas, attach, sees } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT) as number;
  const refused = [{ width: 57 }, { width: 39 }, { width: 0 }, { flags: 2n }].map((what) => hwpt(parent, 0, s1Data(root, what)) as number);
  expect(refused.map((id) => attach(id))).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
  expect(attach(hwpt(parent, 0, s1Data(root, { flags: 1n | 4n })) as number)).toBeNull();
  expect(sees(windowIova)).toBe(0x77);
  expect(attach(refused[0]!)).toBe('EINVAL');
  // K7: a refused replace has blocked it already.
  expect(sees(windowIova)).toBe('fault');
});

test('the RID goes from the parent to the guest\'s tables and back, and each address is read by those in force', () => {
  const { hwpt, ioas, attach, detach, sees, destroy } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT) as number;
  const nested = hwpt(parent, 0, good) as number;
  expect(attach(parent)).toBeNull();
  expect([sees(gpa), sees(windowIova)]).toEqual([0x77, 'fault']);
  expect(attach(nested)).toBeNull();
  expect([sees(gpa), sees(windowIova)]).toEqual(['fault', 0x77]);
  expect(destroy(nested)).toBe('EBUSY');
  expect(attach(parent)).toBeNull();
  expect([sees(gpa), sees(windowIova)]).toEqual([0x77, 'fault']);
  expect([destroy(nested), detach(), destroy(parent)]).toEqual([null, null, null]);
});

test('a PASID has a first stage of its own, beside the RID\'s', () => {
  const { hwpt, ioas, attach, sees, w, frames, call, fd } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT | HwptFlag.PASID) as number;
  const nested = hwpt(parent, HwptFlag.PASID, good) as number;
  const plain = hwpt(parent, 0, good) as number;
  expect(attach(plain, 7)).toBe('EINVAL');
  expect(attach(parent)).toBeNull();
  expect(attach(nested, 7)).toBeNull();
  expect([sees(windowIova), sees(windowIova, 7), sees(gpa), sees(gpa, 7)]).toEqual(['fault', 0x77, 0x77, 'fault']);
  setLeaf(w.host, frames, windowIova, null);
  expect(call(fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: VfioFlag.PASID, pasid: 7 })).toBeNull();
  expect(sees(windowIova, 7)).toBe('fault');
});

/** Entries of `{ addr, npages, flags, reserved }`. */
function entries(...all: readonly (readonly [bigint, bigint, number?, number?])[]): Uint8Array {
  const data = new Uint8Array(all.length * 24);
  const view = new DataView(data.buffer);
  all.forEach(([address, pages, flags = 0, reserved = 0], index) => {
    view.setBigUint64(index * 24, address, true);
    view.setBigUint64(index * 24 + 8, pages, true);
    view.setUint32(index * 24 + 16, flags, true);
    view.setUint32(index * 24 + 20, reserved, true);
  });
  return data;
}

const U64 = 2n ** 64n - 1n;
const here = BigInt(windowIova);

test.each<[string, object, ErrnoName | null, number]>([
  ['of no entries, which asks whether the type is there', { data: new Uint8Array(0), entryCount: 0 }, null, 0],
  ['of another type', { dataType: 1, data: entries([here, 1n]), entryCount: 1 }, 'EINVAL', 0],
  ['of another type without entries', { dataType: 1, data: new Uint8Array(0), entryCount: 0 }, 'EINVAL', 0],
  ['of entries too short', { data: entries([here, 1n]), entryLength: 16, entryCount: 1 }, 'EINVAL', 0],
  ['with an unknown flag, behind a good one', { data: entries([here, 1n], [here, 1n, 2]), entryCount: 2 }, 'EOPNOTSUPP', 1],
  ['with a reserved field', { data: entries([here, 1n, 1, 1]), entryCount: 1 }, 'EOPNOTSUPP', 0],
  ['of a misaligned address', { data: entries([here + 8n, 1n]), entryCount: 1 }, 'EINVAL', 0],
  ['of everything from an address on', { data: entries([here, U64]), entryCount: 1 }, 'EINVAL', 0],
  ['of everything', { data: entries([0n, U64], [here, 1n, 1]), entryCount: 2 }, null, 2],
])('an invalidation %s', (_what, change, errno, handled) => {
  const { hwpt, ioas, attach, call, iommufd, sees, w, frames } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT) as number;
  const nested = hwpt(parent, 0, good) as number;
  expect(attach(nested)).toBeNull();
  expect(sees(windowIova)).toBe(0x77);
  setLeaf(w.host, frames, windowIova, null);
  expect(sees(windowIova)).toBe(0x77);
  const arg = { hwptId: nested, data: null, dataType: 0, entryLength: 24, entryCount: 0, ...change };
  expect(call(iommufd, 'IOMMU_HWPT_INVALIDATE', arg)).toBe(errno);
  expect(arg.entryCount).toBe(handled);
  expect(sees(windowIova)).toBe(handled > 0 ? 'fault' : 0x77);
});

test('an unmap of the guest\'s memory reaches what nested domains have cached of it', () => {
  const { hwpt, ioas, attach, call, iommufd, sees } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT) as number;
  expect(attach(hwpt(parent, 0, good) as number)).toBeNull();
  expect(sees(windowIova)).toBe(0x77);
  expect(call(iommufd, 'IOMMU_IOAS_UNMAP', { ioasId: ioas, iova: BigInt(gpa), length: BigInt(page) })).toBeNull();
  expect(sees(windowIova)).toBe('fault');
});

test('nothing can be mapped for reading alone below a guest\'s tables (erratum 772415)', () => {
  const { hwpt, ioas, call, iommufd, memory } = setUp();
  const map = (iova: number) => call(iommufd, 'IOMMU_IOAS_MAP', { flags: readOnly, ioasId: ioas, userVa: memory, length: BigInt(page), iova: BigInt(iova) });
  const plain = hwpt(ioas) as number;
  expect(plain).toBeGreaterThan(0);
  expect(map(0x100_0000)).toBeNull();
  expect(hwpt(ioas, HwptFlag.NEST_PARENT)).toBe('EINVAL');
  expect(call(iommufd, 'IOMMU_IOAS_UNMAP', { ioasId: ioas, iova: 0x100_0000n, length: BigInt(page) })).toBeNull();
  expect(hwpt(ioas, HwptFlag.NEST_PARENT)).toBeGreaterThan(0);
  expect(map(0x100_0000)).toBe('EINVAL');
});

test('GET_HW_INFO tells of nesting as the unit\'s registers do', () => {
  for (const [iommu, nests] of [['vtd-nested', 1n], ['vtd-first-stage', 0n]] as const) {
    const { w, kernel, iommufd } = setUp({ iommu });
    const arg = { flags: 0, devId: 2, dataLength: 24, dataType: 0, outMaxPasidLog2: 0, outCapabilities: 0n } as Commands['IOMMU_GET_HW_INFO'];
    kernel.enter(w.directory['vm'] as Ref<'Process'>);
    ioctl(kernel, iommufd, 'IOMMU_GET_HW_INFO', arg);
    const ecap = new DataView(arg.data!.buffer).getBigUint64(16, true);
    expect([arg.dataType, (ecap >> 26n) & 1n]).toEqual([1, nests]);
  }
});
