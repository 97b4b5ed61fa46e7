/**
 * From a request to a frame, and to the data: the translation unit on an IOTLB hit and on a miss, and the DMA engine above it,
 * against a bare copy of as many bytes.
 */
import { copy } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { Access } from '#hostmem/page-table';
import { VtdDriver } from '#src/drivers/vtd/driver';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { Machine } from '#src/hardware/machine';
import type { TranslationUnit } from '#src/hardware/translation-unit';
import type { Question, Row } from '../question.ts';

const rid = 0x0108;
/** Of 256 entries; no two in one way. */
const cachedPages = 64;
/** Round and round, always four times what the IOTLB holds: the next page has just been replaced. */
const uncachedPages = 1024;
/** Where data are, in frames; the tables map them again and again. */
const dataFrames = 64;
const iovaHigh = 1;

interface Device {
  readonly host: Host;
  readonly unit: TranslationUnit;
  readonly engine: DmaEngine;
  readonly firstFrame: Frame;
}

/** A function behind a unit, attached to a domain of `uncachedPages`. */
function attachedDevice(): Device {
  const host = Host.create(4 << 20, 2 << 20);
  Machine.create(host);
  const added = Machine.addFunction(host, Machine.addUnit(host), { rid });
  const machine = new Machine(host);
  VtdDriver.boot(host, machine);
  const driver = new VtdDriver(host, machine);
  driver.probe(added);
  const domain = driver.allocPagingDomain(added, 0);
  driver.attach(domain, added);
  const frames = Array.from({ length: dataFrames }, () => host.frames.allocate(Owner.KERNEL));
  for (let page = 0; page < uncachedPages; page++) driver.map(domain, iovaHigh, page << 12, frames[page % dataFrames]!, Access.READ | Access.WRITE);
  return { host, unit: machine.unitOf(added).translation, engine: machine.dma(added), firstFrame: frames[0]! };
}

function translateAll({ unit }: Device, pages: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const reason = unit.translate(rid, iovaHigh, (i & (pages - 1)) << 12, Access.READ, unit.iotlb.epoch());
    sum = (sum + unit.frame + reason) | 0;
  }
  return sum;
}

function dmaAll({ engine }: Device, write: boolean, bytes: number, count: number): number {
  let failures = 0;
  for (let i = 0; i < count; i++) {
    const low = (i & (cachedPages - 1)) << 12;
    if ((write ? engine.write(iovaHigh, low, bytes) : engine.read(iovaHigh, low, bytes)) !== 0) failures++;
  }
  return count - failures + engine.bufferWord(bytes / 4 - 1);
}

function copyAll({ host, firstFrame }: Device, bytes: number, count: number): number {
  for (let i = 0; i < count; i++) copy(host.kernel, host.kernel.sizeBytes - 4096, host.ram, hpaOf(firstFrame) + (i & (dataFrames - 1)) * 4096, bytes);
  return count;
}

function dmaRows(device: Device, bytes: number, operations: number): Row[] {
  const bare = `copy of ${bytes} bytes`;
  return [
    { name: bare, operations, call: () => copyAll(device, bytes, operations) },
    { name: `DMA read of ${bytes} bytes`, operations, against: bare, call: () => dmaAll(device, false, bytes, operations) },
    { name: `DMA write of ${bytes} bytes`, operations, against: bare, call: () => dmaAll(device, true, bytes, operations) },
  ];
}

export default {
  asks: 'what does a translation cost on an IOTLB hit and on a miss, and what does it add to a DMA?',
  prepare(tiny) {
    const device = attachedDevice();
    const operations = tiny ? uncachedPages : 4 * uncachedPages;
    const hit = 'translate, hit';
    return {
      rows: [
        { name: hit, operations, call: () => translateAll(device, cachedPages, operations) },
        { name: 'translate, miss and fill', operations, against: hit, call: () => translateAll(device, uncachedPages, operations) },
        ...dmaRows(device, 64, operations),
        ...dmaRows(device, 4096, operations / 4),
      ],
    };
  },
} satisfies Question;
