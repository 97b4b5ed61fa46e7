import type { Ref } from '#hostmem/object';
import { File } from '#src/kernel/open-file';
import { getObject, Iommufd, IommufdObject, Kind, lockObject, putObject, type ObjectRef } from '#src/kernel/objects';
import { Process } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { runWith } from './at-point.ts';
import { errnoOf, Vmm } from './vmm.ts';

function setUp() {
  const vmm = new Vmm();
  const group = vmm.world.group('A', 'B');
  const fd = vmm.iommufd();
  const memory = vmm.world.host.kernel;
  const iommufd = File.body.peek(memory, Process.files.get(memory, vmm.process.ref, fd - 2)) as Ref<'Iommufd'>;
  const find = (id: number) => Iommufd.objects.get(memory, iommufd, id) as ObjectRef;
  const counts = (id: number) => [IommufdObject.users.peek(memory, find(id)), IommufdObject.waitCount.load(memory, find(id))];
  return { vmm, group, fd, memory, iommufd, find, counts };
}

test('ids are the lowest free ones, whatever kind they named before', () => {
  const { vmm, group, fd } = setUp();
  expect([vmm.ioas(fd), vmm.ioas(fd), vmm.ioas(fd)]).toEqual([1, 2, 3]);
  expect([vmm.destroy(fd, 1), vmm.destroy(fd, 2)]).toEqual([null, null]);
  const device = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(device, fd)).toBe(1);
  expect(vmm.attach(device, 3)).toBe(2);
  expect(vmm.ioas(fd)).toBe(4);
  expect(vmm.detach(device)).toBeNull();
  expect(vmm.ioas(fd)).toBe(2);
});

test('a call that fails on its way gives its id back', () => {
  const { vmm, group, fd } = setUp();
  const id = vmm.ioas(fd);
  expect(vmm.map(fd, id, 0xfee00000, vmm.process.memory(4096))).toBeNull();
  const device = vmm.openVfio(group.vfio[0]!);
  expect(vmm.bindTo(device, fd)).toBe(2);
  expect(vmm.attach(device, id)).toBe('EADDRINUSE');
  expect(vmm.ioas(fd)).toBe(3);
});

test('ids of one context say nothing to another', () => {
  const { vmm, fd } = setUp();
  const other = vmm.iommufd();
  expect([vmm.ioas(fd), vmm.destroy(other, 1), vmm.ioas(other)]).toEqual([1, 'ENOENT', 1]);
});

test('users count the table, HWPTs and attached devices', () => {
  const { vmm, group, fd, counts } = setUp();
  const id = vmm.ioas(fd);
  const fds = group.vfio.map((number) => vmm.process.bind(number, fd));
  expect([counts(id), counts(2), counts(3)]).toEqual([[1, 1], [2, 1], [2, 1]]);
  const hwpt = vmm.attach(fds[0]!, id) as number;
  expect([counts(id), counts(hwpt), counts(2)]).toEqual([[2, 1], [2, 1], [3, 1]]);
  vmm.attach(fds[1]!, id);
  expect(counts(hwpt)).toEqual([3, 1]);
  const second = vmm.ioas(fd);
  const moved = vmm.attach(fds[0]!, second) as number;
  expect([counts(id), counts(second), counts(moved)]).toEqual([[1, 1], [2, 1], [3, 1]]);
});

test('DESTROY of what a call holds is EBUSY and changes nothing; the put makes it destroyable', () => {
  const { vmm, fd, iommufd, counts } = setUp();
  const id = vmm.ioas(fd);
  const { kernel } = vmm.world;
  const held = getObject(kernel, iommufd, id, Kind.IOAS);
  expect([vmm.destroy(fd, id), counts(id)]).toEqual(['EBUSY', [2, 2]]);
  expect(errnoOf(() => getObject(kernel, iommufd, id, Kind.HWPT))).toBe('ENOENT');
  putObject(kernel, held);
  expect([counts(id), vmm.destroy(fd, id), vmm.destroy(fd, id)]).toEqual([[1, 1], null, 'ENOENT']);
});

test('A10: an automatic HWPT that somebody holds survives its last detach, and stays destroyable', () => {
  const { vmm, group, fd, iommufd, counts } = setUp();
  const { kernel } = vmm.world;
  const id = vmm.ioas(fd);
  const device = vmm.process.bind(group.vfio[0]!, fd);
  const hwpt = vmm.attach(device, id) as number;
  const held = getObject(kernel, iommufd, hwpt, Kind.HWPT);
  expect(vmm.detach(device)).toBeNull();
  expect([counts(hwpt), vmm.destroy(fd, hwpt), vmm.destroy(fd, id)]).toEqual([[2, 2], 'EBUSY', 'EBUSY']);
  putObject(kernel, held);
  expect([counts(hwpt), vmm.destroy(fd, hwpt), vmm.destroy(fd, id)]).toEqual([[1, 1], null, null]);
});

test('a HWPT that survived is found again by the next attach', () => {
  const { vmm, group, fd, iommufd } = setUp();
  const { kernel } = vmm.world;
  const id = vmm.ioas(fd);
  const device = vmm.process.bind(group.vfio[0]!, fd);
  const hwpt = vmm.attach(device, id) as number;
  const held = getObject(kernel, iommufd, hwpt, Kind.HWPT);
  vmm.detach(device);
  putObject(kernel, held);
  expect(vmm.attach(device, id)).toBe(hwpt);
  expect([vmm.detach(device), vmm.destroy(fd, hwpt), vmm.destroy(fd, id)]).toEqual([null, 'ENOENT', null]);
});

test('unbind waits for a call with the device\'s id and lets no other in; it cannot fail', () => {
  const { vmm, group, fd, memory, iommufd, find } = setUp();
  const { kernel } = vmm.world;
  const device = vmm.process.bind(group.vfio[0]!, fd);
  const target = find(1);
  const held = getObject(kernel, iommufd, 1, Kind.DEVICE);
  const seen: unknown[] = [];
  const callEnds = (): void => {
    seen.push(IommufdObject.waitCount.load(memory, target), IommufdObject.users.peek(memory, target));
    putObject(kernel, held);
    seen.push(IommufdObject.waitCount.load(memory, target), lockObject(kernel, target), errnoOf(() => getObject(kernel, iommufd, 1, Kind.ANY)));
    seen.push(IommufdObject.users.peek(memory, target), vmm.destroy(fd, 1));
  };
  runWith(memory, 'WAIT IommufdObject.waitCount', 1, callEnds, () => vmm.close(device));
  expect(seen).toEqual([1, 3, 0, false, 'ENOENT', 2, 'EBUSY']);
  expect(vmm.destroy(fd, 1)).toBe('ENOENT');
});
