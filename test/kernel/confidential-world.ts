/** A world with two confidential guests and a device, A, that can be bound to either: what tests of the TSM core and of a guest's kernel share. */
import type { Ref } from '#hostmem/object';
import { Counters } from '#src/actors/counters';
import { Vm } from '#src/actors/vm';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { Kernel } from '#src/kernel/kernel';
import { operationsOf, type Variant } from '#src/kernel/variant';
import { World } from '#src/world';

export const pages = 12;
/** Pages of each guest, by number. */
export const bounce = [2, 3];
export const shared = 4;
export const secret = 5;
export const free = [8, 9, 10, 11];

export function confidentialWorld(changes: Partial<Variant> = {}) {
  const world = new World({ confidential: { checksHits: false } });
  for (const name of ['red', 'blue']) world.confidentialGuest(name, pages, { shared: [...bounce, shared], free });
  const group = world.group('A');
  world.secure('A');
  world.guestDriver('A', 'red', bounce);
  const { host, directory } = world;
  const machine = new Machine(host);
  const operations = operationsOf({ mistake: null, source: 'a test', caughtBy: null, ...changes });
  const kernelOfThread = (): Kernel => new Kernel(host, operations, driverInForce(host, machine));
  const kernel = kernelOfThread();
  const vm = (name: string): Vm => new Vm({ name, host, kernel: kernelOfThread(), counters: new Counters(Counters.createBuffer(1), 0), pace: null, seed: 1, directory }, name);
  const device = directory['A.pci'] as Ref<'PciDevice'>;
  const tvm = (name: string) => directory[`${name}.tvm`] as Ref<'Tvm'>;
  return { world, host, kernel, machine, group, device, tvm, red: vm('red'), blue: vm('blue'), dma: directory['A.driver'] as Ref<'GuestDma'> };
}
