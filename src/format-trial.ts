/**
 * Holds a page-table format against what a page table is: a map from pages to frames with permissions. Random maps, unmaps
 * and walks, near the places where indices carry over; the first difference is shrunk to the operations that it needs.
 *
 * Nothing of an IOMMU is tried: no caches, no faults' numbers, no large leaves.
 */
import { Host } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import type { FormatDifference, TriedFormat } from './results.ts';
import { violationOf } from './schedule/violation.ts';

type Operation =
  | { readonly op: 'map'; readonly page: number; readonly frame: number; readonly permissions: number }
  | { readonly op: 'unmap'; readonly page: number; readonly count: number }
  | { readonly op: 'walk'; readonly page: number; readonly access: number };

type Answer = Pick<FormatDifference, 'expected' | 'got'>;
type Model = Map<number, { readonly frame: number; readonly permissions: number }>;

const rounds = 150;
const operationsARound = 60;
const faultNames = Object.keys(WalkFault);
const accessNames = ['nothing', 'read', 'write', 'read and write'];

/** A pure function of format and seed. */
export function tryFormat(format: PageTableFormat, seed: number): TriedFormat {
  const { name, levels, inputBits } = format;
  const host = Host.create(8 << 20, 1 << 20);
  const random = randomNumbers(seed);
  let operations = 0;
  let difference: FormatDifference | null = null;
  for (let round = 0; round < rounds && difference === null; round++) {
    const sequence = Array.from({ length: operationsARound }, () => operation(format, random));
    const failure = play(host, format, sequence);
    operations += sequence.length;
    if (failure !== null) difference = shortest(format, sequence.slice(0, failure.at + 1));
  }
  return { format: name, levels, inputBits, operations, difference };
}

/** Integers from 0 below `end`. */
type Random = (end: number) => number;

function randomNumbers(seed: number): Random {
  let count = 0;
  const next = (): number => mix32(seed ^ mix32(++count));
  return (end) => Math.floor(((next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53) * end);
}

function operation({ inputBits, outputBits }: PageTableFormat, random: Random): Operation {
  const end = 2 ** (inputBits - 12);
  const carries = [0, 512, 2 ** 18, 2 ** 20, 2 ** 26, 2 ** 27, end / 2, end - 8].filter((page) => page < end);
  const page = Math.min(end - 1, Math.max(0, carries[random(carries.length)]! + random(12) - 4));
  const kind = random(4);
  if (kind === 0) return { op: 'unmap', page, count: Math.min(end - page, 1 + random(random(2) === 0 ? 9 : 2 ** 28)) };
  if (kind === 1) return { op: 'walk', page, access: 1 + random(3) };
  // Few bits and many: a frame that is cut off shows.
  return { op: 'map', page, frame: 1 + random(2 ** (1 + random(outputBits - 12)) - 1), permissions: 1 + random(3) };
}

/** Plays to a table of its own; the index of what differs first (the length: what was left behind), or null. */
function play(host: Host, format: PageTableFormat, sequence: readonly Operation[]): (Answer & { readonly at: number }) | null {
  const used = host.frames.inUse;
  const table = new PageTable(host.ram, host.frames, format);
  const root = table.create();
  const model: Model = new Map();
  let at = 0;
  try {
    for (; at < sequence.length; at++) {
      const differs = compare(table, root, model, sequence[at]!);
      if (differs !== null) return { at, ...differs };
    }
    for (const page of model.keys()) {
      const differs = walk(table, root, model, { page, access: Access.READ });
      if (differs !== null) return { at, expected: `${differs.expected} of ${nameOf(page)} at the end`, got: differs.got };
    }
    table.destroy(root);
  } catch (thrown) {
    return { at, expected: 'an answer', got: `an exception, ${violationOf(thrown).message}` };
  }
  const left = host.frames.inUse - used;
  return left === 0 ? null : { at, expected: 'every table freed at the end', got: `${left} left behind` };
}

function compare(table: PageTable, root: Frame, model: Model, operation: Operation): Answer | null {
  if (operation.op === 'map') return map(table, root, model, operation);
  return operation.op === 'unmap' ? unmap(table, root, model, operation) : walk(table, root, model, operation);
}

function map(table: PageTable, root: Frame, model: Model, { page, frame, permissions }: Operation & { op: 'map' }): Answer | null {
  const expected = model.has(page) ? 'EADDRINUSE' : 0;
  const got = table.mapPage(root, high(page), low(page), frame as Frame, permissions);
  if (got === 0) model.set(page, { frame, permissions: permissions | readsToo(table.format, permissions) });
  return got === expected ? null : { expected: String(expected), got: String(got) };
}

/** READ where a leaf that may be written can always be read: most formats of a first stage have no other. */
function readsToo(format: PageTableFormat, permissions: number): number {
  if (permissions !== Access.WRITE) return 0;
  return format.inspect(1, format.leafHigh(1 as Frame, permissions, 1), format.leafLow(1 as Frame, permissions, 1)) & Access.READ;
}

function unmap(table: PageTable, root: Frame, model: Model, { page, count }: Operation & { op: 'unmap' }): Answer | null {
  const gone = [...model.keys()].filter((mapped) => mapped >= page && mapped < page + count);
  const got = table.unmap(root, high(page), low(page), count);
  for (const mapped of gone) model.delete(mapped);
  return got === gone.length ? null : { expected: `${gone.length} pages removed`, got: `${got}` };
}

function walk(table: PageTable, root: Frame, model: Model, { page, access }: { readonly page: number; readonly access: number }): Answer | null {
  const result = new WalkResult();
  const fault = table.walk(root, high(page), low(page) | 0xabc, access, result);
  const mapped = model.get(page);
  const missing = mapped === undefined ? 0 : access & ~mapped.permissions;
  const denied = (missing & Access.READ) !== 0 ? WalkFault.READ_DENIED : WalkFault.WRITE_DENIED;
  const expectedFault = mapped === undefined ? WalkFault.NOT_PRESENT : missing === 0 ? WalkFault.NONE : denied;
  const expected = describe(expectedFault, mapped?.frame ?? 0, mapped?.permissions ?? 0, 1);
  const got = describe(fault, result.frame, result.permissions, result.level);
  return expected === got ? null : { expected, got };
}

function describe(fault: WalkFault, frame: number, permissions: number, level: number): string {
  if (fault !== WalkFault.NONE) return faultNames[fault]!;
  return `frame 0x${frame.toString(16)} at level ${level}, ${accessNames[permissions] ?? permissions}`;
}

/** Leaves out what the difference does not need. Each try has a host of its own: a failed one may leave tables behind. */
function shortest(format: PageTableFormat, failing: readonly Operation[]): FormatDifference {
  const tryOut = (sequence: readonly Operation[]): ReturnType<typeof play> => play(Host.create(8 << 20, 1 << 20), format, sequence);
  let best = failing;
  for (let index = failing.length - 1; index >= 0; index--) {
    const shorter = best.filter((_, at) => at !== index);
    const failure = tryOut(shorter);
    if (failure !== null) best = shorter.slice(0, failure.at + 1);
  }
  const { expected, got } = tryOut(best)!;
  return { steps: best.map(stepOf), expected, got };
}

function stepOf(operation: Operation): string {
  const page = nameOf(operation.page);
  if (operation.op === 'map') return `map ${page} to frame 0x${operation.frame.toString(16)}, ${accessNames[operation.permissions]}`;
  return operation.op === 'unmap' ? `unmap ${operation.count} pages from ${page}` : `walk ${page}, ${accessNames[operation.access]}`;
}

const nameOf = (page: number): string => `page 0x${page.toString(16)}`;
const high = (page: number): number => Math.floor(page / 2 ** 20) | 0;
const low = (page: number): number => ((page % 2 ** 20) << 12) | 0;
