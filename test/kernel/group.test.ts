/** What Linux 7.2 answers for groups, step by step as recorded; the numbers are those of the list of recorded steps. */
import { expect, test } from 'vitest';
import { page, U64, Vmm } from './vmm.ts';

const src = 0x10000000;
const blocked = 'fault 2';

/** Four IOASes that map a page of their own tag (1 to 4) at `src`; a group of three and a lone device, bound. */
function setUp() {
  const vmm = new Vmm();
  const group = vmm.world.group('A', 'B', 'C');
  const lone = vmm.world.group('L');
  const fd = vmm.iommufd();
  const ioas = [1, 2, 3, 4].map((tag) => {
    const id = vmm.ioas(fd);
    expect(vmm.map(fd, id, src, vmm.process.memory(page, tag))).toBeNull();
    return id;
  }) as [number, number, number, number];
  const fds = [...group.vfio, ...lone.vfio].map((number) => vmm.openVfio(number)) as [number, number, number, number];
  const bind = (which: number) => vmm.bindTo(fds[which]!, fd);
  const seen = (names: string = 'AB') => [...names].map((name) => vmm.sees(name, src));
  return { vmm, fd, ioas, fds, bind, seen, group, lone };
}

function bindTwo() {
  const all = setUp();
  expect([all.bind(0), all.bind(1)]).toEqual([5, 6]);
  return all;
}

test('1, 3, 4, 5: the first attach moves the whole group, the second only joins', () => {
  const { vmm, fd, ioas, fds, seen } = bindTwo();
  expect(seen()).toEqual([blocked, blocked]);
  expect(vmm.ranges(fd, ioas[0])).toEqual({ ranges: [[0n, U64]], alignment: 1n });
  expect(vmm.attach(fds[0], ioas[0])).toBe(7);
  expect(seen()).toEqual([1, 1]);
  expect(vmm.ranges(fd, ioas[0])).toEqual({ ranges: [[0n, 0xfedfffffn], [0xfef00000n, 0x7fffffffffn]], alignment: 0x1000n });
  expect(vmm.attach(fds[1], ioas[0])).toBe(7);
  expect(seen()).toEqual([1, 1]);
});

test('6 to 12: a replace moves every member, to the same IOAS it is nothing, and the old HWPT goes', () => {
  const { vmm, fd, ioas, fds, seen } = bindTwo();
  for (const device of [fds[0], fds[1], fds[0]]) expect(vmm.attach(device, ioas[0])).toBe(7);
  expect(vmm.attach(fds[0], ioas[1])).toBe(8);
  expect(seen()).toEqual([2, 2]);
  expect(vmm.destroy(fd, 7)).toBe('ENOENT');
  expect(vmm.ranges(fd, ioas[0])).toEqual({ ranges: [[0n, U64]], alignment: 1n });
  expect(vmm.attach(fds[1], ioas[1])).toBe(8);
  expect(vmm.attach(fds[0], ioas[2])).toBe(7);
  expect(seen()).toEqual([3, 3]);
  expect(vmm.attach(fds[1], ioas[0])).toBe(8);
  expect(seen()).toEqual([1, 1]);
  expect([vmm.destroy(fd, ioas[1]), vmm.destroy(fd, ioas[2]), vmm.destroy(fd, ioas[0])]).toEqual([null, null, 'EBUSY']);
});

test('13 to 18: a member that detached follows the others; the last one blocks the group', () => {
  const { vmm, fd, ioas, fds, seen } = bindTwo();
  for (const device of [fds[0], fds[1]]) vmm.attach(device, ioas[0]);
  expect(vmm.detach(fds[0])).toBeNull();
  expect(seen()).toEqual([1, 1]);
  expect(vmm.map(fd, ioas[0], 0x30000000, vmm.process.memory(page, 9))).toBeNull();
  expect(vmm.sees('A', 0x30000000)).toBe(9);
  expect(vmm.detach(fds[0])).toBeNull();
  const hwpt = vmm.attach(fds[1], ioas[3]) as number;
  expect(seen()).toEqual([4, 4]);
  expect(vmm.attach(fds[0], ioas[0])).toBe('EINVAL');
  expect(vmm.attach(fds[0], ioas[3])).toBe(hwpt);
  for (const device of [fds[0], fds[1]]) expect(vmm.detach(device)).toBeNull();
  expect(seen()).toEqual([blocked, blocked]);
  expect(vmm.destroy(fd, hwpt)).toBe('ENOENT');
  expect(vmm.destroy(fd, ioas[3])).toBeNull();
});

test('19: a member cannot attach to another IOAS than its group', () => {
  const { vmm, ioas, fds, seen } = bindTwo();
  vmm.attach(fds[0], ioas[0]);
  const before = vmm.ledger();
  expect(vmm.attach(fds[1], ioas[1])).toBe('EINVAL');
  expect(vmm.ledger()).toEqual(before);
  expect(seen()).toEqual([1, 1]);
});

test('an HWPT can be attached by its own id', () => {
  const { vmm, ioas, fds } = bindTwo();
  const hwpt = vmm.attach(fds[0], ioas[0]) as number;
  expect(vmm.attach(fds[1], hwpt)).toBe(hwpt);
});

test('22: ATTACH to nothing is ENOENT and to a device EINVAL, attached or not', () => {
  const { vmm, ioas, fds, seen } = bindTwo();
  const refused = () => [0, 99999, 5, 6].map((id) => vmm.attach(fds[0], id));
  const before = vmm.ledger();
  expect(refused()).toEqual(['ENOENT', 'ENOENT', 'EINVAL', 'EINVAL']);
  expect(vmm.ledger()).toEqual(before);
  vmm.attach(fds[0], ioas[0]);
  expect(refused()).toEqual(['ENOENT', 'ENOENT', 'EINVAL', 'EINVAL']);
  expect(seen()).toEqual([1, 1]);
});

test('23, 24, 28: a group belongs to one iommufd, until the last of its members is closed', () => {
  const { vmm, fd, fds, group, ioas } = bindTwo();
  const other = vmm.iommufd();
  expect(vmm.bindTo(fds[2], other)).toBe('EPERM');
  vmm.attach(fds[0], ioas[0]);
  expect(vmm.bindTo(fds[2], other)).toBe('EPERM');
  expect([vmm.bindTo(fds[0], fd), vmm.bindTo(fds[0], other)]).toEqual(['EINVAL', 'EINVAL']);
  vmm.close(fds[0]);
  const again = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(again, other)).toBe('EPERM');
  vmm.close(fds[1]);
  expect(vmm.bindTo(again, other)).toBe(1);
});

test('30 to 32: closing an attached member leaves its mate alone; it sees what the mate sees when it is bound again', () => {
  const { vmm, fd, ioas, fds, seen, group } = bindTwo();
  for (const device of [fds[0], fds[1]]) vmm.attach(device, ioas[0]);
  vmm.close(fds[0]);
  expect(seen('B')).toEqual([1]);
  expect(vmm.destroy(fd, 5)).toBe('ENOENT');
  const again = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(again, fd)).toBe(5);
  expect(seen()).toEqual([1, 1]);
  expect([vmm.attach(again, ioas[1]), vmm.attach(again, ioas[0])]).toEqual(['EINVAL', 7]);
});

test('33: a closed iommufd lives on in its bound devices, and goes with the last of them', () => {
  const vmm = new Vmm();
  const [number] = vmm.world.group('A').vfio;
  const va = vmm.process.memory(page, 2);
  // The list of descriptors and the one of regions have their nodes already.
  vmm.iommufd();
  const before = vmm.ledger();
  const fd = vmm.iommufd();
  const id = vmm.ioas(fd);
  vmm.map(fd, id, src, va);
  const device = vmm.openVfio(number!);
  vmm.bindTo(device, fd);
  vmm.attach(device, id);
  vmm.close(fd);
  expect(vmm.sees('A', src)).toBe(2);
  expect(vmm.detach(device)).toBeNull();
  expect(vmm.sees('A', src)).toBe(blocked);
  expect(vmm.attach(device, id)).toBeTypeOf('number');
  expect(vmm.sees('A', src)).toBe(2);
  vmm.close(device);
  expect(vmm.ledger()).toEqual(before);
});

test('34 to 36: after a move the old IOAS can be mapped and unmapped, and nobody sees it', () => {
  const { vmm, fd, ioas, fds, seen } = bindTwo();
  for (const device of [fds[0], fds[1]]) vmm.attach(device, ioas[0]);
  vmm.attach(fds[0], ioas[1]);
  const extra = 0x30000000;
  expect(vmm.map(fd, ioas[0], extra, vmm.process.memory(page, 8))).toBeNull();
  expect([vmm.sees('A', extra), vmm.sees('B', extra)]).toEqual(['fault 6', 'fault 6']);
  expect(vmm.map(fd, ioas[1], extra, vmm.process.memory(page, 9))).toBeNull();
  expect([vmm.sees('A', extra), vmm.sees('B', extra)]).toEqual([9, 9]);
  expect(vmm.unmap(fd, ioas[0], src, page)).toBe(4096n);
  expect(seen()).toEqual([2, 2]);
  expect(vmm.unmap(fd, ioas[1], src, page)).toBe(4096n);
  expect(seen()).toEqual(['fault 6', 'fault 6']);
});

test('29, 38, 39: what is in use cannot be destroyed', () => {
  const { vmm, fd, ioas, fds } = bindTwo();
  expect(vmm.destroy(fd, 5)).toBe('EBUSY');
  const hwpt = vmm.attach(fds[0], ioas[0]) as number;
  vmm.attach(fds[1], ioas[0]);
  expect([ioas[0], hwpt, 5].map((id) => vmm.destroy(fd, id))).toEqual(['EBUSY', 'EBUSY', 'EBUSY']);
  vmm.detach(fds[0]);
  expect([ioas[0], hwpt].map((id) => vmm.destroy(fd, id))).toEqual(['EBUSY', 'EBUSY']);
  vmm.close(fds[0]);
  expect(vmm.destroy(fd, 5)).toBe('ENOENT');
});

test('40, 41: an IOAS that maps the interrupt window is refused, and everything is as it was', () => {
  const { vmm, fd, ioas, fds, seen } = bindTwo();
  expect(vmm.map(fd, ioas[3], 0xfee00000, vmm.process.memory(page))).toBeNull();
  let before = vmm.ledger();
  expect(vmm.attach(fds[0], ioas[3])).toBe('EADDRINUSE');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.ranges(fd, ioas[3])).toEqual({ ranges: [[0n, U64]], alignment: 1n });
  expect(seen()).toEqual([blocked, blocked]);
  for (const device of [fds[0], fds[1]]) vmm.attach(device, ioas[0]);
  before = vmm.ledger();
  expect([vmm.attach(fds[0], ioas[3]), vmm.attach(fds[1], ioas[3])]).toEqual(['EADDRINUSE', 'EADDRINUSE']);
  expect(vmm.ledger()).toEqual(before);
  expect(seen()).toEqual([1, 1]);
});

test('42: an IOAS that maps beyond the aperture is refused, attached or replaced', () => {
  const { vmm, fd, ioas, fds, seen } = bindTwo();
  expect(vmm.map(fd, ioas[3], 1n << 50n, vmm.process.memory(page))).toBeNull();
  let before = vmm.ledger();
  expect(vmm.attach(fds[0], ioas[3])).toBe('EADDRINUSE');
  expect(vmm.ledger()).toEqual(before);
  expect(seen()).toEqual([blocked, blocked]);
  vmm.attach(fds[0], ioas[0]);
  before = vmm.ledger();
  expect(vmm.attach(fds[0], ioas[3])).toBe('EADDRINUSE');
  expect(vmm.ledger()).toEqual(before);
  expect(vmm.ranges(fd, ioas[3])).toEqual({ ranges: [[0n, U64]], alignment: 1n });
  expect(seen()).toEqual([1, 1]);
});

test('an IOAS with a mapping that is not page aligned is refused', () => {
  const { vmm, fd, ioas, fds } = bindTwo();
  const va = vmm.process.memory(page);
  for (const [iova, offset, length] of [[0x1800, 0, page], [0x1000, 0, 0x800], [0x1000, 0x800, page]] as const) {
    expect(vmm.map(fd, ioas[3], iova, va + BigInt(offset), length)).toBeNull();
    expect(vmm.attach(fds[0], ioas[3])).toBe('EADDRINUSE');
    expect(vmm.unmap(fd, ioas[3], iova, length)).toBe(BigInt(length));
  }
  expect(vmm.attach(fds[0], ioas[3])).toBeTypeOf('number');
});

test('43, 45, 46: the interrupt window and the allowed list exclude each other', () => {
  const { vmm, fd, ioas, fds } = bindTwo();
  vmm.attach(fds[0], ioas[0]);
  expect(vmm.allow(fd, ioas[0], [0xfe000000n, 0xfeffffffn])).toBe('EADDRINUSE');
  expect(vmm.allow(fd, ioas[1], [0xfe000000n, 0xfeffffffn])).toBeNull();
  expect(vmm.attach(fds[0], ioas[1])).toBe('EADDRINUSE');
  expect(vmm.allow(fd, ioas[1])).toBeNull();
  expect(vmm.attach(fds[0], ioas[1])).toBeTypeOf('number');
});

test('47: the kernel chooses within the allowed list, which nobody else is told of', () => {
  const { vmm, fd, ioas, fds } = bindTwo();
  expect(vmm.allow(fd, ioas[0], [0x10000000n, 0x1fffffffn])).toBeNull();
  vmm.attach(fds[0], ioas[0]);
  const base = vmm.process.memory(64 * page);
  const va = (base + 0xffffn) & ~0xffffn;
  expect(vmm.place(fd, ioas[0], va, page)).toBe(0x10001000n);
  expect(vmm.place(fd, ioas[0], va, 0x10000)).toBe(0x10010000n);
  expect(vmm.map(fd, ioas[0], 0x5000, va)).toBeNull();
  expect(vmm.ranges(fd, ioas[0]).ranges).toEqual([[0n, 0xfedfffffn], [0xfef00000n, 0x7fffffffffn]]);
});

test('53, 54: a device of another group on the same HWPT stays where it is', () => {
  const { vmm, ioas, fds, seen, bind } = bindTwo();
  bind(3);
  const hwpt = vmm.attach(fds[0], ioas[0]);
  vmm.attach(fds[1], ioas[0]);
  expect(vmm.attach(fds[3], ioas[0])).toBe(hwpt);
  vmm.attach(fds[0], ioas[1]);
  expect(seen('ABL')).toEqual([2, 2, 1]);
  vmm.attach(fds[3], ioas[1]);
  for (const device of [fds[0], fds[1]]) vmm.detach(device);
  expect(seen('ABL')).toEqual([blocked, blocked, 2]);
});

test('55: a third member follows, attached or not', () => {
  const { vmm, ioas, fds, seen, bind } = bindTwo();
  bind(2);
  for (const device of [fds[0], fds[1], fds[2]]) vmm.attach(device, ioas[0]);
  vmm.detach(fds[2]);
  vmm.attach(fds[0], ioas[1]);
  expect(seen('ABC')).toEqual([2, 2, 2]);
  expect(vmm.attach(fds[2], ioas[0])).toBe('EINVAL');
  expect(vmm.attach(fds[2], ioas[1])).toBeTypeOf('number');
  vmm.attach(fds[2], ioas[0]);
  expect(seen('ABC')).toEqual([1, 1, 1]);
});

test('61: an iova that nothing maps faults, above the width of the tables too', () => {
  const { vmm, ioas, fds } = bindTwo();
  vmm.attach(fds[0], ioas[0]);
  const engine = vmm.dma('A');
  expect([engine.read(0, 0x50000000, 64), engine.write(0, 0x50000000, 64), engine.read(0x80, 0, 64)]).toEqual([6, 5, 4]);
});

test('63: memory that is unmapped while pinned stays what the device sees', async () => {
  const { munmap, mmap, userAddress } = await import('#src/kernel/process');
  const { fill } = await import('#hostmem/atomics');
  const { vmm, fd, ioas, fds } = bindTwo();
  const { kernel, host } = vmm.world;
  const va = vmm.process.memory(page, 0x61);
  const frames = host.frames.inUse;
  vmm.attach(fds[0], ioas[0]);
  expect(vmm.map(fd, ioas[0], 0x1000, va)).toBeNull();
  const attached = host.frames.inUse;
  munmap(kernel, vmm.process.ref, va, 4096n);
  expect(host.frames.inUse).toBe(attached);
  mmap(kernel, vmm.process.ref, page, true, va);
  fill(host.ram, userAddress(kernel, vmm.process.ref, va), page, 0x62);
  expect(vmm.sees('A', 0x1000)).toBe(0x61);
  vmm.detach(fds[0]);
  expect(host.frames.inUse).toBe(frames);
});

test('69: MAP without a domain pins nothing, the first attach pins, the last detach unpins', () => {
  const { vmm, fd, ioas, fds } = bindTwo();
  vmm.map(fd, ioas[0], 0x20000000, vmm.process.memory(page));
  const before = vmm.ledger();
  expect(before.pinned).toBe(0);
  vmm.attach(fds[0], ioas[0]);
  expect(vmm.ledger().pinned).toBe(2);
  vmm.attach(fds[1], ioas[0]);
  expect(vmm.ledger().pinned).toBe(2);
  vmm.detach(fds[0]);
  expect(vmm.ledger().pinned).toBe(2);
  vmm.detach(fds[1]);
  expect(vmm.ledger()).toEqual(before);
});

test('a page that two IOASes map is pinned and accounted twice', () => {
  const { vmm, fd, ioas, fds, bind } = bindTwo();
  bind(3);
  const va = vmm.process.memory(page);
  for (const id of [ioas[0], ioas[1]]) vmm.map(fd, id, 0x1000, va);
  vmm.attach(fds[0], ioas[0]);
  vmm.attach(fds[3], ioas[1]);
  expect(vmm.ledger().pinned).toBe(4);
  vmm.unmap(fd, ioas[0], 0x1000, page);
  expect([vmm.ledger().pinned, vmm.sees('L', 0x1000)]).toEqual([3, 0]);
});
