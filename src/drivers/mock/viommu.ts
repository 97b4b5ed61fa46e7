/** vIOMMUs of the mock IOMMU: the devices with their numbers inside a guest, and two hardware queues. */
import { poke } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { allocated, type ErrnoName } from '../../kernel/errno.ts';
import type { DriverViommu, Invalidations, UserData } from '../driver.ts';
import { copyEntries, copyStruct } from '../user-data.ts';
import { cacheWords, MockDevice, mockDeviceOf } from './device.ts';
import { wordAt } from './nested.ts';

/** IOMMU_VIOMMU_TYPE_SELFTEST; invalidations and hardware queues have the same number. */
export const viommuType = 0xdeadbeef;
const hwQueues = 2;
/** `{ flags, vdev_id, cache_id }`. */
export const viommuEntryBytes = 12;
const ALL = 1;
const answerBytes = 24;
/** Pages of pretended registers, of a vIOMMU that was made with data. */
const registerPages = 2;

export const MockViommu = object('MockViommu', {
  /** What the kernel knows it as. */
  known: u32,
  parent: ref('IommuDomain'),
  /** Bit i: hardware queue i is there. */
  queues: u32,
  vdevices: ref('MockVdevice'),
  /** The first frame of its registers, or 0. */
  registers: u32,
});

const MockVdevice = object('MockVdevice', { function: ref('PciFunction'), virtId: u64, next: ref('MockVdevice') });

/**
 * Where user data were given, answers `{ in_data, out_data, mmap_offset, mmap_length }`, of which the user needs to have the first two: what came in, and two pages
 * that begin with it. EINVAL, EFAULT, ENOMEM.
 */
export function createViommu(host: Host, parent: Ref<'IommuDomain'>, given: UserData, known: number): DriverViommu {
  const memory = host.kernel;
  const bytes = given.bytes.length === 0 ? given.bytes : copyStruct(given, 8, answerBytes);
  const viommu = allocated(MockViommu.tryCreate(memory));
  MockViommu.known.poke(memory, viommu, known);
  MockViommu.parent.poke(memory, viommu, parent);
  if (bytes.length === 0) return { viommu, answer: bytes };
  const firstFrame = host.frames.allocateRun(Owner.KERNEL, registerPages, 1);
  if (firstFrame === 0) MockViommu.free(memory, viommu);
  MockViommu.registers.poke(memory, viommu, allocated(firstFrame));
  const data = wordAt(bytes, 0);
  poke(host.ram, hpaOf(firstFrame), data | 0);
  return { viommu, answer: answerOf(data), registers: { firstFrame, pages: registerPages, offsetAt: 8 } };
}

function answerOf(data: number): Uint8Array {
  const answer = new Uint8Array(answerBytes);
  const view = new DataView(answer.buffer);
  view.setUint32(0, data, true);
  view.setUint32(4, data, true);
  view.setBigUint64(16, BigInt(registerPages * pageBytes), true);
  return answer;
}

export function destroyViommu(host: Host, viommu: Ref<'MockViommu'>): void {
  const first = MockViommu.registers.peek(host.kernel, viommu);
  if (first !== 0) for (let page = 0; page < registerPages; page++) host.frames.drop((first + page) as Frame);
  MockViommu.free(host.kernel, viommu);
}

/** False without memory. */
export function addVdevice(memory: Memory, viommu: Ref<'MockViommu'>, pciFunction: Ref<'PciFunction'>, virtId: bigint): boolean {
  const added = MockVdevice.tryCreate(memory);
  if (added === NULL) return false;
  MockVdevice.function.poke(memory, added, pciFunction);
  MockVdevice.virtId.pokeBig(memory, added, virtId);
  MockVdevice.next.poke(memory, added, MockViommu.vdevices.peek(memory, viommu));
  MockViommu.vdevices.poke(memory, viommu, added);
  return true;
}

export function removeVdevice(memory: Memory, viommu: Ref<'MockViommu'>, pciFunction: Ref<'PciFunction'>): void {
  let before: Ref<'MockVdevice'> = NULL;
  let at: Ref<'MockVdevice'> = MockViommu.vdevices.peek(memory, viommu);
  while (MockVdevice.function.peek(memory, at) !== pciFunction) {
    before = at;
    at = MockVdevice.next.peek(memory, at);
  }
  const next = MockVdevice.next.peek(memory, at);
  if (before === NULL) MockViommu.vdevices.poke(memory, viommu, next);
  else MockVdevice.next.poke(memory, before, next);
  MockVdevice.free(memory, at);
}

/** The device's number inside the vIOMMU, or null. */
export function virtIdOf(memory: Memory, viommu: Ref<'MockViommu'>, pciFunction: Ref<'PciFunction'>): bigint | null {
  let at: Ref<'MockVdevice'> = MockViommu.vdevices.peek(memory, viommu);
  while (at !== NULL && MockVdevice.function.peek(memory, at) !== pciFunction) at = MockVdevice.next.peek(memory, at);
  return at === NULL ? null : MockVdevice.virtId.peekBig(memory, at);
}

/** Clears words of devices' pretended caches. Without entries it says whether it knows the type. EINVAL, EFAULT, E2BIG, EOPNOTSUPP; those before stay cleared. */
export function invalidateCaches(memory: Memory, viommu: Ref<'MockViommu'>, asked: Invalidations): 0 | ErrnoName {
  if (asked.type !== viommuType) return 'EINVAL';
  const entries = copyEntries(asked, viommuEntryBytes);
  if (typeof entries === 'string') return entries;
  for (; asked.handled < asked.count; asked.handled++) {
    const at = asked.handled * viommuEntryBytes;
    const flags = wordAt(entries, at);
    const word = wordAt(entries, at + 8);
    if ((flags & ~ALL) !== 0) return 'EOPNOTSUPP';
    const device = word < cacheWords ? deviceWith(memory, viommu, BigInt(wordAt(entries, at + 4))) : NULL;
    if (device === NULL) return 'EINVAL';
    for (let one = 0; one < cacheWords; one++) if (one === word || flags === ALL) MockDevice.cache.set(memory, device, one, 0);
  }
  return 0;
}

function deviceWith(memory: Memory, viommu: Ref<'MockViommu'>, virtId: bigint): Ref<'MockDevice'> {
  let at: Ref<'MockVdevice'> = MockViommu.vdevices.peek(memory, viommu);
  while (at !== NULL && MockVdevice.virtId.peekBig(memory, at) !== virtId) at = MockVdevice.next.peek(memory, at);
  return at === NULL ? NULL : mockDeviceOf(memory, MockVdevice.function.peek(memory, at));
}

/** In the order of their numbers. EINVAL for a number that there is not, EEXIST, EIO. */
export function addHwQueue(memory: Memory, viommu: Ref<'MockViommu'>, index: number): 0 | ErrnoName {
  const queues = MockViommu.queues.peek(memory, viommu);
  if (index >= hwQueues) return 'EINVAL';
  if ((queues & (1 << index)) !== 0) return 'EEXIST';
  if (index > 0 && (queues & (1 << (index - 1))) === 0) return 'EIO';
  MockViommu.queues.poke(memory, viommu, queues | (1 << index));
  return 0;
}
