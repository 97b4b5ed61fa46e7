import { History, historyBytes } from '#hostmem/history';
import type { Ref } from '#hostmem/object';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { dma, peerReached } from '#src/hardware/events';
import { Machine } from '#src/hardware/machine';
import { multiFunction } from '#src/kernel/pci';
import { World } from '#src/world';
import { expect, test } from 'vitest';
import { countOf } from '../check/histories.ts';
import { page, Vmm } from '../kernel/vmm.ts';

const bar = 0xd000_0000;

/** Two functions of one device, the second of which has memory at `bar`; both attached where `bar` is mapped to a page of 7. */
function device(acs: boolean): { a: DmaEngine; b: DmaEngine; history: History; buffer: bigint; vmm: Vmm } {
  const world = new World();
  const groups = world.pci({ 5: multiFunction(['a', 'b'], { acs }) });
  expect(groups.length).toBe(acs ? 2 : 1);
  world.bar('b', bar);
  const vmm = new Vmm(world);
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  const buffer = vmm.process.memory(page, 7);
  vmm.map(fd, ioas, bar, buffer, page);
  for (const vfio of [0, 1]) vmm.attach(vmm.process.bind(vfio, fd), ioas);
  const machine = new Machine(world.host);
  const [a, b] = ['a', 'b'].map((name) => machine.dma(world.directory[name] as Ref<'PciFunction'>)) as [DmaEngine, DmaEngine];
  const history = new History(new SharedArrayBuffer(historyBytes(1, 64)), 1, 64);
  world.host.kernel.history = history;
  return { a, b, history, buffer, vmm };
}

test('without ACS a request to the memory of a sibling reaches it below the unit, whatever is mapped there', () => {
  const { a, b, history } = device(false);
  b.fillBuffer(0x5555);
  expect([a.read(0, bar | 0, 4), a.bufferWord(0)]).toEqual([0, 0x5555]);
  a.setBufferWord(3, 0x1234);
  expect([a.write(0, (bar + 64) | 0, 4, 12), b.bufferWord(16)]).toEqual([0, 0x1234]);
  expect([countOf(history, peerReached.kind), countOf(history, dma.kind)]).toEqual([2, 0]);
});

test('with ACS it is translated as any other', () => {
  const { a, b, history } = device(true);
  b.fillBuffer(0x5555);
  expect([a.read(0, bar | 0, 4), a.bufferWord(0)]).toEqual([0, 7]);
  expect([countOf(history, peerReached.kind), countOf(history, dma.kind)]).toEqual([0, 1]);
});

test('a function does not reach its own memory below the unit, and other addresses are translated', () => {
  const { a, b } = device(false);
  expect([b.read(0, bar | 0, 4), b.bufferWord(0)]).toEqual([0, 7]);
  expect(a.read(0, (bar + page) | 0, 4)).not.toBe(0);
});
