/** Nested HWPTs on SMMUv3, as a VMM sees them: what VIOMMU_ALLOC, HWPT_ALLOC, attach and HWPT_INVALIDATE answer, and what the device reaches then. */
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { descriptorGpa, layStage1, setStage1Leaf } from '#src/actors/virtual-smmu';
import { nestedFreeGpa, windowIova } from '#src/actors/virtual-vtd';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { Opcode } from '#src/hardware/smmuv3/commands';
import type { ErrnoName } from '#src/kernel/errno';
import { handOnGuestEvents } from '#src/kernel/guest-events';
import { HwptFlag } from '#src/kernel/hwpt';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { close, ioctl, read, type Commands } from '#src/kernel/syscalls';
import { World } from '#src/world';
import { expect, test } from 'vitest';
import { errnoOf } from './vmm.ts';

const page = 4096;
const gpa = nestedFreeGpa;
const [valid, config, eats] = [1n, 1n, 28n];
const Cfg = { ABORT: 0n, BYPASS: 4n, STAGE1: 5n, STAGE2: 6n, NESTED: 7n } as const;

/** IOMMU_HWPT_DATA_ARM_SMMUV3. */
const ste = (word0: bigint, word1 = 0n, bytes = 16): Uint8Array => {
  const data = new Uint8Array(Math.max(bytes, 16));
  new DataView(data.buffer).setBigUint64(0, word0, true);
  new DataView(data.buffer).setBigUint64(8, word1, true);
  return data.subarray(0, bytes);
};
const good = ste(valid | (Cfg.STAGE1 << config) | BigInt(descriptorGpa));

/** A guest of 16 pages, whose VMM has all of it in an IOAS; two functions behind one unit, and one behind another. */
function setUp() {
  const w = new World({ iommu: 'smmuv3', units: 2 });
  const vmm = w.guest('vm', 16);
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  vmm.map(iommufd, ioas, 0, BigInt(w.directory['vm.memory']!), 16 * page);
  const [A, B] = [w.device('A'), w.device('B')].map((vfio) => vmm.bound(vfio, iommufd)) as [{ fd: number; deviceId: number }, { fd: number; deviceId: number }];
  w.behindUnit(1);
  const far = vmm.bound(w.device('far'), iommufd);
  const frames = w.directory['vm.frames'] as Ref<'Run'>;
  layStage1(w.host, frames);
  setStage1Leaf(w.host, frames, windowIova, gpa);
  fill(w.host.ram, hpaOf(runGet(w.host.kernel, frames, gpa / page) as Frame), page, 0x77);
  const machine = new Machine(w.host);
  const kernel = new Kernel(w.host, linux72, driverInForce(w.host, machine));
  kernel.enter(vmm.ref);
  const engine = machine.dma(w.directory['A'] as Ref<'PciFunction'>);
  const call = <N extends keyof Commands>(on: number, name: N, arg: Commands[N]): ErrnoName | null => errnoOf(() => ioctl(kernel, on, name, arg));
  const hwpt = (ptId: number, flags = 0, data?: Uint8Array, devId = A.deviceId, dataType = data === undefined ? 0 : 2): number | ErrnoName => {
    const arg = { flags, devId, ptId, dataType, dataLength: data?.length ?? 0, ...(data === undefined ? {} : { data }), outHwptId: 0 };
    return call(iommufd, 'IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  };
  const viommu = (hwptId: number, devId = A.deviceId, type = 1, flags = 0): number | ErrnoName => {
    const arg = { flags, type, devId, hwptId, outViommuId: 0 };
    return call(iommufd, 'IOMMU_VIOMMU_ALLOC', arg) ?? arg.outViommuId;
  };
  const vdevice = (viommuId: number, devId = A.deviceId, virtId = 0x18n): number | ErrnoName => {
    const arg = { viommuId, devId, virtId, outVdeviceId: 0 };
    return call(iommufd, 'IOMMU_VDEVICE_ALLOC', arg) ?? arg.outVdeviceId;
  };
  return {
    w, kernel, frames, iommufd, ioas, A, B, far, call, hwpt, viommu, vdevice,
    attach: (ptId: number, to = A) => call(to.fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId }),
    detach: () => call(A.fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 }),
    destroy: (id: number) => call(iommufd, 'IOMMU_DESTROY', { id }),
    sees: (iova: number) => (engine.read(0, iova, 64) === 0 ? engine.bufferWord(0) : 'fault'),
  };
}

/** With a nest parent and a vIOMMU. */
function withViommu() {
  const made = setUp();
  const parent = made.hwpt(made.ioas, HwptFlag.NEST_PARENT) as number;
  return { ...made, parent, vsmmu: made.viommu(parent) as number };
}

test('GET_HW_INFO tells the ID registers: both stages, no substreams, and that the function has no ATS', () => {
  const { call, iommufd, A } = setUp();
  const arg = { flags: 0, devId: A.deviceId, dataLength: 40, dataType: 0, outMaxPasidLog2: 0, outCapabilities: 0n, data: new Uint8Array(0) };
  expect(call(iommufd, 'IOMMU_GET_HW_INFO', arg)).toBeNull();
  expect([arg.dataType, arg.dataLength, arg.outCapabilities]).toEqual([2, 40, 8n]);
  const words = new DataView(arg.data.buffer);
  expect([words.getUint32(8, true) & 3, (words.getUint32(12, true) >>> 6) & 31]).toEqual([3, 0]);
});

test('a vIOMMU is refused in the kernel\'s order: flags and type, device, type, parent, whose unit it is', () => {
  const { hwpt, viommu, ioas, A, far } = setUp();
  const parent = hwpt(ioas, HwptFlag.NEST_PARENT) as number;
  const plain = hwpt(ioas) as number;
  expect([viommu(parent, A.deviceId, 1, 1), viommu(parent, A.deviceId, 0)]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP']);
  expect([viommu(parent, 999), viommu(parent, A.deviceId, 2)]).toEqual(['ENOENT', 'EOPNOTSUPP']);
  expect([viommu(ioas), viommu(plain)]).toEqual(['ENOENT', 'EINVAL']);
  expect(viommu(parent, far.deviceId)).toBe('EINVAL');
  expect(viommu(parent)).toEqual(expect.any(Number));
});

test('SMMUv3 nests through a vIOMMU alone', () => {
  const { hwpt, parent } = withViommu();
  expect(hwpt(parent, 0, good)).toBe('EOPNOTSUPP');
});

test('a nested HWPT is refused in the kernel\'s order: unit, flags and missing data, the driver\'s flags, type and length, what is behind the entry', () => {
  const { hwpt, vsmmu, far, A } = withViommu();
  expect(hwpt(vsmmu, 0, good, far.deviceId)).toBe('EINVAL');
  expect([hwpt(vsmmu, HwptFlag.NEST_PARENT, good), hwpt(vsmmu, 0)]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP']);
  expect(hwpt(vsmmu, HwptFlag.PASID, good)).toBe('EOPNOTSUPP');
  expect([hwpt(vsmmu, 0, good, A.deviceId, 1), hwpt(vsmmu, 0, ste(0n, 0n, 8)), hwpt(vsmmu, 0, ste(0n, 0n, 15))]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  const long = new Uint8Array(24);
  long.set(good);
  expect(hwpt(vsmmu, 0, long)).toBe('EINVAL');
});

test('every bit of a guest\'s entry is its own or EIO; an entry that is not valid says nothing', () => {
  const { hwpt, vsmmu } = withViommu();
  const answers = (word: 0 | 1): number[] => Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => {
    const set = 1n << BigInt(bit);
    const answer = hwpt(vsmmu, 0, word === 0 ? ste(valid | (Cfg.STAGE1 << config) | set) : ste(valid | (Cfg.STAGE1 << config), set));
    expect(typeof answer === 'number' || answer === 'EIO').toBe(true);
    return typeof answer === 'number';
  });
  const range = (first: number, last: number): number[] => Array.from({ length: last - first + 1 }, (_, index) => first + index);
  // Bit 2 of Cfg 5 makes it 7, which is no guest's; bits 1 and 3 are set.
  expect(answers(0)).toEqual([0, 1, 3, ...range(4, 51), ...range(59, 63)]);
  // EATS 1 alone: bit 29 makes it 2.
  expect(answers(1)).toEqual([...range(0, 7), 27, 28]);
  const configs = range(0, 7).filter((value) => typeof hwpt(vsmmu, 0, ste(valid | (BigInt(value) << config))) === 'number');
  expect(configs).toEqual([0, 4, 5]);
  expect(range(0, 3).map((value) => hwpt(vsmmu, 0, ste(valid | (Cfg.BYPASS << config), BigInt(value) << eats))).map((answer) => typeof answer === 'number')).toEqual([true, true, false, false]);
  expect(hwpt(vsmmu, 0, ste(~valid & (2n ** 64n - 1n), 2n ** 64n - 1n))).toEqual(expect.any(Number));
});

test('to be translated a device needs a number within the vIOMMU; to be blocked or to go through stage 2 it does not', () => {
  const { hwpt, vsmmu, vdevice, attach, sees, parent, w, frames } = withViommu();
  const [nested, bypassing, aborting, invalid] = [good, ste(valid | (Cfg.BYPASS << config)), ste(valid), ste(~valid & 0xffn)].map((data) => hwpt(vsmmu, 0, data) as number) as [number, number, number, number];
  expect(attach(parent)).toBeNull();
  expect(attach(nested)).toBe('ENOENT');
  expect([sees(gpa), sees(windowIova)]).toEqual([0x77, 'fault']);
  expect([attach(aborting), sees(gpa)]).toEqual([null, 'fault']);
  expect([attach(bypassing), sees(gpa), sees(windowIova)]).toEqual([null, 0x77, 'fault']);
  expect([attach(invalid), sees(gpa)]).toEqual([null, 'fault']);
  expect(vdevice(vsmmu)).toEqual(expect.any(Number));
  expect([attach(nested), sees(gpa), sees(windowIova)]).toEqual([null, 'fault', 0x77]);
  setStage1Leaf(w.host, frames, windowIova, null);
  // Nobody has told the unit.
  expect(sees(windowIova)).toBe(0x77);
});

test('a descriptor above 4 GiB, and a table of them, are found when the device is attached', () => {
  const { hwpt, vsmmu, vdevice, attach } = withViommu();
  vdevice(vsmmu);
  const stage1 = valid | (Cfg.STAGE1 << config);
  expect([1n << 32n, 1n << 59n].map((bits) => attach(hwpt(vsmmu, 0, ste(stage1 | bits)) as number))).toEqual(['EINVAL', 'EINVAL']);
});

test('a vdevice is refused for a device behind another unit, a second one, and a number that is taken; nothing goes that is in use', () => {
  const { hwpt, vsmmu, vdevice, attach, detach, destroy, parent, A, B, far } = withViommu();
  expect(vdevice(vsmmu, far.deviceId)).toBe('EINVAL');
  const made = vdevice(vsmmu) as number;
  expect([vdevice(vsmmu, A.deviceId, 0x19n), vdevice(vsmmu, B.deviceId)]).toEqual(['EEXIST', 'EEXIST']);
  const nested = hwpt(vsmmu, 0, good) as number;
  expect(attach(nested)).toBeNull();
  expect([parent, vsmmu, nested].map((id) => destroy(id))).toEqual(['EBUSY', 'EBUSY', 'EBUSY']);
  expect([detach(), destroy(nested), destroy(vsmmu), destroy(made), destroy(vsmmu), destroy(parent)]).toEqual([null, null, 'EBUSY', null, null, null]);
});

test('HWPT_INVALIDATE is for the vIOMMU: its commands are carried out up to the first that cannot be, and it says how many', () => {
  const { hwpt, vsmmu, vdevice, attach, sees, call, iommufd, w, frames } = withViommu();
  vdevice(vsmmu);
  const nested = hwpt(vsmmu, 0, good) as number;
  attach(nested);
  const invalidate = (hwptId: number, words: readonly number[], over: Partial<Commands['IOMMU_HWPT_INVALIDATE']> = {}): readonly [ErrnoName | null, number] => {
    const arg = { hwptId, data: new Uint8Array(Int32Array.from(words).buffer), dataType: 1, entryLength: 16, entryCount: words.length / 4, ...over };
    const errno = call(iommufd, 'IOMMU_HWPT_INVALIDATE', arg);
    return [errno, arg.entryCount];
  };
  const pageCommand = [Opcode.TLBI_NH_VA, 1 << 16, windowIova, 0];
  const unknown = [Opcode.CFGI_CD, 0x99, 0, 0];
  expect(invalidate(nested, pageCommand)).toEqual(['EOPNOTSUPP', 0]);
  expect([invalidate(vsmmu, pageCommand, { dataType: 0 }), invalidate(vsmmu, []), invalidate(vsmmu, pageCommand, { entryLength: 0 })]).toEqual([['EINVAL', 0], ['EINVAL', 0], ['EINVAL', 0]]);
  expect(sees(windowIova)).toBe(0x77);
  setStage1Leaf(w.host, frames, windowIova, null);
  // K2: the first was counted, and not issued.
  expect([invalidate(vsmmu, [...pageCommand, ...unknown]), sees(windowIova)]).toEqual([['EIO', 1], 0x77]);
  expect([invalidate(vsmmu, [...unknown, ...pageCommand]), sees(windowIova)]).toEqual([['EIO', 0], 0x77]);
  expect([invalidate(vsmmu, pageCommand), sees(windowIova)]).toEqual([[null, 1], 'fault']);
});

test('what is wrong in the guest\'s stage 1 is for its vEVENTQ, in the hardware\'s form with the guest\'s stream; what is wrong in stage 2, and what nobody listens to, is not', () => {
  const { w, kernel, hwpt, vsmmu, vdevice, attach, sees, call, iommufd, parent, frames, destroy } = withViommu();
  const A = w.directory['A'] as Ref<'PciFunction'>;
  vdevice(vsmmu);
  attach(hwpt(vsmmu, 0, good) as number);
  const handOn = (): void => handOnGuestEvents(kernel, A);
  expect(sees(windowIova + page)).toBe('fault');
  handOn();
  const queue = { flags: 0, viommuId: vsmmu, type: 1, depth: 2, outEventQueueId: 0, outEventQueueFd: 0 };
  expect(call(iommufd, 'IOMMU_VEVENTQ_ALLOC', queue)).toBeNull();
  const told = (): number[][] => {
    const bytes = read(kernel, queue.outEventQueueFd, 400);
    const words = Array.from(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4));
    const events: number[][] = [];
    while (words.length > 0) events.push(words.splice(0, words[0] === 0 ? 10 : 2));
    return events;
  };
  expect(told()).toEqual([]);
  expect(sees(windowIova + page)).toBe('fault');
  handOn();
  const [translation, rnw, input] = [0x10, 1 << 3, 2 << 8];
  expect(told()).toEqual([[0, 0, translation, 0x18, 0, rnw | input, windowIova + page, 0, 0, 0]]);
  // Beyond what the parent has.
  setStage1Leaf(w.host, frames, windowIova + page, 0x40_0000);
  expect(sees(windowIova + page)).toBe('fault');
  setStage1Leaf(w.host, frames, windowIova + page, null);
  handOn();
  expect(told()).toEqual([]);
  for (let i = 0; i < 4; i++) sees(windowIova + page);
  handOn();
  expect(told().map((event) => event.slice(0, 2))).toEqual([[0, 1], [0, 2], [1, 4]]);
  sees(windowIova + page);
  attach(parent);
  handOn();
  expect(told()).toEqual([]);
  close(kernel, queue.outEventQueueFd);
  expect(destroy(queue.outEventQueueId)).toBeNull();
});
