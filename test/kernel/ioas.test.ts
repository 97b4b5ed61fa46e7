import type { ErrnoName } from '#src/kernel/errno';
import type { IoasMap } from '#src/kernel/ioas';
import { expect, test } from 'vitest';
import { fixed, page, readWrite, U64, Vmm } from './vmm.ts';

/** An IOAS without a domain and one with a device, 16 pages of memory. */
function setUp() {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const [free, attached] = [vmm.ioas(fd), vmm.ioas(fd)];
  const va = vmm.process.memory(16 * page, 0x77);
  const device = vmm.openVfio(group.vfio[0]!);
  vmm.bindTo(device, fd);
  vmm.attach(device, attached);
  return { vmm, fd, free, attached, va, device };
}

test('IOAS_ALLOC gives the lowest free id and refuses flags', () => {
  const { vmm, fd, free, attached } = setUp();
  expect([free, attached]).toEqual([1, 2]);
  const before = vmm.ledger();
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_ALLOC', { flags: 1, outIoasId: 0 })).toBe('EOPNOTSUPP');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.destroy(fd, free)).toBeNull();
  expect(vmm.ioas(fd)).toBe(free);
});

/** Every line of the order of checks; each row breaks its own check and all later ones that it can. */
test.each<[string, Partial<IoasMap>, ErrnoName]>([
  ['an unknown flag', { flags: 8, iova: U64, ioasId: 99, length: 0n }, 'EOPNOTSUPP'],
  ['a reserved field', { reserved: 1, flags: 1, iova: U64, ioasId: 99 }, 'EOPNOTSUPP'],
  ['iova 2^64-1', { iova: U64, flags: 1, ioasId: 99 }, 'EOVERFLOW'],
  ['iova 2^64-1 that is ignored', { iova: U64, flags: readWrite }, 'EOVERFLOW'],
  ['length 2^64-1', { length: U64, flags: 1, ioasId: 99 }, 'EOVERFLOW'],
  ['neither read nor write', { flags: 1, ioasId: 99, length: 0n }, 'EINVAL'],
  ['an absent id', { ioasId: 99, length: 0n, userVa: U64 }, 'ENOENT'],
  ['the id of something else', { ioasId: 3, length: 0n }, 'ENOENT'],
  ['id 0', { ioasId: 0 }, 'ENOENT'],
  ['user_va + length beyond 2^64', { userVa: U64, length: 2n, iova: 1n }, 'EOVERFLOW'],
  ['length 0', { length: 0n, iova: 1n }, 'EINVAL'],
  ['a length beyond 2^64-4097', { length: U64 - 4095n, userVa: 0n, iova: 1n }, 'EINVAL'],
  ['a length that is no multiple of the alignment', { length: 100n, iova: U64 - 100n }, 'EINVAL'],
  ['an iova that is no multiple of it', { iova: 0x1800n, userVa: 1n }, 'EINVAL'],
  ['iova + length beyond 2^64', { iova: U64 - 4095n, length: 8192n, userVa: 1n }, 'EOVERFLOW'],
  ['a reserved range', { iova: 0xfee00000n, userVa: 1n }, 'EINVAL'],
  ['a range that meets the start of a reserved one', { iova: 0xfedff000n, length: 8192n }, 'EINVAL'],
  ['a range that meets the end of a reserved one', { iova: 0xfeeff000n, length: 8192n }, 'EINVAL'],
  ['the first page beyond the aperture', { iova: 1n << 39n }, 'EINVAL'],
  ['what is mapped', { iova: 0x1000n, userVa: 1n }, 'EEXIST'],
  ['a range that meets what is mapped', { iova: 0n, length: 8192n, userVa: 1n }, 'EEXIST'],
  ['an offset of user_va that is no multiple of the alignment', { userVa: 1n }, 'EINVAL'],
  ['half the space or more of the kernel\'s choice', { flags: readWrite, length: 1n << 63n, userVa: 0x1000n }, 'EOVERFLOW'],
  ['a user_va whose alignment is too small', { flags: readWrite, userVa: 0x801n }, 'EINVAL'],
  ['more than fits', { flags: readWrite, length: 1n << 40n, userVa: 0x1000n }, 'ENOSPC'],
  ['absent memory', { userVa: 0x1000n }, 'EFAULT'],
  ['memory that ends too early', { length: 32n * 4096n }, 'EFAULT'],
  ['more memory than any host has', { length: 1n << 36n, iova: 1n << 32n, userVa: 0x1000n }, 'EFAULT'],
])('IOAS_MAP of %s fails in the kernel\'s order and leaves nothing behind', (_, change, errno) => {
  const { vmm, fd, attached, va } = setUp();
  expect(vmm.map(fd, attached, 0x1000, va)).toBeNull();
  const before = vmm.ledger();
  const arg: IoasMap = { flags: fixed, ioasId: attached, userVa: va, length: 4096n, iova: 0x5000n, ...change };
  const iova = arg.iova;
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_MAP', arg)).toBe(errno);
  expect(arg.iova).toBe(iova);
  // Tables that a refused mapping needed stay until the domain goes; nothing else does.
  expect({ ...vmm.ledger(), frames: 0 }).toEqual({ ...before, frames: 0 });
  expect(vmm.unmap(fd, attached, 0n, U64)).toBe(4096n);
});

test('the last page below the aperture and the neighbours of a reserved range can be mapped', () => {
  const { vmm, fd, attached, va } = setUp();
  for (const iova of [(1n << 39n) - 4096n, 0xfedff000n, 0xfef00000n, 0n]) expect(vmm.map(fd, attached, iova, va)).toBeNull();
});

test('without a domain nothing is pinned, any alignment will do and absent memory is accepted', () => {
  const { vmm, fd, free, va } = setUp();
  const { pinned } = vmm.ledger();
  expect(vmm.map(fd, free, 0x1801n, va + 3n, 5n)).toBeNull();
  expect(vmm.map(fd, free, 0x10000n, 0x1000n, 1n << 45n)).toBeNull();
  expect(vmm.ledger().pinned).toBe(pinned);
  expect(vmm.unmap(fd, free, 0x1801n, 5)).toBe(5n);
  expect(vmm.unmap(fd, free, 0n, U64)).toBe(1n << 45n);
});

test('a write mapping of read-only memory is EFAULT, a read mapping of it is not', async () => {
  const { mmap } = await import('#src/kernel/process');
  const { vmm, fd, attached } = setUp();
  const va = mmap(vmm.world.kernel, vmm.process.ref, page, false, null);
  expect(vmm.map(fd, attached, 0x4000, va, page, fixed)).toBe('EFAULT');
  expect(vmm.map(fd, attached, 0x4000, va, page, 5)).toBeNull();
});

test('automatic placement: first fit ascending, as aligned as user_va and length allow, never 0', () => {
  const { vmm, fd, free } = setUp();
  expect(vmm.place(fd, free, 0x7000n, page)).toBe(0x1000n);
  expect(vmm.place(fd, free, 0x7000n, page)).toBe(0x2000n);
  expect(vmm.place(fd, free, 0x10000n, 0x10000)).toBe(0x10000n);
  expect(vmm.place(fd, free, 0x8000n, 0x3000)).toBe(0x4000n);
  expect(vmm.place(fd, free, 0x400000n, 0x800000)).toBe(0x200000n);
  expect(vmm.place(fd, free, 0n, 0x3000)).toBe(0x8000n);
});

test('automatic placement keeps the offset of user_va within its page', () => {
  const { vmm, fd, free } = setUp();
  expect(vmm.place(fd, free, 0x5800n, 0x100)).toBe(0x1800n);
  expect(vmm.place(fd, free, 0x7800n, 0x100)).toBe(0x1900n);
});

test('the allowed list limits the kernel\'s choice alone, and neighbours are one range', () => {
  const { vmm, fd, free, va } = setUp();
  expect(vmm.allow(fd, free, [0x10001000n, 0x10001fffn], [0x10000000n, 0x10000fffn])).toBeNull();
  expect(vmm.place(fd, free, va, 2 * page)).toBe(0x10000000n);
  expect(vmm.place(fd, free, va, page)).toBe('ENOSPC');
  expect(vmm.map(fd, free, 0x5000, va)).toBeNull();
  expect(vmm.allow(fd, free)).toBeNull();
  expect(vmm.place(fd, free, va, page)).not.toBe('ENOSPC');
});

test.each<[string, { reserved?: number; ioasId?: number; ranges: [bigint, bigint][] }, ErrnoName]>([
  ['a reserved field', { reserved: 1, ioasId: 99, ranges: [[1n, 1n]] }, 'EOPNOTSUPP'],
  ['an absent id', { ioasId: 99, ranges: [[1n, 1n]] }, 'ENOENT'],
  ['one byte', { ranges: [[1n, 1n], [0xfee00000n, 0xfee00fffn]] }, 'EINVAL'],
  ['an end before its start', { ranges: [[2n, 1n]] }, 'EINVAL'],
  ['two that overlap', { ranges: [[0x5000n, 0x6fffn], [0x1000n, 0x5000n], [0xfee00000n, 0xfee00fffn]] }, 'EINVAL'],
  ['the same twice', { ranges: [[0x5000n, 0x6fffn], [0x5000n, 0x6fffn]] }, 'EINVAL'],
  ['a reserved range', { ranges: [[0x1000n, 0x1fffn], [0xfeeff000n, 0xfef00fffn]] }, 'EADDRINUSE'],
])('IOAS_ALLOW_IOVAS of %s fails and keeps the old list', (_, change, errno) => {
  const { vmm, fd, attached, va } = setUp();
  expect(vmm.allow(fd, attached, [0x7000000n, 0x7000fffn])).toBeNull();
  const before = vmm.ledger();
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId: attached, ...change })).toBe(errno);
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.place(fd, attached, va, page)).toBe(0x7000000n);
  expect(vmm.place(fd, attached, va, page)).toBe('ENOSPC');
});

test('IOVA_RANGES are the holes of the reserved ranges, whatever is mapped or allowed', () => {
  const { vmm, fd, free, attached, va } = setUp();
  expect(vmm.map(fd, attached, 0x1000, va)).toBeNull();
  expect(vmm.allow(fd, attached, [0x10000n, 0x1ffffn])).toBeNull();
  expect(vmm.ranges(fd, free)).toEqual({ ranges: [[0n, U64]], alignment: 1n });
  expect(vmm.ranges(fd, attached)).toEqual({ ranges: [[0n, 0xfedfffffn], [0xfef00000n, 0x7fffffffffn]], alignment: 0x1000n });
});

test('IOVA_RANGES with too little room writes what fits and the count, and is EMSGSIZE', () => {
  const { vmm, fd, attached } = setUp();
  const arg = { ioasId: attached, numIovas: 1, ranges: [] as [bigint, bigint][], outIovaAlignment: 0n };
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_IOVA_RANGES', arg)).toBe('EMSGSIZE');
  expect(arg).toMatchObject({ numIovas: 2, ranges: [[0n, 0xfedfffffn]], outIovaAlignment: 4096n });
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_IOVA_RANGES', { ...arg, reserved: 1, ioasId: 99 })).toBe('EOPNOTSUPP');
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_IOVA_RANGES', { ...arg, ioasId: 99 })).toBe('ENOENT');
});

test.each<[string, bigint, bigint, ErrnoName]>([
  ['an iova of 2^64-1', U64, 1n, 'EOVERFLOW'],
  ['a length of 2^64-1 from elsewhere', 1n, U64, 'EOVERFLOW'],
  ['length 0', 0x1000n, 0n, 'EINVAL'],
  ['a range beyond 2^64', U64 - 1n, 4n, 'EOVERFLOW'],
  ['nothing', 0x9000n, 0x1000n, 'ENOENT'],
  ['the first half of a mapping', 0x1000n, 0x1000n, 'ENOENT'],
  ['the second half of a mapping', 0x2000n, 0x1000n, 'ENOENT'],
])('IOAS_UNMAP of %s fails, removes nothing and leaves the length', (_, iova, length, errno) => {
  const { vmm, fd, attached, va } = setUp();
  expect(vmm.map(fd, attached, 0x1000, va, 2 * page)).toBeNull();
  const before = vmm.ledger();
  const arg = { ioasId: attached, iova, length };
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_UNMAP', arg)).toBe(errno);
  expect(arg.length).toBe(length);
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.ioctl(fd, 'IOMMU_IOAS_UNMAP', { ...arg, ioasId: 99 })).toBe('ENOENT');
});

test('UNMAP of everything succeeds also when nothing is there', () => {
  const { vmm, fd, attached } = setUp();
  expect(vmm.unmap(fd, attached, 0n, U64)).toBe(0n);
});

test('an UNMAP that meets a mapping that sticks out has removed those before it', () => {
  const { vmm, fd, attached, va, device } = setUp();
  for (const iova of [0x1000, 0x2000, 0x5000]) expect(vmm.map(fd, attached, iova, va)).toBeNull();
  expect(vmm.map(fd, attached, 0x3000, va, 2 * page)).toBeNull();
  expect(vmm.unmap(fd, attached, 0x1000, 0x3000)).toBe('ENOENT');
  expect([0x1000, 0x2000, 0x3000, 0x4000, 0x5000].map((iova) => vmm.sees('A', iova))).toEqual(['fault 6', 'fault 6', 0x77, 0x77, 0x77]);
  expect(vmm.ledger().pinned).toBe(3);
  expect(vmm.unmap(fd, attached, 0x800, 0x5800)).toBe(3n * 4096n);
  expect(vmm.detach(device)).toBeNull();
});
