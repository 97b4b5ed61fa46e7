/**
 * Mapping and unmapping in page tables alone: no area, no pin, no invalidation. One page where its tables are there already; a range of
 * 256 pages; and tables that are made for one page, and freed.
 */
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access } from '#hostmem/page-table-format';
import type { Question } from '../question.ts';

const readWrite = Access.READ | Access.WRITE;
const iovaHigh = 1;
const rangePages = 256;
/** Pages that are mapped one at a time, round and round. */
const pages = 64;
const frame = 16 as Frame;

function onePage(table: PageTable, root: Frame, count: number): number {
  let removed = 0;
  for (let i = 0; i < count; i++) {
    const low = (i & (pages - 1)) << 12;
    table.mapPage(root, iovaHigh, low, frame, readWrite);
    removed += table.unmap(root, iovaHigh, low, 1);
  }
  return removed;
}

function range(table: PageTable, root: Frame, count: number): number {
  let removed = 0;
  for (let i = 0; i < count; i++) {
    table.mapRange(root, iovaHigh, 0, frame, readWrite, rangePages);
    removed += table.unmap(root, iovaHigh, 0, rangePages);
  }
  return removed;
}

/** A root and two tables below it: three frames each time. */
function freshTables(table: PageTable, count: number): number {
  let missing = 0;
  for (let i = 0; i < count; i++) {
    const root = table.create();
    if (table.mapPage(root, iovaHigh, 0, frame, readWrite) !== 0) missing++;
    table.destroy(root);
  }
  return count - missing;
}

export default {
  asks: 'what does it cost to map and unmap in a page table, and to make and free one?',
  prepare(tiny) {
    const host = Host.create(1 << 20, 1 << 20);
    const table = new PageTable(host.ram, host.frames, vtdSecondStage(4));
    const root = table.create();
    const three = new PageTable(host.ram, host.frames, vtdSecondStage(3));
    const [many, few] = tiny ? [pages, 2] : [2048, 32];
    return {
      rows: [
        { name: '4k', operations: many, call: () => onePage(table, root, many) },
        { name: 'range256-per-page', operations: few * rangePages, against: '4k', call: () => range(table, root, few) },
        { name: 'fresh-tables', operations: few, against: '4k', call: () => freshTables(three, few) + host.frames.inUse },
      ],
    };
  },
} satisfies Question;
