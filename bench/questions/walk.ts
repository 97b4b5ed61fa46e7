/**
 * A page-table walk, against the same loads from a bare Int32Array: of 1k, 64k and 1M pages, in a shuffled order; of 1k pages in every
 * format; and while another thread maps and unmaps in the same tables.
 */
import amdV1 from '#hostmem/formats/amd-v1';
import riscv from '#hostmem/formats/riscv';
import smmuStage1 from '#hostmem/formats/smmu-stage-1';
import smmuStage2 from '#hostmem/formats/smmu-stage-2';
import vtdFirstStage from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Host, type HostBuffers } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { PageWalker, WalkResult } from '#hostmem/page-walk';
import { shuffled } from '../shuffled.ts';
import { Team } from '../team.ts';
import type { Question, Row } from '../question.ts';

const levels = 4;
/** 4 GiB and some: the high word counts. */
const iovaHigh = 1;
const readWrite = Access.READ | Access.WRITE;
const others = [...vtdFirstStage, ...amdV1, ...riscv, ...smmuStage1, ...smmuStage2].filter((format) => format.levels === levels);
/** What the mapper beside the walkers changes: pages behind theirs. */
const mapperPages = 64;

/** Tables of a host, and the order in which their pages are walked. */
interface Place {
  readonly host: Host;
  readonly format: PageTableFormat;
  readonly root: Frame;
  /** Low words of the IOVAs; a power of two of them. */
  readonly order: Int32Array;
}

/** What a thread beside the bench's own is told. */
interface Job {
  readonly buffers: HostBuffers;
  readonly root: Frame;
  readonly order: Int32Array;
  readonly maps: boolean;
}

function mapped(format: PageTableFormat, pages: number, seed: number): Place {
  const host = Host.create((1 << 20) + pages * 16, 1 << 20);
  const table = new PageTable(host.ram, host.frames, format);
  const root = table.create();
  const order = shuffled(pages, seed).map((page) => page << 12);
  for (let page = 0; page < pages; page++) {
    const error = table.mapPage(root, iovaHigh, page << 12, page as Frame, readWrite);
    if (error !== 0) throw new Error(`${format.name}: ${error}`);
  }
  return { host, format, root, order };
}

function walker({ host, format, root, order }: Place): (count: number) => number {
  const table = new PageWalker(host.ram, format);
  const walk = new WalkResult();
  return (count) => walkAll(table, root, order, walk, count);
}

function walkAll(table: PageWalker, root: Frame, order: Int32Array, walk: WalkResult, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    table.walk(root, iovaHigh, order[i & (order.length - 1)]!, Access.READ, walk);
    sum = (sum + walk.frame + walk.fault) | 0;
  }
  return sum;
}

function mapAll(table: PageTable, root: Frame, first: number, count: number): number {
  let removed = 0;
  for (let i = 0; i < count; i++) {
    const low = (first + (i % mapperPages)) << 12;
    table.mapPage(root, iovaHigh, low, 1 as Frame, readWrite);
    removed += table.unmap(root, iovaHigh, low, 1);
  }
  return removed;
}

/** A thread of the team. */
export function work({ buffers, root, order, maps }: Job): (count: number) => number {
  const host = new Host(buffers);
  const format = vtdSecondStage(levels);
  if (!maps) return walker({ host, format, root, order });
  const table = new PageTable(host.ram, host.frames, format);
  return (count) => mapAll(table, root, order.length, count);
}

/** What a walk cannot do without: four entries, each looked at for being present. */
function loadAll({ host, root, order }: Place, count: number): number {
  const { words } = host.ram;
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + bareWalk(words, root, iovaHigh, order[i & (order.length - 1)]!)) | 0;
  return sum;
}

function bareWalk(words: Int32Array, root: number, high: number, low: number): number {
  const fourth = words[root * 1024 + ((high >>> 7) & 511) * 2]!;
  if ((fourth & 3) === 0) return -1;
  const third = words[(fourth >>> 12) * 1024 + (((low >>> 30) | (high << 2)) & 511) * 2]!;
  if ((third & 3) === 0) return -1;
  const second = words[(third >>> 12) * 1024 + ((low >>> 21) & 511) * 2]!;
  if ((second & 3) === 0) return -1;
  const first = words[(second >>> 12) * 1024 + ((low >>> 12) & 511) * 2]!;
  return (first & 3) === 0 ? -1 : first >>> 12;
}

/** Of one size: the bare loads and the walk. */
function rowsOf(size: string, pages: number, operations: number, seed: number): Row[] {
  const place = mapped(vtdSecondStage(levels), pages, seed);
  const walk = walker(place);
  const bare = `bare loads/${size}`;
  return [
    { name: bare, operations, call: () => loadAll(place, operations) },
    { name: `vtd-second-stage/${size}`, operations, against: bare, call: () => walk(operations) },
  ];
}

function rowOf(format: PageTableFormat, pages: number, seed: number): Row {
  const walk = walker(mapped(format, pages, seed));
  return { name: `${format.name}/1k`, operations: pages, against: 'vtd-second-stage/1k', call: () => walk(pages) };
}

/** The walkers' own time, on a thread beside which a mapper works. */
function underMapper(pages: number, seed: number, windowMs: number): { row: Row; team: Team } {
  const { host, root, order } = mapped(vtdSecondStage(levels), pages, seed);
  const jobs = [false, true].map((maps): Job => ({ buffers: host.buffers, root, order, maps }));
  const team = new Team(new URL('./walk.js', import.meta.url).href, jobs);
  const sample = (): { value: number; checksum: number } => {
    const { seconds, made, sum } = team.steady(pages, windowMs);
    return { value: (seconds * 1e9) / made[0]!, checksum: sum };
  };
  return { row: { name: 'vtd-second-stage/1k-under-mapper', against: 'vtd-second-stage/1k', sample }, team };
}

export default {
  asks: 'what does a page-table walk of four levels cost, how much of it are the loads, and what does a mapper do to it?',
  prepare(tiny, { seed }) {
    const [few, some, many] = tiny ? [64, 256, 1024] : [1024, 65_536, 1 << 20];
    const { row, team } = underMapper(few, seed, tiny ? 5 : 60);
    const rows = [
      ...rowsOf('1k', few, few, seed), ...rowsOf('64k', some, some, seed), ...rowsOf('1M', many, many, seed),
      ...others.map((format) => rowOf(format, few, seed)), row,
    ];
    const within = (measure: () => void): void => {
      measure();
      team.end();
    };
    return { rows, within };
  },
} satisfies Question;
