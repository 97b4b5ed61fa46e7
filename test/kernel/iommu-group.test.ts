import { Cursor, History, historyBytes } from '#hostmem/history';
import { fail } from '#src/kernel/errno';
import { GroupMoved, GroupMoves } from '#src/kernel/events';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { close, ioctl } from '#src/kernel/syscalls';
import { operationsOf, variant } from '#src/kernel/variant';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

/** A group of two on an IOAS, and a kernel whose driver refuses every domain but blocking for the second member. */
function setUp() {
  const vmm = new Vmm();
  const { world } = vmm;
  const group = world.group('A', 'B');
  const fd = vmm.iommufd();
  const ioas = [1, 2].map((tag) => {
    const id = vmm.ioas(fd);
    vmm.map(fd, id, 0x1000, vmm.process.memory(page, tag));
    return id;
  });
  const fds = group.vfio.map((number) => vmm.process.bind(number, fd));
  const refuses = variant({
    mistake: 'a driver that refuses',
    source: 'test',
    caughtBy: null,
    driver: {
      attach(kernel, domain, pciFunction) {
        if (pciFunction === world.directory['B'] && domain !== kernel.driver.blockedDomain) {
          // As VT-d does it: translation is blocked before it is known whether the new domain will do.
          linux72.driver.attach(kernel, kernel.driver.blockedDomain, pciFunction);
          fail('ENOSPC', 'no domain id is left');
        }
        linux72.driver.attach(kernel, domain, pciFunction);
      },
    },
  });
  const refusing = new Kernel(world.host, operationsOf(refuses), world.kernel.driver);
  refusing.enter(vmm.process.ref);
  return { vmm, fd, fds, ioas, refusing };
}

function events(history: History): [string, ...number[]][] {
  const cursor = new Cursor(history.words);
  return Array.from({ length: history.length(0) }, (_, index): [string, ...number[]] => {
    cursor.at = history.at(0, index);
    if (cursor.kind === GroupMoves.kind) return ['moves', GroupMoves.get.oldRoot(cursor), GroupMoves.get.newRoot(cursor)];
    return cursor.kind === GroupMoved.kind ? ['moved', GroupMoved.get.root(cursor)] : ['other'];
  }).filter(([what]) => what !== 'other');
}

test('a replace that one member refuses puts the others back, tells so and leaves nothing; the one that refused is blocked (K7)', () => {
  const { vmm, fds, ioas, refusing } = setUp();
  for (const device of fds) vmm.attach(device, ioas[0]!);
  const before = vmm.ledger();
  const history = new History(new SharedArrayBuffer(historyBytes(1, 64)), 1, 64);
  vmm.world.host.kernel.history = history;
  const arg = { argsz: 16, flags: 0, ptId: ioas[1]! };
  expect(errnoOf(() => ioctl(refusing, fds[0]!, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', arg))).toBe('ENOSPC');
  expect(vmm.ledger()).toEqual(before);
  const [moves, moved] = events(history);
  expect([moves?.[0], moved]).toEqual(['moves', ['moved', moves![1]]]);
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual([1, 'fault 2']);
  expect(vmm.attach(fds[0]!, ioas[1]!)).toBeTypeOf('number');
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual([2, 2]);
});

test('a first attach that a member refuses leaves the group blocked and free for the next', () => {
  const { vmm, fds, ioas, refusing } = setUp();
  const before = vmm.ledger();
  const arg = { argsz: 16, flags: 0, ptId: ioas[1]! };
  expect(errnoOf(() => ioctl(refusing, fds[0]!, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', arg))).toBe('ENOSPC');
  expect(vmm.ledger()).toEqual(before);
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual(['fault 2', 'fault 2']);
  expect(vmm.attach(fds[1]!, ioas[0]!)).toBeTypeOf('number');
});

test('teardown cannot fail: a member that refuses the default domain is parked in blocking', () => {
  const { vmm, fds, ioas, refusing } = setUp();
  vmm.attach(fds[0]!, ioas[0]!);
  for (const device of fds) expect(errnoOf(() => close(refusing, device))).toBeNull();
  // A has its empty default domain, where nothing is mapped; B has none.
  expect([vmm.sees('A', 0x1000), vmm.sees('B', 0x1000)]).toEqual(['fault 6', 'fault 2']);
  expect(vmm.ledger().pinned).toBe(0);
});
