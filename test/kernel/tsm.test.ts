/** The PCI TSM core's answers (SEMANTICS f.4, SEEDS 003), one thread at a time. */
import { liveObjects, NULL } from '#hostmem/object';
import { SecurityManager } from '#src/actors/security-manager';
import { Request, RequestScope } from '#src/drivers/tsm/link-tsm';
import { PciFunction } from '#src/hardware/function';
import { Tdi, TdiState } from '#src/hardware/tdisp';
import { close } from '#src/kernel/syscalls';
import { bindInterface } from '#src/kernel/tsm';
import { expect, test } from 'vitest';
import { confidentialWorld } from './confidential-world.ts';
import { errnoOf } from './vmm.ts';

function managers() {
  const all = confidentialWorld();
  const memory = all.host.kernel;
  const tdi = PciFunction.tdi.peek(memory, all.world.directory['A']!);
  return { ...all, memory, state: () => Tdi.state.peek(memory, tdi), red: new SecurityManager(all.red, 'A'), blue: new SecurityManager(all.blue, 'A') };
}

test('an interface has one VM: binding to it again is nothing, to another one EBUSY, until it is unbound', () => {
  const { red, blue } = managers();
  expect([red.bind('red'), red.bind('red'), blue.bind('blue')]).toEqual([null, null, 'EBUSY']);
  expect([red.unbind(), red.unbind(), blue.bind('blue')]).toEqual([null, null, null]);
});

test('without a VM, and without a connection, EINVAL', () => {
  const { kernel, device, red } = managers();
  expect(errnoOf(() => bindInterface(kernel, device, NULL, 0))).toBe('EINVAL');
  expect([red.disconnect(), red.bind('red'), red.disconnect(), red.unbind()]).toEqual([null, 'EINVAL', 'EINVAL', null]);
  expect([red.connect(), red.connect(), red.bind('red')]).toEqual([null, 'EBUSY', null]);
});

test('requests: EINVAL beyond TDISP, bound or not; ENXIO for what is not bound or not connected; EIO in the wrong state', () => {
  const { red, state } = managers();
  const lock = () => red.request(RequestScope.STATE_CHANGE, Request.LOCK);
  expect([red.request(RequestScope.DEBUG_READ, Request.REPORT), lock()]).toEqual(['EINVAL', 'ENXIO']);
  red.bind('red');
  expect(red.request(RequestScope.DEBUG_WRITE, Request.REPORT)).toBe('EINVAL');
  expect(red.request(RequestScope.STATE_CHANGE, Request.START)).toBe('EIO');
  expect([red.request(RequestScope.INFO, Request.REPORT), lock(), lock()]).toEqual([null, null, 'EIO']);
  expect([red.request(RequestScope.STATE_CHANGE, Request.START), state()]).toEqual([null, TdiState.RUN]);
  expect([red.request(RequestScope.STATE_CHANGE, Request.STOP), state()]).toEqual([null, TdiState.UNLOCKED]);
  red.disconnect();
  expect(lock()).toBe('ENXIO');
});

test('a disconnect unbinds and stops what runs; nothing is left of either', () => {
  const { red, memory, host, state } = managers();
  const before = [liveObjects(memory), host.frames.inUse];
  red.bind('red');
  red.request(RequestScope.STATE_CHANGE, Request.LOCK);
  red.request(RequestScope.STATE_CHANGE, Request.START);
  red.disconnect();
  expect(state()).toBe(TdiState.UNLOCKED);
  red.connect();
  expect([liveObjects(memory), host.frames.inUse]).toEqual(before);
});

test('whoever closes the device has its interface unbound first', () => {
  const { world, red, group, state } = managers();
  const vmm = world.process('vmm');
  const iommufd = vmm.iommufd();
  const fd = vmm.bind(group.vfio[0]!, iommufd);
  red.bind('red');
  red.request(RequestScope.STATE_CHANGE, Request.LOCK);
  world.kernel.enter(vmm.ref);
  close(world.kernel, fd);
  expect([state(), red.request(RequestScope.INFO, Request.REPORT), red.bind('red')]).toEqual([TdiState.UNLOCKED, 'ENXIO', null]);
});

test('a BAR written under lock ends in ERROR: no START, and STOP is the way out', () => {
  const { red, state } = managers();
  red.bind('red');
  red.request(RequestScope.STATE_CHANGE, Request.LOCK);
  red.writeBar();
  expect([state(), red.request(RequestScope.STATE_CHANGE, Request.START)]).toEqual([TdiState.ERROR, 'EIO']);
  expect([red.request(RequestScope.STATE_CHANGE, Request.STOP), state()]).toEqual([null, TdiState.UNLOCKED]);
});
