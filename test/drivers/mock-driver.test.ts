/** The driver of the selftest's world, as the kernel calls it: page tables of 2 KiB, what was written, PASIDs, pretended caches. */
import { Host } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '#src/drivers/domain';
import type { DirtyRanges, Invalidations } from '#src/drivers/driver';
import { cacheWords, createMockFunction, MockDevice, MockDeviceFlag, mockDeviceOf } from '#src/drivers/mock/device';
import { MockDriver } from '#src/drivers/mock/driver';
import { MockNested, nestedOf, selftestData } from '#src/drivers/mock/nested';
import { errnoOf } from '#src/kernel/errno';
import { expect, test } from 'vitest';

const base = 0x1000000n;
const READ_WRITE = 3;
const DIRTY_TRACKING = 2;

function setUp(deviceFlags: number = 0) {
  const host = Host.create(4 << 20, 4 << 20);
  MockDriver.boot(host);
  const driver = new MockDriver(host);
  const fn = createMockFunction(host.kernel, deviceFlags);
  driver.probe(fn);
  const domain = (flags: number = 0): Ref<'IommuDomain'> => driver.allocPagingDomain(fn, flags);
  return { host, driver, fn, domain };
}

/** What a query finds, as `start+length` from `base`, in 2 KiB. */
function dirty(driver: MockDriver, domain: Ref<'IommuDomain'>, start: bigint, bytes: bigint, clear: boolean = false): string[] {
  const found: DirtyRanges = { iovas: [], lengths: [] };
  expect(driver.readAndClearDirty(domain, base + start, bytes, clear, found)).toBe(0);
  return found.iovas.map((iova, index) => `${(iova - base) / 2048n}+${found.lengths[index]! / 2048n}`);
}

test('a domain maps 2 KiB wherever they lie in RAM, and no less', () => {
  const { driver, domain } = setUp();
  const made = domain();
  expect(driver.mapBytes(made, base, 0x5800, 2048, READ_WRITE)).toBe(0);
  expect(driver.mapBytes(made, base + 2048n, 0x9000, 4096, READ_WRITE)).toBe(0);
  const at = (offset: bigint) => driver.iovaToPhys(made, base + offset);
  expect([at(0n), at(7n), at(2048n), at(4096n), at(6143n), at(6144n)]).toEqual([0x5800, 0x5807, 0x9000, 0x9800, 0x9fff, -1]);
  expect(driver.mapBytes(made, base + 1024n, 0x5000, 2048, READ_WRITE)).toBe('EINVAL');
  expect(driver.mapBytes(made, base, 0x5400, 2048, READ_WRITE)).toBe('EINVAL');
  expect(driver.mapBytes(made, base, 0x5000, 1024, READ_WRITE)).toBe('EINVAL');
});

test('a mapping that meets another undoes itself', () => {
  const { driver, domain } = setUp();
  const made = domain();
  driver.mapBytes(made, base + 4096n, 0x5000, 2048, READ_WRITE);
  expect(driver.mapBytes(made, base, 0x8000, 8192, READ_WRITE)).toBe('EADDRINUSE');
  expect([driver.iovaToPhys(made, base), driver.iovaToPhys(made, base + 4096n)]).toEqual([-1, 0x5000]);
  driver.unmapBytes(made, base + 4096n, 2048n);
  expect(driver.mapBytes(made, base, 0x8000, 8192, READ_WRITE)).toBe(0);
});

test('the aperture is that of the table: a part of 31 bits, or with data that ask for large pages everything', () => {
  const { host, driver, fn, domain } = setUp();
  const aperture = (made: Ref<'IommuDomain'>) => [
    IommuDomain.apertureFirstLow.peek(host.kernel, made), IommuDomain.apertureLastHigh.peek(host.kernel, made), IommuDomain.apertureLastLow.peek(host.kernel, made),
    IommuDomain.smallestPageBits.peek(host.kernel, made),
  ];
  expect(aperture(domain())).toEqual([0x1000000, 0, 0x7fffffff, 11]);
  const huge = Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0);
  expect(aperture(driver.allocPagingWithData(fn, 0, { type: selftestData, bytes: huge }))).toEqual([0, 0xffffff, -1, 12]);
  expect(errnoOf(() => driver.allocPagingWithData(fn, 0, { type: selftestData, bytes: Uint8Array.of(0, 0, 0, 0, 2) }))).toBe('EOPNOTSUPP');
  expect(errnoOf(() => driver.allocPagingWithData(fn, 0, { type: 1, bytes: huge }))).toBe('EOPNOTSUPP');
  expect([3, 9].map((length) => errnoOf(() => driver.allocPagingWithData(fn, 0, { type: selftestData, bytes: new Uint8Array(length) })))).toEqual(['EINVAL', 'EINVAL']);
});

test('flags: dirty tracking only for a device that can, nothing that it does not know', () => {
  const { driver, domain } = setUp();
  expect([1, 2, 8, 11].map((flags) => errnoOf(() => domain(flags)))).toEqual([null, null, null, null]);
  expect(errnoOf(() => domain(4))).toBe('EOPNOTSUPP');
  const without = setUp(MockDeviceFlag.NO_DIRTY);
  expect(errnoOf(() => without.domain(DIRTY_TRACKING))).toBe('EOPNOTSUPP');
  expect(without.driver.attach(without.domain(), without.fn)).toBe(0);
  const other = createMockFunction(without.host.kernel, 0);
  without.driver.probe(other);
  const tracking = without.driver.allocPagingDomain(other, DIRTY_TRACKING);
  expect([without.driver.attach(tracking, without.fn), driver.tracksWrites(domain(DIRTY_TRACKING))]).toEqual(['EINVAL', false]);
});

test('a leaf of 4 KiB tells its dirt of its first half alone, as 7.2 does, unless the query ends within it; one of 2 KiB all of it', () => {
  const { driver, domain } = setUp();
  const made = domain(DIRTY_TRACKING);
  driver.setDirtyTracking(made, true);
  driver.mapBytes(made, base, 0x8000, 8192, READ_WRITE);
  driver.mapBytes(made, base + 0x2800n, 0x5000, 2048, READ_WRITE);
  for (const offset of [0x800n, 0x2800n]) driver.markWritten(made, base + offset);
  expect(dirty(driver, made, 0n, 0x4000n)).toEqual(['0+1', '5+1']);
  expect(dirty(driver, made, 0n, 0x800n)).toEqual(['0+1']);
  // From the middle of the leaf nothing is left to tell.
  expect(dirty(driver, made, 0x800n, 0x3800n)).toEqual(['5+1']);
  expect(dirty(driver, made, 0n, 0x4000n, true)).toEqual(['0+1', '5+1']);
  expect(dirty(driver, made, 0n, 0x4000n)).toEqual([]);
});

test('two halves that were mapped apart are two leaves', () => {
  const { driver, domain } = setUp();
  const made = domain(DIRTY_TRACKING);
  driver.mapBytes(made, base, 0x8000, 2048, READ_WRITE);
  driver.mapBytes(made, base + 2048n, 0x8800, 2048, READ_WRITE);
  // IOVA and RAM disagree about where pages begin.
  driver.mapBytes(made, base + 0x1000n, 0x5800, 4096, READ_WRITE);
  for (const offset of [0x800n, 0x1800n]) driver.markWritten(made, base + offset);
  expect(dirty(driver, made, 0n, 0x2000n)).toEqual(['1+1', '3+1']);
});

test('PASID 1024 fails once for each attach that it has', () => {
  const { driver, fn, domain } = setUp(MockDeviceFlag.PASID);
  const made = domain(8);
  expect([driver.pasidsOf(fn), setUp().driver.pasidsOf(setUp().fn)]).toEqual([1 << 20, 0]);
  expect([made, made, made, driver.blockedDomain, made].map((to) => driver.setPasid(to, fn, 1024))).toEqual([0, 'ENOMEM', 0, 0, 0]);
  expect([made, made].map((to) => driver.setPasid(to, fn, 1023))).toEqual([0, 0]);
});

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const asked = (type: number, entryBytes: number, ...values: number[]): Invalidations => {
  const bytes = words(...values);
  return { type, entryBytes, count: bytes.length / entryBytes, bytes, handled: 0 };
};

test('a nested domain keeps four words; an invalidation clears one or all, and counts what it did before an error', () => {
  const { host, driver, fn, domain } = setUp();
  const nested = driver.allocNestedDomain(fn, domain(1), 0, { type: selftestData, bytes: words(7) });
  const iotlb = () => [0, 1, 2, 3].map((word) => MockNested.iotlb.get(host.kernel, nestedOf(host.kernel, nested), word));
  expect(iotlb()).toEqual([7, 7, 7, 7]);
  const some = asked(0xdeadbeef, 8, 0, 1, 0, 4, 0, 2);
  expect([driver.invalidateNested(nested, some), some.handled, iotlb()]).toEqual(['EINVAL', 1, [7, 0, 7, 7]]);
  const flagged = asked(0xdeadbeef, 8, 2, 0);
  expect([driver.invalidateNested(nested, flagged), flagged.handled]).toEqual(['EOPNOTSUPP', 0]);
  expect([driver.invalidateNested(nested, asked(0xdeadbeef, 8, 1, 0)), iotlb()]).toEqual([0, [0, 0, 0, 0]]);
  expect(driver.invalidateNested(nested, asked(0xdead, 8, 1, 0))).toBe('EINVAL');
});

test('through a vIOMMU a device is known by its number there, and without one cannot attach', () => {
  const { host, driver, fn, domain } = setUp();
  const parent = domain(1);
  const { viommu, answer } = driver.viommuInit(fn, parent, { type: 0xdeadbeef, bytes: new Uint8Array(0) }, 7);
  expect(answer.length).toBe(0);
  const nested = driver.viommuAllocNested(viommu, 0, { type: selftestData, bytes: words(1) });
  expect(driver.attach(nested, fn)).toBe('ENOENT');
  expect(driver.vdeviceInit(viommu, fn, 0x99n)).toBe(0);
  expect(driver.attach(nested, fn)).toBe(0);
  const cache = () => Array.from({ length: cacheWords }, (_, word) => MockDevice.cache.get(host.kernel, mockDeviceOf(host.kernel, fn), word));
  expect(cache()).toEqual([0xbaddad, 0xbaddad, 0xbaddad, 0xbaddad]);
  const some = asked(0xdeadbeef, 12, 0, 0x99, 2, 0, 0x98, 1);
  expect([driver.viommuInvalidate(viommu, some), some.handled, cache()]).toEqual(['EINVAL', 1, [0xbaddad, 0xbaddad, 0, 0xbaddad]]);
  driver.vdeviceDestroy(viommu, fn);
  expect(driver.viommuInvalidate(viommu, asked(0xdeadbeef, 12, 1, 0x99, 0))).toBe('EINVAL');
  driver.attach(driver.blockedDomain, fn);
  expect(driver.attach(nested, fn)).toBe('ENOENT');
  expect(IommuDomain.parent.peek(host.kernel, nested)).not.toBe(NULL);
});

test('hardware queues are two, in ascending order', () => {
  const { driver, fn, domain } = setUp();
  const { viommu } = driver.viommuInit(fn, domain(1), { type: 0xdeadbeef, bytes: new Uint8Array(0) }, 7);
  expect([1, 0, 0, 1, 2].map((index) => driver.hwQueueInit(viommu, index))).toEqual(['EIO', 0, 'EEXIST', 0, 'EINVAL']);
  driver.hwQueueDestroy(viommu, 1);
  expect(driver.hwQueueInit(viommu, 1)).toBe(0);
});

test('registers of a vIOMMU begin with what was given, and go with it', () => {
  const { host, driver, fn, domain } = setUp();
  const parent = domain(1);
  const before = host.frames.inUse;
  const { viommu, answer, registers } = driver.viommuInit(fn, parent, { type: 0xdeadbeef, bytes: words(5, 0, 0, 0, 0, 0) }, 7);
  expect([registers?.pages, registers?.offsetAt, host.frames.inUse]).toEqual([2, 8, before + 2]);
  expect([...new Uint32Array(answer.buffer)]).toEqual([5, 5, 0, 0, 0x2000, 0]);
  expect(host.ram.words[registers!.firstFrame * 1024]).toBe(5);
  driver.viommuDestroy(viommu);
  expect(host.frames.inUse).toBe(before);
});
