/** vIOMMUs of the mock IOMMU: the devices with their numbers inside a guest, and two hardware queues. */
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { allocated, type ErrnoName } from '../../kernel/errno.ts';
import type { Invalidations } from '../driver.ts';
import { cacheWords, MockDevice, mockDeviceOf } from './device.ts';
import { wordAt } from './nested.ts';

/** IOMMU_VIOMMU_TYPE_SELFTEST; invalidations and hardware queues have the same number. */
export const viommuType = 0xdeadbeef;
const hwQueues = 2;
/** `{ flags, vdev_id, cache_id }`. */
const entryBytes = 12;
const ALL = 1;
/** Where a vIOMMU's registers would be mapped, and how long they are. */
const mapOffset = 0x1000n;
const mapBytes = 0x2000n;

export const MockViommu = object('MockViommu', {
  parent: ref('IommuDomain'),
  /** Bit i: hardware queue i is there. */
  queues: u32,
  vdevices: ref('MockVdevice'),
});

const MockVdevice = object('MockVdevice', { function: ref('PciFunction'), virtId: u64, next: ref('MockVdevice') });

/** Answers `{ in_data, out_data, mmap_offset, mmap_length }` where the user gave data: what came in, and the registers. ENOMEM. */
export function createViommu(memory: Memory, parent: Ref<'IommuDomain'>, bytes: Uint8Array): { readonly viommu: number; readonly answer: Uint8Array } {
  const viommu = allocated(MockViommu.tryCreate(memory));
  MockViommu.parent.poke(memory, viommu, parent);
  if (bytes.length === 0) return { viommu, answer: bytes };
  const answer = new Uint8Array(24);
  const view = new DataView(answer.buffer);
  view.setUint32(0, wordAt(bytes, 0), true);
  view.setUint32(4, wordAt(bytes, 0), true);
  view.setBigUint64(8, mapOffset, true);
  view.setBigUint64(16, mapBytes, true);
  return { viommu, answer };
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

/** Whether the device has a number inside the vIOMMU. */
export function hasVdevice(memory: Memory, viommu: Ref<'MockViommu'>, pciFunction: Ref<'PciFunction'>): boolean {
  let at: Ref<'MockVdevice'> = MockViommu.vdevices.peek(memory, viommu);
  while (at !== NULL && MockVdevice.function.peek(memory, at) !== pciFunction) at = MockVdevice.next.peek(memory, at);
  return at !== NULL;
}

/** Clears words of devices' pretended caches. EINVAL, EOPNOTSUPP; those before stay cleared. */
export function invalidateCaches(memory: Memory, viommu: Ref<'MockViommu'>, asked: Invalidations): 0 | ErrnoName {
  if (asked.type !== viommuType || (asked.count > 0 && asked.entryBytes !== entryBytes)) return 'EINVAL';
  for (; asked.handled < asked.count; asked.handled++) {
    const at = asked.handled * entryBytes;
    const flags = wordAt(asked.bytes, at);
    const word = wordAt(asked.bytes, at + 8);
    if ((flags & ~ALL) !== 0) return 'EOPNOTSUPP';
    const device = word < cacheWords ? deviceWith(memory, viommu, BigInt(wordAt(asked.bytes, at + 4))) : NULL;
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
