/** Threads whose process is killed by choice: where they end, and what becomes of the process. */
import type { Control } from '#hostmem/atomics';
import { Killed } from '#src/actors/mortal';
import { Counters } from '#src/actors/counters';
import { Vm } from '#src/actors/vm';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { Kernel } from '#src/kernel/kernel';
import { Process } from '#src/kernel/process';
import { correct, operationsOf } from '#src/kernel/variant';
import { World } from '#src/world';
import { expect, test } from 'vitest';

const page = 4096;
const src = 0x10000000;

/** Everybody goes on at once; every choice is asked here. Engines have nobody to run their steps: what waits for one is to be done freely. */
function controlled(choose: (count: number) => number): Control {
  const nothing = (): void => undefined;
  return {
    point: nothing, pointWhen: nothing, saw: nothing, dirty: nothing, wroteGuarded: nothing, acquired: nothing, released: nothing, unguarded: nothing,
    holds: () => true,
    choose,
  };
}

/** A process with a device attached to an IOAS with a mapping, and `threads` of it. */
function build(threads: number) {
  const world = new World({});
  const vmm = world.process('vmm');
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  vmm.map(iommufd, ioas, src, vmm.memory(page, 0x1111), page);
  vmm.attach(vmm.bind(world.group('A').vfio[0]!, iommufd), ioas);
  const { host, directory } = world;
  const operations = operationsOf(correct);
  const vms = Array.from({ length: threads }, (_, index) => {
    const kernel = new Kernel(host, operations, driverInForce(host, new Machine(host)));
    return new Vm({ name: `thread ${index}`, host, kernel, counters: new Counters(Counters.createBuffer(1), 0), pace: null, seed: 1, directory }, 'vmm');
  });
  const [{ kernel }] = vms as [Vm];
  const pinned = (): number => Process.pinnedPages.peek(host.kernel, kernel.process);
  const files = (): number => Process.files.next(host.kernel, kernel.process, 0);
  return { host, vms, iommufd, ioas, pinned, files };
}

test('a process that is killed ends before its next system call, and gives back its memory and its files', () => {
  const { host, vms: [vm], iommufd, ioas, pinned, files } = build(1);
  let asked = 0;
  host.kernel.control = controlled(() => (++asked === 3 ? 1 : 0));
  vm!.beginBody();
  vm!.mayBeKilled();
  for (let call = 0; call < 2; call++) expect(vm!.ranges(iommufd, ioas)).toBeNull();
  expect([pinned(), files() > 0]).toEqual([1, true]);
  expect(() => vm!.ranges(iommufd, ioas)).toThrow(Killed);
  host.kernel.control = null;
  vm!.endBody();
  expect([pinned(), files()]).toEqual([0, 0]);
});

test('of several threads each goes on to its own next call, and the last of them closes the files', () => {
  const { host, vms: [one, other], iommufd, ioas, pinned, files } = build(2);
  let kills = 0;
  host.kernel.control = controlled(() => kills);
  for (const vm of [one!, other!]) {
    vm.beginBody();
    vm.mayBeKilled(2);
  }
  kills = 1;
  expect(() => one!.ranges(iommufd, ioas)).toThrow(Killed);
  kills = 0;
  one!.endBody();
  expect([pinned(), files() > 0]).toEqual([1, true]);
  expect(() => other!.ranges(iommufd, ioas)).toThrow(Killed);
  host.kernel.control = null;
  other!.endBody();
  expect([pinned(), files()]).toEqual([0, 0]);
});

test('who is not killed keeps what it has, as everybody does in a free run', () => {
  const { host, vms: [vm], iommufd, ioas, files } = build(1);
  for (const control of [controlled(() => 0), null]) {
    host.kernel.control = control;
    vm!.beginBody();
    vm!.mayBeKilled();
    expect(vm!.ranges(iommufd, ioas)).toBeNull();
    vm!.endBody();
    expect(files()).toBeGreaterThan(0);
  }
});

test('one thing that an ioctl asks for is refused, and nothing after that or in the next one', () => {
  const { host, vms: [vm], iommufd, ioas } = build(1);
  let asked = 0;
  host.kernel.control = controlled(() => ++asked);
  const va = vm!.mmap(page);
  expect(vm!.mayBeRefused().map(iommufd, ioas, 2 * src, va, page)).toBe('ENOMEM');
  expect(asked).toBe(1);
  expect(vm!.map(iommufd, ioas, 2 * src, va, page)).toBeNull();
  expect(asked).toBe(1);
});
