/** A function behind a VT-d unit, attached to a domain whose pages lead to a few frames of data: what benches of translation and of DMA work on. */
import { Owner } from '#hostmem/frames';
import { Host, type HostBuffers } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table';
import { VtdDriver } from '#src/drivers/vtd/driver';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { Machine } from '#src/hardware/machine';
import type { TranslationUnit } from '#src/hardware/translation-unit';

/** Where data are, in frames; the tables map them again and again. */
const dataFrames = 64;
export const iovaHigh = 1;
const readWrite = Access.READ | Access.WRITE;

/** A function, for a thread that drives it. */
export interface OnHost {
  readonly buffers: HostBuffers;
  readonly pciFunction: Ref<'PciFunction'>;
}

/** And what there is to know of its domain. */
export interface Attached extends OnHost {
  readonly rid: number;
  readonly domain: Ref<'IommuDomain'>;
  /** Of `dataFrames` that follow each other. */
  readonly firstFrame: Frame;
}

/** So many functions on a host of their own, each in a domain of its own with so many pages from `iovaHigh`, 0 on. */
export function attachFunctions(functions: number, pages: number): Attached[] {
  const host = Host.create((4 << 20) + functions * (64 << 10) + functions * pages * 16, (2 << 20) + functions * 16_384);
  Machine.create(host);
  const unit = Machine.addUnit(host);
  const added = Array.from({ length: functions }, (_, index) => Machine.addFunction(host, unit, { rid: 0x0108 + index }));
  const machine = new Machine(host);
  VtdDriver.boot(host, machine);
  const driver = new VtdDriver(host, machine);
  const frames = Array.from({ length: dataFrames }, () => host.frames.allocate(Owner.KERNEL));
  return added.map((pciFunction, index) => {
    driver.probe(pciFunction);
    const domain = driver.allocPagingDomain(pciFunction, 0);
    driver.attach(domain, pciFunction);
    for (let page = 0; page < pages; page++) driver.map(domain, iovaHigh, page << 12, frames[page % dataFrames]!, readWrite);
    return { buffers: host.buffers, rid: 0x0108 + index, pciFunction, domain, firstFrame: frames[0]! };
  });
}

/** A function as the thread sees it that drives it. */
export interface Driven {
  readonly host: Host;
  readonly unit: TranslationUnit;
  readonly engine: DmaEngine;
}

export function drive<F extends OnHost>(attached: F): F & Driven {
  const host = new Host(attached.buffers);
  const machine = new Machine(host);
  return { ...attached, host, unit: machine.unitOf(attached.pciFunction).translation, engine: machine.dma(attached.pciFunction) };
}

/** DMA of one page or less, round and round over so many pages, a power of two. The sum is of reads that succeeded and of the last word. */
export function dmaAll({ engine }: Driven, write: boolean, pages: number, bytes: number, count: number): number {
  let failures = 0;
  for (let i = 0; i < count; i++) {
    const low = (i & (pages - 1)) << 12;
    if ((write ? engine.write(iovaHigh, low, bytes) : engine.read(iovaHigh, low, bytes)) !== 0) failures++;
  }
  return count - failures + engine.bufferWord(bytes / 4 - 1);
}
