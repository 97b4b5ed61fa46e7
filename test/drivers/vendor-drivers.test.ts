/** What holds of the drivers of AMD and SMMUv3 alike, each with its unit: blocking, sharing, stale lines, strict unmap, breaking replaces, nothing lost. */
import { peek, silent, sleepWhile } from '#hostmem/atomics';
import { History, historyBytes } from '#hostmem/history';
import type { Host } from '#hostmem/host';
import { hpaOf, Memory, Space, type Frame } from '#hostmem/memory';
import { liveObjects, type Ref } from '#hostmem/object';
import { installedRoot, passesThrough } from '#src/hardware/installed-root';
import { Machine } from '#src/hardware/machine';
import { World } from '#src/world';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { Interposer } from '../hardware/small-machine.ts';
import type { DmaLoop } from './dma-loop.ts';
import { smallVendor } from './small-vendor.ts';

const READ_WRITE = 3;
/** Reasons of a request of a blocked function, and of one without a page. */
const reasons = { amd: { blocked: 2, missing: 2, readOnly: 2 }, smmuv3: { blocked: 0xff, missing: 0x10, readOnly: 0x13 } } as const;

describe.each(['amd', 'smmuv3'] as const)('%s', (vendor) => {
  const { blocked, missing, readOnly } = reasons[vendor];

  test('a probed function is blocked until it is attached, and again after it is; identity lets it pass', () => {
    const { driver, functions, engines, host } = smallVendor(vendor);
    const dma = engines[0]!;
    expect(dma.read(0, 0x1000, 4)).toBe(blocked);
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    const frame = host.frames.allocate(16);
    expect(driver.map(domain, 0x7f, 0x1000, frame, READ_WRITE)).toBe(0);
    expect(driver.attach(domain, functions[0]!)).toBe(0);
    dma.setBufferWord(0, 0x1234);
    expect([dma.write(0x7f, 0x1000, 4), peek(host.ram, hpaOf(frame))]).toEqual([0, 0x1234]);
    expect(engines[1]!.read(0x7f, 0x1000, 4)).toBe(blocked);
    driver.attach(driver.identityDomain, functions[0]!);
    expect([dma.read(0, hpaOf(frame), 4), dma.bufferWord(0), installedRoot(host, functions[0]!)]).toEqual([0, 0x1234, passesThrough]);
    driver.attach(driver.blockedDomain, functions[0]!);
    expect([dma.read(0, hpaOf(frame), 4), installedRoot(host, functions[0]!)]).toEqual([blocked, 0]);
  });

  test('an unmapped page stays in the cache until the sync; two devices of one domain share what is cached', () => {
    const { driver, functions, engines, host } = smallVendor(vendor);
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    for (let page = 1; page <= 3; page++) driver.map(domain, 0, page << 12, host.frames.allocate(16), READ_WRITE);
    for (const each of functions) driver.attach(domain, each);
    for (let page = 1; page <= 3; page++) expect(engines[0]!.read(0, page << 12, 4)).toBe(0);
    expect(driver.unmap(domain, 0, 0x1000, 2)).toBe(2);
    expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([0, 0]);
    driver.sync(domain, 0, 0x1000, 2, true);
    expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([missing, missing]);
    expect(engines.map((engine) => engine.read(0, 0x2000, 4))).toEqual([missing, missing]);
    expect(engines[1]!.read(0, 0x3000, 4)).toBe(0);
    driver.unmap(domain, 0, 0x3000, 1);
    driver.sync(domain, 0, 0, 2 ** 30, false);
    expect(engines[1]!.read(0, 0x3000, 4)).toBe(missing);
  });

  test('a page without write permission can be read, and the line that this leaves lets no write pass', () => {
    const { driver, functions, engines, host } = smallVendor(vendor);
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    driver.map(domain, 0, 0x1000, host.frames.allocate(16), 1);
    driver.attach(domain, functions[0]!);
    expect([engines[0]!.read(0, 0x1000, 4), engines[0]!.write(0, 0x1000, 4), engines[0]!.read(0, 0x1000, 4)]).toEqual([0, readOnly, 0]);
  });

  test('an unmap that ends inside a large leaf takes it as a whole, and what was cached of its tail goes with it', () => {
    const { driver, functions, engines } = smallVendor(vendor);
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    driver.attach(domain, functions[0]!);
    expect(driver.map(domain, 0, 0x40_0000, 512 as Frame, READ_WRITE, 512)).toBe(0);
    expect(engines[0]!.read(0, 0x5f_0000, 4)).toBe(0);
    expect(driver.unmap(domain, 0, 0x40_0000, 16)).toBe(512);
    driver.sync(domain, 0, 0x40_0000, 16, true);
    expect(engines[0]!.read(0, 0x5f_0000, 4)).toBe(missing);
  });

  test('a map that meets a mapping undoes what it did', () => {
    const { driver, functions, engines, host } = smallVendor(vendor);
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    driver.attach(domain, functions[0]!);
    driver.map(domain, 0, 0x3000, host.frames.allocate(16), READ_WRITE);
    expect(driver.map(domain, 0, 0x1000, 300 as Frame, READ_WRITE, 4)).toBe('EADDRINUSE');
    expect([1, 2, 3, 4].map((page) => engines[0]!.read(0, page << 12, 4))).toEqual([missing, missing, 0, missing]);
  });

  test('a replace breaks before it makes: no DMA meets a mixture, and afterwards nothing of the old domain is left', () => {
    const { driver, functions, engines, host, queue } = smallVendor(vendor);
    const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
    const frames = domains.map(() => host.frames.allocate(16));
    domains.forEach((domain, index) => driver.map(domain, 0, 0x1000, frames[index]!, READ_WRITE));
    driver.attach(domains[0]!, functions[0]!);
    expect(engines[0]!.write(0, 0x1000, 4)).toBe(0);
    const seen: number[] = [];
    const meanwhile = new AtWaits(host, () => {
      seen.push(engines[0]!.read(0, 0x1000, 4));
      while (queue.ready()) queue.step();
    });
    meanwhile.during(() => driver.attach(domains[1]!, functions[0]!));
    // Old, none, new.
    expect(new Set(seen)).toEqual(new Set(vendor === 'amd' ? [blocked, 0] : [0, 0x0a]));
    engines[0]!.setBufferWord(0, 77);
    expect(engines[0]!.write(0, 0x1000, 4)).toBe(0);
    expect([peek(host.ram, hpaOf(frames[0]!)), peek(host.ram, hpaOf(frames[1]!))]).toEqual([0, 77]);
    expect(installedRoot(host, functions[0]!)).toBeGreaterThan(0);
  });

  test('requests of an alias are those of the function', () => {
    const { driver, functions, engines, host } = smallVendor(vendor, { functions: [{ rid: 0x208, sourceId: 0x200 }] });
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    driver.map(domain, 0, 0x1000, host.frames.allocate(16), READ_WRITE);
    driver.attach(domain, functions[0]!);
    expect(engines[0]!.read(0, 0x1000, 4)).toBe(0);
    driver.attach(driver.blockedDomain, functions[0]!);
    expect(engines[0]!.read(0, 0x1000, 4)).toBe(blocked);
  });

  test('without caches every request reads every entry, and the answers are the same', () => {
    const { driver, functions, engines, host } = smallVendor(vendor, { caches: 'off', fetchBits: 64 });
    const domain = driver.allocPagingDomain(functions[0]!, 0);
    driver.map(domain, 0, 0x1000, host.frames.allocate(16), READ_WRITE);
    driver.attach(domain, functions[0]!);
    expect([engines[0]!.read(0, 0x1000, 4), engines[0]!.read(0, 0x1000, 4)]).toEqual([0, 0]);
    driver.unmap(domain, 0, 0x1000, 1);
    expect(engines[0]!.read(0, 0x1000, 4)).toBe(missing);
  });

  test('what a function and its domains took is given back', () => {
    const { host, driver, functions } = smallVendor(vendor);
    const before = [host.frames.inUse, liveObjects(host.kernel)];
    for (let round = 0; round < 20; round++) {
      const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
      for (const domain of domains) expect(driver.map(domain, 0x60, 0x20_0000, 1024 as Frame, READ_WRITE, 600)).toBe(0);
      for (const domain of domains) for (const each of functions) expect(driver.attach(domain, each)).toBe(0);
      for (const each of functions) driver.attach(driver.blockedDomain, each);
      for (const domain of domains) driver.freeDomain(domain);
      expect([host.frames.inUse, liveObjects(host.kernel)]).toEqual(before);
    }
  });

  test('a world can have such a unit: iommufd maps, the device reads, and the oracles see its tables', () => {
    const world = new World({ iommu: vendor });
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
    const { root } = [...machine.amdUnits, ...machine.smmuUnits][0]!.translation;
    expect([root > 0, installedRoot(world.host, edu)]).toEqual([true, root]);
  });

  test('a device on a thread of its own reaches no frame once the sync has returned, and does without one', async () => {
    expect(await scribbled(vendor, 30, true)).toBe(0);
    expect(await scribbled(vendor, 10, false)).toBeGreaterThan(0);
  });
});

/** Lets another party act whenever the driver waits for its unit. */
class AtWaits extends Interposer {
  readonly #host: Host;
  readonly #run: () => void;

  constructor(host: Host, run: () => void) {
    super(host);
    this.#host = host;
    this.#run = run;
  }

  override pointWhen(): void {
    this.#host.ram.control = this.#host.kernel.control = null;
    this.#run();
    this.#host.ram.control = this.#host.kernel.control = this;
  }
}

const loopFile = fileURLToPath(new URL('../../dist/test/drivers/dma-loop.js', import.meta.url));
const canary = 0x0ca9a47;

/** Unmaps pages under a device that writes to them on a thread of its own; how many frames it wrote to after the sync had returned. */
async function scribbled(vendor: 'amd' | 'smmuv3', rounds: number, syncs: boolean): Promise<number> {
  const { host, driver, functions } = smallVendor(vendor, { functions: [{ rid: 0x108 }] });
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
    if (syncs) driver.sync(domain, 0, 0x10000, 1, true);
    host.ram.words[frame * 1024] = canary;
    waitForDma(device, flags, 6);
    if (host.ram.words[frame * 1024] !== canary) found++;
    if (!syncs) driver.sync(domain, 0, 0x10000, 1, true);
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
