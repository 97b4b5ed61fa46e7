/** Functions behind a VT-d unit, each attached to a domain whose pages lead to a few frames of data: what benches of translation and of DMA work on. */
import { Owner } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { Machine } from '#src/hardware/machine';
import { iovaHigh, type OnHost } from './device.ts';

/** Where data are, in frames; the tables map them again and again. */
const dataFrames = 64;

/** A function, and what there is to know of its domain. */
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
    for (let page = 0; page < pages; page++) driver.map(domain, iovaHigh, page << 12, frames[page % dataFrames]!, Access.READ | Access.WRITE);
    return { buffers: host.buffers, rid: 0x0108 + index, pciFunction, domain, firstFrame: frames[0]! };
  });
}
