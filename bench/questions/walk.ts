/**
 * A page-table walk of three levels, against the same three loads from a bare Int32Array. Pages come in a shuffled order, so
 * that the processor's own caches see what a device's would.
 */
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Host } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import { Access, PageTable, WalkResult } from '#hostmem/page-table';
import type { Question, Row } from '../question.ts';

const levels = 3;
/** 4 GiB and some: the high word counts. */
const iovaHigh = 1;

class Tables {
  readonly #host: Host;
  readonly #table: PageTable;
  readonly #root: Frame;
  readonly #walk = new WalkResult();
  /** Low words of the IOVAs. */
  readonly #order: Int32Array;

  constructor(pages: number, seed: number) {
    this.#host = Host.create(2 << 20, 1 << 20);
    this.#table = new PageTable(this.#host.ram, this.#host.frames, vtdSecondStage(levels));
    this.#root = this.#table.create();
    this.#order = Int32Array.from(shuffled(pages, seed), (page) => page << 12);
    for (const low of this.#order) this.#table.mapPage(this.#root, iovaHigh, low, (low >>> 12) as Frame, Access.READ | Access.WRITE);
  }

  walkAll(count: number): number {
    const order = this.#order;
    const walk = this.#walk;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      this.#table.walk(this.#root, iovaHigh, order[i & (order.length - 1)]!, Access.READ, walk);
      sum = (sum + walk.frame) | 0;
    }
    return sum;
  }

  loadAll(count: number): number {
    const order = this.#order;
    const words = this.#host.ram.words;
    let sum = 0;
    for (let i = 0; i < count; i++) sum = (sum + bareWalk(words, this.#root, iovaHigh, order[i & (order.length - 1)]!)) | 0;
    return sum;
  }
}

/** What a walk cannot do without: three entries, each looked at for being present. */
function bareWalk(words: Int32Array, root: number, high: number, low: number): number {
  const third = words[root * 1024 + (((low >>> 30) | (high << 2)) & 511) * 2]!;
  if ((third & 3) === 0) return -1;
  const second = words[(third >>> 12) * 1024 + ((low >>> 21) & 511) * 2]!;
  if ((second & 3) === 0) return -1;
  const first = words[(second >>> 12) * 1024 + ((low >>> 12) & 511) * 2]!;
  return (first & 3) === 0 ? -1 : first >>> 12;
}

/** `0..count` in an order that looks random and is the seed's; `count` is a power of two. */
function shuffled(count: number, seed: number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const other = (mix32(mix32(seed) ^ i) >>> 0) % (i + 1);
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  return order;
}

function rowsOf(name: string, pages: number, operations: number, seed: number): Row[] {
  const tables = new Tables(pages, seed);
  const bare = `${name}, bare loads`;
  return [
    { name: bare, operations, call: () => tables.loadAll(operations) },
    { name: `${name}, walk`, operations, against: bare, call: () => tables.walkAll(operations) },
  ];
}

export default {
  asks: 'what does a page-table walk of three levels cost, and how much of it are the loads?',
  prepare(tiny, { seed }) {
    const [few, many] = tiny ? [64, 1024] : [1024, 65_536];
    return { rows: [...rowsOf('1k pages', few, few, seed), ...rowsOf('64k pages', many, many, seed)] };
  },
} satisfies Question;
