/** IOAS_COPY: shared pages, sub-ranges, several areas, and everything that refuses it. */
import type { IoasCopy } from '#src/kernel/ioas-copy';
import { munmap } from '#src/kernel/process';
import type { ErrnoName } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { fixed, page, readWrite, U64, Vmm } from './vmm.ts';

/** IOAS 1 maps tagged pages: 0x10000 to 0x13fff (tags 1 to 4) and, back to back, 0x14000 and 0x15000 (5, 6). IOAS 2 is empty; A is bound. */
function setUp() {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const [from, to] = [vmm.ioas(fd), vmm.ioas(fd)];
  const pages = [6, 5, 4, 3, 2, 1].map((tag) => vmm.process.memory(page, tag)).toReversed();
  for (const [index, va] of pages.entries()) vmm.map(fd, from, 0x10000 + index * page, va);
  const device = vmm.process.bind(group.vfio[0]!, fd);
  const copy = (change: Partial<IoasCopy>): bigint | ErrnoName => {
    const arg = { flags: fixed, dstIoasId: to, srcIoasId: from, length: 0x1000n, dstIova: 0x100000n, srcIova: 0x10000n, ...change };
    return vmm.ioctl(fd, 'IOMMU_IOAS_COPY', arg) ?? arg.dstIova;
  };
  return { vmm, fd, from, to, device, copy };
}

test.each<[string, Partial<IoasCopy>, ErrnoName]>([
  ['an unknown flag', { flags: 8, length: U64, srcIoasId: 9 }, 'EOPNOTSUPP'],
  ['a length of 2^64-1', { length: U64, srcIoasId: 9 }, 'EOVERFLOW'],
  ['a source at 2^64-1', { srcIova: U64 }, 'EOVERFLOW'],
  ['a destination at 2^64-1', { dstIova: U64 }, 'EOVERFLOW'],
  ['neither read nor write', { flags: 1, srcIoasId: 9 }, 'EINVAL'],
  ['no such source', { srcIoasId: 9, length: 0n }, 'ENOENT'],
  ['no length', { length: 0n, dstIoasId: 9 }, 'EINVAL'],
  ['a source that wraps', { srcIova: U64 - 0xfffn, length: 0x2000n, dstIoasId: 9 }, 'EOVERFLOW'],
  ['a source before any mapping', { srcIova: 0xf000n }, 'ENOENT'],
  ['a source that ends in a hole', { srcIova: 0x15000n, length: 0x2000n, dstIoasId: 9 }, 'ENOENT'],
  ['no such destination', { dstIoasId: 9 }, 'ENOENT'],
  ['a destination that is taken', { dstIoasId: 1, dstIova: 0x15000n, length: 0x2000n }, 'EEXIST'],
])('COPY with %s is %s and leaves nothing behind', (_, change, errno) => {
  const { vmm, copy } = setUp();
  const before = vmm.ledger();
  expect(copy(change)).toBe(errno);
  expect(vmm.ledger()).toEqual(before);
});

test('37: a copy shares the pages: pinned and accounted once, and served on when the source is gone', () => {
  const { vmm, fd, from, to, device, copy } = setUp();
  vmm.attach(device, to);
  expect(vmm.ledger().pinned).toBe(0);
  expect(copy({ length: 0x1000n })).toBe(0x100000n);
  expect(vmm.ledger().pinned).toBe(1);
  expect(copy({ dstIova: 0x200000n, length: 0x1000n })).toBe(0x200000n);
  expect(vmm.ledger().pinned).toBe(1);
  expect(vmm.unmap(fd, from, 0, U64)).toBe(0x6000n);
  expect(vmm.destroy(fd, from)).toBe(null);
  expect([vmm.sees('A', 0x100000), vmm.sees('A', 0x200000)]).toEqual([1, 1]);
  vmm.unmap(fd, to, 0x100000, page);
  expect([vmm.sees('A', 0x100000), vmm.sees('A', 0x200000)]).toEqual(['fault 6', 1]);
  vmm.unmap(fd, to, 0x200000, page);
  expect(vmm.ledger().pinned).toBe(0);
});

test('a copy of a part pins that part alone', () => {
  const { vmm, fd, from, to, device, copy } = setUp();
  const va = vmm.process.memory(8 * page, 9);
  vmm.map(fd, from, 0x40000, va, 8 * page);
  vmm.attach(device, to);
  expect(copy({ srcIova: 0x42000n, length: 0x3000n })).toBe(0x100000n);
  expect(vmm.ledger().pinned).toBe(3);
  expect(copy({ srcIova: 0x41000n, length: 0x3000n, dstIova: 0x200000n })).toBe(0x200000n);
  expect(vmm.ledger().pinned).toBe(4);
  expect(vmm.unmap(fd, to, 0x100000, 3 * page)).toBe(0x3000n);
  expect(vmm.ledger().pinned).toBe(3);
  expect([vmm.sees('A', 0x200000), vmm.sees('A', 0x202000)]).toEqual([9, 9]);
});

test('a copy over several areas is as many, side by side, and a part of it cannot be cut', () => {
  const { vmm, fd, to, device, copy } = setUp();
  vmm.attach(device, to);
  expect(copy({ srcIova: 0x13000n, length: 0x3000n })).toBe(0x100000n);
  expect([0x100000, 0x101000, 0x102000].map((iova) => vmm.sees('A', iova))).toEqual([4, 5, 6]);
  expect(vmm.unmap(fd, to, 0x101000, page)).toBe(0x1000n);
  expect([0x100000, 0x101000, 0x102000].map((iova) => vmm.sees('A', iova))).toEqual([4, 'fault 6', 6]);
});

test('the kernel chooses the iova, aligned as the source\'s memory is, and a copy within one IOAS is a second mapping', () => {
  const { vmm, fd, from, copy } = setUp();
  expect(copy({ flags: readWrite, dstIoasId: from, dstIova: 0n })).toBe(0x1000n);
  expect(vmm.unmap(fd, from, 0x1000, page)).toBe(0x1000n);
});

test('what was mapped read-only cannot be copied writeable, with a domain or without', () => {
  const { vmm, fd, from, to, device, copy } = setUp();
  vmm.map(fd, from, 0x40000, vmm.process.memory(page), page, 5);
  expect(copy({ srcIova: 0x40000n })).toBe('EPERM');
  expect(copy({ srcIova: 0x40000n, flags: 5 })).toBe(0x100000n);
  vmm.attach(device, to);
  expect(copy({ srcIova: 0x40000n, dstIova: 0x200000n })).toBe('EPERM');
  // The second of two areas is the one that refuses: the first goes again.
  vmm.map(fd, from, 0x41000, vmm.process.memory(page), page, fixed);
  const before = vmm.ledger();
  expect(copy({ srcIova: 0x40000n, length: 0x2000n, dstIova: 0x300000n })).toBe('EPERM');
  expect(vmm.ledger()).toEqual(before);
});

test('a copy of memory that is gone is EFAULT when it has to be pinned, and takes back what was filled', () => {
  const { vmm, fd, from, to, device, copy } = setUp();
  const va = vmm.process.memory(page, 8);
  vmm.map(fd, from, 0x16000, va);
  vmm.enter();
  munmap(vmm.world.kernel, vmm.process.ref, va, 4096n);
  vmm.attach(device, to);
  const before = vmm.ledger();
  expect(copy({ srcIova: 0x15000n, length: 0x2000n })).toBe('EFAULT');
  expect(vmm.ledger()).toMatchObject({ objects: before.objects, pinned: 0 });
  expect(vmm.sees('A', 0x100000)).toBe('fault 6');
});
