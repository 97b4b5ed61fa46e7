/** A device on a thread: what benches of translation and of DMA drive. It has a bundle of its own (`bundle.mjs`): there may be many of them. */
import { Host, type HostBuffers } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { Machine } from '#src/hardware/machine';
import type { TranslationUnit } from '#src/hardware/translation-unit';

/** High word of the IOVAs; the low ones begin at 0. */
export const iovaHigh = 1;
/** How many pages devices go round. */
export const devicePages = 64;
const readBytes = 64;

/** A function, for a thread that drives it. */
export interface OnHost {
  readonly buffers: HostBuffers;
  readonly pciFunction: Ref<'PciFunction'>;
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

/** A thread of a team that reads 64 bytes at a time. */
export function work(job: OnHost): (count: number) => number {
  const driven = drive(job);
  return (count) => dmaAll(driven, false, devicePages, readBytes, count);
}
