/** The RISC-V driver and its unit: contexts, command queue, fault queue, and DMA through them. */
import { peek, silent, sleepWhile } from '#hostmem/atomics';
import { History, historyBytes } from '#hostmem/history';
import { hpaOf, Memory, Space, type Frame } from '#hostmem/memory';
import { liveObjects, type Ref } from '#hostmem/object';
import { installedRoot } from '#src/hardware/installed-root';
import { Machine } from '#src/hardware/machine';
import { Cause } from '#src/hardware/riscv/cause';
import * as commands from '#src/hardware/riscv/commands';
import { QueueStatus, ringAt, RiscvRegisters } from '#src/hardware/riscv/registers';
import { World } from '#src/world';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { Interposer } from '../hardware/small-machine.ts';
import type { DmaLoop } from './dma-loop.ts';
import { smallRiscv as small } from './small-vendor.ts';

const READ_WRITE = 3;
const invalidTarget = 258;

test('a probed function is blocked until it is attached, and again after it is; identity lets it pass', () => {
  const { driver, functions, engines, host } = small();
  const dma = engines[0]!;
  expect(dma.read(0, 0x1000, 4)).toBe(Cause.DDT_NOT_VALID);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const frame = host.frames.allocate(16);
  expect(driver.map(domain, 0x7fff, 0x1000, frame, READ_WRITE)).toBe(0);
  expect(driver.attach(domain, functions[0]!)).toBe(0);
  dma.setBufferWord(0, 0x1234);
  expect([dma.write(0x7fff, 0x1000, 4), peek(host.ram, hpaOf(frame))]).toEqual([0, 0x1234]);
  expect(engines[1]!.read(0x7fff, 0x1000, 4)).toBe(Cause.DDT_NOT_VALID);
  driver.attach(driver.identityDomain, functions[0]!);
  expect([dma.read(0, hpaOf(frame), 4), dma.bufferWord(0)]).toEqual([0, 0x1234]);
  driver.attach(driver.blockedDomain, functions[0]!);
  expect(dma.read(0, hpaOf(frame), 4)).toBe(Cause.DDT_NOT_VALID);
});

test('a fault is told in the queue: cause, device, address; what is not fetched in time is lost', () => {
  const { driver, functions, engines, faults, host } = small();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 1);
  driver.attach(domain, functions[0]!);
  expect([engines[0]!.write(0, 0x1004, 4), engines[0]!.read(1, 0x2000, 4), engines[1]!.write(0, 0x3000, 4)]).toEqual([15, 13, invalidTarget]);
  const [first, second, third] = faults();
  expect(first).toEqual({ cause: 15, deviceId: 0x108, processId: -1, type: 3, iovaHigh: 0, iovaLow: 0x1004 });
  expect(second).toMatchObject({ cause: 13, type: 2, iovaHigh: 1, iovaLow: 0x2000 });
  expect(third).toMatchObject({ cause: invalidTarget, deviceId: 0x110, iovaLow: 0x3000 });
  for (let i = 0; i < 200; i++) engines[0]!.read(0, 0x2000, 4);
  expect(faults()).toHaveLength(127);
  engines[0]!.read(0, 0x2000, 4);
  expect(faults()).toHaveLength(1);
});

test('an unmapped page stays in the cache until the sync; two devices of one domain share what is cached', () => {
  const { driver, functions, engines, host } = small();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  for (let page = 1; page <= 3; page++) driver.map(domain, 0, page << 12, host.frames.allocate(16), READ_WRITE);
  for (const each of functions) driver.attach(domain, each);
  for (let page = 1; page <= 3; page++) expect(engines[0]!.read(0, page << 12, 4)).toBe(0);
  expect(driver.unmap(domain, 0, 0x1000, 2)).toBe(2);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([0, 0]);
  driver.sync(domain, 0, 0x1000, 1);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([13, 13]);
  expect(engines.map((engine) => engine.read(0, 0x2000, 4))).toEqual([0, 0]);
  driver.sync(domain, 0, 0, 2 ** 20);
  expect(engines.map((engine) => engine.read(0, 0x2000, 4))).toEqual([13, 13]);
  expect(engines[1]!.read(0, 0x3000, 4)).toBe(0);
});

test('the command of a page far up is about that page, and a large range is more commands than one batch', () => {
  const { driver, functions, engines, host } = small();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.attach(domain, functions[0]!);
  for (let page = 0; page < 100; page++) driver.map(domain, 0x7abc, page << 12, host.frames.allocate(16), READ_WRITE);
  for (let page = 0; page < 100; page++) expect(engines[0]!.read(0x7abc, page << 12, 4)).toBe(0);
  driver.unmap(domain, 0x7abc, 0, 100);
  driver.sync(domain, 0x7abc, 0, 100);
  for (let page = 0; page < 100; page++) expect(engines[0]!.read(0x7abc, page << 12, 4)).toBe(13);
});

test('a replace is break before make: the unit goes by the old context until it is told, then every DMA faults, and afterwards nothing of the old domain is left', () => {
  const { driver, functions, engines, host, queue } = small();
  const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
  const frames = domains.map(() => host.frames.allocate(16));
  domains.forEach((domain, index) => driver.map(domain, 0, 0x1000, frames[index]!, READ_WRITE));
  driver.attach(domains[0]!, functions[0]!);
  expect(engines[0]!.write(0, 0x1000, 4)).toBe(0);
  const seen: number[] = [];
  const interposer = new Interposer(host);
  interposer.during(() => void driver.attach(domains[1]!, functions[0]!), 'UnitCommandRing.status', () => {
    seen.push(engines[0]!.read(0, 0x1000, 4));
    queue.help();
    seen.push(engines[0]!.read(0, 0x1000, 4));
  });
  queue.help();
  engines[0]!.setBufferWord(0, 77);
  seen.push(engines[0]!.write(0, 0x1000, 4));
  expect(seen).toEqual([0, invalidTarget, 0]);
  expect([peek(host.ram, hpaOf(frames[0]!)), peek(host.ram, hpaOf(frames[1]!))]).toEqual([0, 77]);
  expect(interposer.points.filter((point) => point.startsWith('RiscvDeviceContext'))).toEqual(['tc', 'fsc', 'ta', 'tc'].map((field) => `RiscvDeviceContext.${field}`));
});

test('a fence ends when what was in flight has, and an unknown command stops the queue until its bit is cleared', () => {
  const { host, queue, registers } = small();
  const { kernel, ram } = host;
  const ring = ringAt(RiscvRegisters.commandQueue.peek(kernel, registers));
  const put = (index: number, words: readonly number[]): void => words.forEach((word, at) => (ram.words[(ring + index * 16 + at * 4) >>> 2] = word));
  put(0, [0x7f, 0, 0, 0]);
  put(1, [commands.fence | commands.Fence.ADDRESS_VALID | commands.Fence.READS, 5, 0x8000 >>> 2, 0]);
  RiscvRegisters.commandTail.poke(kernel, registers, 2);
  expect(queue.ready()).toBe(true);
  queue.step();
  expect([queue.ready(), RiscvRegisters.commandHead.peek(kernel, registers)]).toEqual([false, 0]);
  RiscvRegisters.commandHead.poke(kernel, registers, 1);
  RiscvRegisters.commandStatus.poke(kernel, registers, QueueStatus.ENABLED | QueueStatus.ON);
  queue.step();
  expect([RiscvRegisters.commandHead.peek(kernel, registers), peek(ram, 0x8000), queue.ready()]).toEqual([1, 0, true]);
  queue.step();
  expect([RiscvRegisters.commandHead.peek(kernel, registers), peek(ram, 0x8000), queue.ready()]).toEqual([2, 5, false]);
});

test('what a function and its domains took is given back', () => {
  const { host, driver, functions } = small();
  const before = [host.frames.inUse, liveObjects(host.kernel)];
  for (let round = 0; round < 20; round++) {
    const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
    for (const domain of domains) expect(driver.map(domain, 0, 0x20_0000, 1024 as Frame, READ_WRITE, 600)).toBe(0);
    for (const domain of domains) for (const each of functions) expect(driver.attach(domain, each)).toBe(0);
    for (const each of functions) driver.attach(driver.blockedDomain, each);
    for (const domain of domains) driver.freeDomain(domain);
    expect([host.frames.inUse, liveObjects(host.kernel)]).toEqual(before);
  }
});

test('a world can have such a unit: iommufd maps, the device reads, and the oracles see its tables', () => {
  const world = new World({ iommu: 'riscv' });
  const { vfio } = world.group('edu');
  const process = world.process('vmm');
  const iommufd = process.iommufd();
  const ioas = process.ioas(iommufd);
  process.map(iommufd, ioas, 0x1234_5000, process.memory(8192, 0x5eed), 8192);
  const machine = new Machine(world.host);
  const edu = world.directory['edu'] as Ref<'PciFunction'>;
  const dma = machine.dma(edu);
  const fd = process.bind(vfio[0]!, iommufd);
  expect(dma.read(0, 0x1234_6000, 4)).not.toBe(0);
  process.attach(fd, ioas);
  expect([dma.read(0, 0x1234_6000, 4), dma.bufferWord(0)]).toEqual([0, 0x5eed]);
  const { root } = machine.riscvUnits[0]!.translation;
  expect([root > 0, installedRoot(world.host, edu)]).toEqual([true, root]);
});

const loopFile = fileURLToPath(new URL('../../dist/test/drivers/dma-loop.js', import.meta.url));
const canary = 0x0ca9a47;

/** Unmaps pages under a device that writes to them on a thread of its own; how many frames it wrote to after the sync had returned. */
async function scribbled(rounds: number, syncs: boolean): Promise<number> {
  const { host, driver, functions } = small([{ rid: 0x108 }]);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.attach(domain, functions[0]!);
  const capacity = 2_000_000;
  const history = new SharedArrayBuffer(historyBytes(1, capacity));
  const flags = new Memory(new SharedArrayBuffer(64), Space.KERNEL);
  const task: DmaLoop = { buffers: host.buffers, flags: flags.buffer, history, rings: 1, capacity, index: 0, iovas: [0x10000], bytes: 64 };
  const worker = new Worker(loopFile, { workerData: task });
  const ended = new Promise((resolve) => worker.on('exit', resolve));
  while (silent.load(flags, 0) === 0) await new Promise((resolve) => setImmediate(resolve));
  const device = new History(history, 1, capacity);
  let found = 0;
  for (let round = 0; round < rounds; round++) {
    const frame = host.frames.allocate(16);
    expect(driver.map(domain, 0, 0x10000, frame, READ_WRITE)).toBe(0);
    waitForDma(device, flags, 6);
    driver.unmap(domain, 0, 0x10000, 1);
    if (syncs) driver.sync(domain, 0, 0x10000, 1);
    host.ram.words[frame * 1024] = canary;
    waitForDma(device, flags, 6);
    if (host.ram.words[frame * 1024] !== canary) found++;
    if (!syncs) driver.sync(domain, 0, 0x10000, 1);
    host.frames.drop(frame);
  }
  silent.store(flags, 4, 1);
  await ended;
  return found;
}

/** Until the device has come so many transactions further; gives its core away in between, if they share one. */
function waitForDma(device: History, flags: Memory, transactions: number): void {
  const until = device.length(0) + transactions;
  while (device.length(0) < until && silent.load(flags, 8) === 0) sleepWhile(flags, 8, 0, 0.05);
}

test('a device on a thread of its own reaches no frame once the sync has returned, and does without one', async () => {
  expect(await scribbled(40, true)).toBe(0);
  expect(await scribbled(10, false)).toBeGreaterThan(0);
});
