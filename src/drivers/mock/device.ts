/** A device of the selftest (`struct mock_dev`): every answer of its driver follows from its flags. It does no DMA, but where a world puts a function behind a mock unit. */
import type { Memory } from '#hostmem/memory';
import { rwsem } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64, words } from '#hostmem/struct';
import { PciFunction } from '../../hardware/function.ts';
import { allocated } from '../../kernel/errno.ts';

/** `dev_flags` of IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS. */
export const MockDeviceFlag = { NO_DIRTY: 1, PASID: 4 } as const;
export const knownDeviceFlags = MockDeviceFlag.NO_DIRTY | MockDeviceFlag.PASID;

/** Width of a PASID, in bits, of a device that has them. */
export const pasidBits = 20;

/** Words of a device's pretended cache, and what they hold first. */
export const cacheWords = 4;
export const firstCacheWord = 0xbaddad;

export const MockDevice = object('MockDevice', {
  flags: u32,
  /** What it translates through. */
  domain: ref('IommuDomain'),
  /** The next attach of PASID 1024 fails, so that the core has to undo one. */
  pasidFails: u32,
  cache: words(cacheWords),
  /** What the kernel knows the vIOMMU as that its domain was made through, or 0, and its number there when it was attached (`mock_domain_nop_attach`). */
  viommuRwsem: rwsem,
  viommu: u32.under('viommuRwsem'),
  virtId: u64,
});

/** What exists once. */
export const MockIommu = object('MockIommu', {
  blockedDomain: ref('IommuDomain'),
  /** The first unit, where there is any: the selftest's devices have none. */
  unit: ref('IommuUnit'),
});

/** A function of the mock bus and its driver's record, to be probed. ENOMEM. */
export function createMockFunction(memory: Memory, flags: number): Ref<'PciFunction'> {
  const device = allocated(MockDevice.tryCreate(memory));
  MockDevice.flags.poke(memory, device, flags);
  const pciFunction = PciFunction.tryCreate(memory);
  if (pciFunction === NULL) MockDevice.free(memory, device);
  allocated(pciFunction);
  PciFunction.driverData.poke(memory, pciFunction, device);
  return pciFunction;
}

/** Frees both. It was released. */
export function freeMockFunction(memory: Memory, pciFunction: Ref<'PciFunction'>): void {
  MockDevice.free(memory, mockDeviceOf(memory, pciFunction));
  PciFunction.free(memory, pciFunction);
}

export function mockDeviceOf(memory: Memory, pciFunction: Ref<'PciFunction'>): Ref<'MockDevice'> {
  return PciFunction.driverData.peek(memory, pciFunction) as Ref<'MockDevice'>;
}
