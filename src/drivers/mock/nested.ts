/** Nested domains of the mock IOMMU: four words that pretend to be cached translations. */
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, words } from '#hostmem/struct';
import { allocated, fail, type ErrnoName } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import { DomainFlags, type Invalidations, type UserData } from '../driver.ts';
import { copyStruct } from '../user-data.ts';

/** IOMMU_HWPT_DATA_SELFTEST, and the type of its invalidations. */
export const selftestData = 0xdead;
const invalidateType = 0xdeadbeef;
export const iotlbWords = 4;
/** `{ flags, iotlb_id }`. */
const entryBytes = 8;
const ALL = 1;

export const MockNested = object('MockNested', {
  /** Whose devices alone may attach; null for a domain that names its parent itself. */
  viommu: ref('MockViommu'),
  iotlb: words(iotlbWords),
});

/** From `{ iotlb, ... }`. EOPNOTSUPP for other flags or another type, EINVAL for too little or too much data, ENOMEM. */
export function createNested(
  memory: Memory, parent: Ref<'IommuDomain'>, viommu: Ref<'MockViommu'>, flags: number, data: UserData,
): Ref<'IommuDomain'> {
  if ((flags & ~DomainFlags.PASID) !== 0 || data.type !== selftestData) fail('EOPNOTSUPP', 'unknown flags or type of data');
  const bytes = copyHwptData(data);
  const domain = allocated(IommuDomain.tryCreate(memory));
  const nested = MockNested.tryCreate(memory);
  if (nested === NULL) IommuDomain.free(memory, domain);
  allocated(nested);
  for (let word = 0; word < iotlbWords; word++) MockNested.iotlb.set(memory, nested, word, wordAt(bytes, 0) | 0);
  MockNested.viommu.poke(memory, nested, viommu);
  IommuDomain.kind.poke(memory, domain, DomainKind.NESTED);
  IommuDomain.driver.poke(memory, domain, DriverKind.MOCK);
  IommuDomain.parent.poke(memory, domain, parent);
  IommuDomain.driverData.poke(memory, domain, nested);
  return domain;
}

/** `{ iotlb, pagetable_type }`, the second of which may be left out. EINVAL, EFAULT. */
export const copyHwptData = (data: UserData): Uint8Array => copyStruct(data, 4, 8);

export function freeNested(memory: Memory, domain: Ref<'IommuDomain'>): void {
  MockNested.free(memory, nestedOf(memory, domain));
  IommuDomain.free(memory, domain);
}

export const nestedOf = (memory: Memory, domain: Ref<'IommuDomain'>): Ref<'MockNested'> =>
  IommuDomain.driverData.peek(memory, domain) as Ref<'MockNested'>;

/** Clears one word, or all; each entry is read when it is its turn. EINVAL, EFAULT, EOPNOTSUPP; those before stay cleared. */
export function invalidateNested(memory: Memory, domain: Ref<'IommuDomain'>, asked: Invalidations): 0 | ErrnoName {
  if (asked.type !== invalidateType) return 'EINVAL';
  const nested = nestedOf(memory, domain);
  for (; asked.handled < asked.count; asked.handled++) {
    if (asked.entryBytes !== entryBytes) return 'EINVAL';
    if ((asked.handled + 1) * entryBytes > asked.bytes.length) return 'EFAULT';
    const flags = wordAt(asked.bytes, asked.handled * entryBytes);
    const word = wordAt(asked.bytes, asked.handled * entryBytes + 4);
    if ((flags & ~ALL) !== 0) return 'EOPNOTSUPP';
    if (word >= iotlbWords) return 'EINVAL';
    for (let at = 0; at < iotlbWords; at++) if (at === word || flags === ALL) MockNested.iotlb.set(memory, nested, at, 0);
  }
  return 0;
}

/** A little-endian word; what is missing is 0. */
export function wordAt(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
}
