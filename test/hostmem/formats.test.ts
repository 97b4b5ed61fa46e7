import { readdirSync } from 'node:fs';
import fc from 'fast-check';
import { peek, poke } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { describe, expect, test } from 'vitest';

const folder = new URL('../../hostmem/formats/', import.meta.url);
const formats: PageTableFormat[] = [];
for (const name of readdirSync(folder).sort()) {
  const built = new URL(`../../dist/hostmem/formats/${name.replace(/\.ts$/, '.js')}`, import.meta.url);
  const module = (await import(built.href)) as { default: PageTableFormat[] };
  formats.push(...module.default);
}

/** What a page table is: pages to frames with permissions. */
type Model = Map<number, { frame: number; permissions: number }>;
interface Real {
  table: PageTable;
  root: Frame;
  result: WalkResult;
}
type Command = fc.Command<Model, Real>;

const iovaHigh = (page: number): number => Math.floor(page / 2 ** 20) | 0;
const iovaLow = (page: number): number => (page % 2 ** 20) << 12;

/** What a leaf with these permissions grants: not every format can refuse reads of what can be written. */
function grantedBy(format: PageTableFormat, permissions: number): number {
  const granted = format.inspect(1, format.leafHigh(1 as Frame, permissions, 1), format.leafLow(1 as Frame, permissions, 1)) & 3;
  expect(granted & permissions).toBe(permissions);
  return granted;
}

function commandsFor(format: PageTableFormat): fc.Arbitrary<Iterable<Command>> {
  const end = 2 ** (format.inputBits - 12);
  const boundaries = [0, 512, 2 ** 18, 2 ** 20, 2 ** 26, 2 ** 27, end / 2, end - 8].filter((page) => page < end);
  const page = fc.tuple(fc.constantFrom(...boundaries), fc.integer({ min: -4, max: 7 })).map(([at, by]) => Math.min(end - 1, Math.max(0, at + by)));
  const permissions = fc.integer({ min: 1, max: 3 });
  return fc.commands(
    [
      fc.tuple(page, fc.integer({ min: 1, max: 2 ** (format.outputBits - 12) - 1 }), permissions).map(([at, frame, granted]) => mapping(at, frame, granted)),
      fc.tuple(page, fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 2 ** 28 }))).map(([at, count]) => unmapping(at, Math.min(count, end - at))),
      fc.tuple(page, permissions).map(([at, access]) => walking(at, access)),
    ],
    { maxCommands: 60 },
  );
}

const mapping = (page: number, frame: number, permissions: number): Command => ({
  check: () => true,
  run(model, { table, root }) {
    const answer = table.mapPage(root, iovaHigh(page), iovaLow(page), frame as Frame, permissions);
    expect(answer).toBe(model.has(page) ? 'EADDRINUSE' : 0);
    if (answer === 0) model.set(page, { frame, permissions: grantedBy(table.format, permissions) });
  },
  toString: () => `map(page 0x${page.toString(16)}, frame 0x${frame.toString(16)}, ${permissions})`,
});

const unmapping = (page: number, count: number): Command => ({
  check: () => true,
  run(model, { table, root }) {
    const gone = [...model.keys()].filter((mapped) => mapped >= page && mapped < page + count);
    expect(table.unmap(root, iovaHigh(page), iovaLow(page), count)).toBe(gone.length);
    for (const mapped of gone) model.delete(mapped);
  },
  toString: () => `unmap(page 0x${page.toString(16)}, ${count})`,
});

const walking = (page: number, access: number): Command => ({
  check: () => true,
  run(model, { table, root, result }) {
    const mapped = model.get(page);
    const fault = table.walk(root, iovaHigh(page), iovaLow(page) | 0xabc, access, result);
    expect(result.fault).toBe(fault);
    if (mapped === undefined) expect(fault).toBe(WalkFault.NOT_PRESENT);
    else {
      const missing = access & ~mapped.permissions;
      expect(fault).toBe(missing === 0 ? WalkFault.NONE : missing & Access.READ ? WalkFault.READ_DENIED : WalkFault.WRITE_DENIED);
      expect([result.frame, result.permissions, result.level]).toEqual([mapped.frame, mapped.permissions, 1]);
    }
  },
  toString: () => `walk(page 0x${page.toString(16)}, ${access})`,
});

test('the folder holds formats, and no two have one name', () => {
  expect(formats.length).toBeGreaterThan(0);
  expect(new Set(formats.map((format) => format.name)).size).toBe(formats.length);
});

describe.each(formats.map((format) => [format.name, format] as const))('%s', (_name, format) => {
  test('maps, unmaps and translates as a map from pages to frames does, and destroy gives every table back', () => {
    const host = Host.create(8 << 20, 1 << 20);
    fc.assert(
      fc.property(commandsFor(format), (commands) => {
        const used = host.frames.inUse;
        const table = new PageTable(host.ram, host.frames, format);
        const root = table.create();
        const real = { table, root, result: new WalkResult() };
        const model: Model = new Map();
        fc.modelRun(() => ({ model, real }), commands);
        for (const page of model.keys()) walking(page, Access.READ).run(model, real);
        table.destroy(root);
        expect(host.frames.inUse).toBe(used);
      }),
      { numRuns: 60 },
    );
  });

  test('a run is mapped with leaves of all sizes as it is page by page, and whole leaves go when it is unmapped', () => {
    const host = Host.create(8 << 20, 1 << 20);
    const near = fc.tuple(fc.constantFrom(0, 512, 1024, 2 ** 18), fc.integer({ min: -3, max: 3 })).map(([at, by]) => Math.max(0, at + by));
    fc.assert(
      fc.property(near, fc.constantFrom(0, 1, 512, 2 ** 18), near, fc.integer({ min: 1, max: format.largestLeaf }), (start, shift, count, largest) => {
        const used = host.frames.inUse;
        const table = new PageTable(host.ram, host.frames, format);
        const root = table.create();
        const result = new WalkResult();
        const pages = Math.min(count, 2 ** 18 + 3);
        fc.pre(pages > 0 && (largest > 1 || pages < 2000));
        const frame = (2 ** 19 + start + shift) as Frame;
        expect(table.mapRange(root, iovaHigh(start), iovaLow(start), frame, 3, pages, largest)).toBe(0);
        expect(table.mapped).toBe(pages);
        for (const page of [0, 1, 510, 511, 512, 513, 2 ** 18 - 1, 2 ** 18, pages - 1].filter((each) => each < pages)) {
          expect(table.walk(root, iovaHigh(start + page), iovaLow(start + page), Access.WRITE, result)).toBe(WalkFault.NONE);
          expect(result.frame).toBe(frame + page);
          expect(result.level).toBeLessThanOrEqual(largest);
          if (shift % 512 !== 0) expect(result.level).toBe(1);
        }
        expect(table.walk(root, iovaHigh(start + pages), iovaLow(start + pages), Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
        expect(table.unmap(root, iovaHigh(start), iovaLow(start), pages)).toBe(pages);
        expect(table.walk(root, iovaHigh(start), iovaLow(start), Access.READ, result)).toBe(WalkFault.NOT_PRESENT);
        table.destroy(root);
        expect(host.frames.inUse).toBe(used);
      }),
      { numRuns: 25 },
    );
  });

  test('a whole leaf of each size is one entry of its level, and blocks what is mapped into it', () => {
    const host = Host.create(1 << 20, 1 << 20);
    const table = new PageTable(host.ram, host.frames, format);
    const root = table.create();
    const result = new WalkResult();
    for (let level = 2; level <= format.largestLeaf; level++) {
      const pages = 512 ** (level - 1);
      const start = pages * 8;
      expect(table.mapRange(root, iovaHigh(start), iovaLow(start), pages as Frame, 3, pages, level)).toBe(0);
      expect(table.walk(root, iovaHigh(start + pages - 1), iovaLow(start + pages - 1), Access.READ, result)).toBe(WalkFault.NONE);
      expect([result.level, result.frame]).toEqual([level, pages + pages - 1]);
      expect(table.mapPage(root, iovaHigh(start + 1), iovaLow(start + 1), 1 as Frame, 3)).toBe('EADDRINUSE');
      expect(table.unmap(root, iovaHigh(start + 1), iovaLow(start + 1), pages - 1)).toBe(0);
      expect(table.unmap(root, iovaHigh(start), iovaLow(start), 1)).toBe(pages);
    }
  });

  test('a walk that marks use leaves A on every entry it used and D on a leaf that it wrote through, and nothing where it was refused', () => {
    const host = Host.create(1 << 20, 1 << 20);
    const table = new PageTable(host.ram, host.frames, format, true);
    const root = table.create();
    const result = new WalkResult();
    const { accessedBit, dirtyBit, cleanBit } = format;
    const marks = accessedBit | dirtyBit | cleanBit;
    expect(table.mapPage(root, 0, 0x5000, 7 as Frame, Access.READ | Access.WRITE)).toBe(0);
    expect(table.mapPage(root, 0, 0x6000, 8 as Frame, Access.READ)).toBe(0);
    const marked = (iova: number, access: number): number => {
      expect(table.translate(root, 0, iova, result)).toBe(WalkFault.NONE);
      poke(host.ram, result.entryAt, (result.entryLow & ~marks) | cleanBit);
      table.walk(root, 0, iova, access, result);
      return peek(host.ram, result.entryAt) & marks;
    };
    expect(marked(0x5000, Access.READ)).toBe(accessedBit | cleanBit);
    expect(marked(0x5000, Access.WRITE)).toBe(accessedBit | dirtyBit);
    expect(marked(0x6000, Access.WRITE)).toBe(cleanBit);
    expect(peek(host.ram, hpaOf(root)) & accessedBit).toBe(format.marksTables ? accessedBit : 0);
  });

  test('hardware that may not set them passes over accessed and dirty bits, or refuses what would need them', () => {
    const host = Host.create(1 << 20, 1 << 20);
    const table = new PageTable(host.ram, host.frames, format);
    const root = table.create();
    const result = new WalkResult();
    expect(table.mapPage(root, 0, 0x5000, 7 as Frame, Access.READ | Access.WRITE)).toBe(0);
    expect(table.walk(root, 0, 0x5000, Access.WRITE, result)).toBe(WalkFault.NONE);
    const { entryAt, entryLow } = result;
    const seen = (low: number): WalkFault[] => {
      poke(host.ram, entryAt, low);
      const faults = [table.walk(root, 0, 0x5000, Access.READ, result), table.walk(root, 0, 0x5000, Access.WRITE, result)];
      expect(peek(host.ram, entryAt)).toBe(low);
      return faults;
    };
    const clean = (entryLow & ~format.dirtyBit) | format.cleanBit | format.accessedBit;
    const none = WalkFault.NONE;
    const { NOT_ACCESSED, WRITE_DENIED } = WalkFault;
    expect(seen(clean & ~format.accessedBit)).toEqual(format.needsMarks ? [NOT_ACCESSED, NOT_ACCESSED] : [none, none]);
    expect(seen(clean)).toEqual(format.needsMarks ? [none, WRITE_DENIED] : [none, none]);
    expect(table.translate(root, 0, 0x5000, result)).toBe(none);
  });

  test('an IOVA beyond its width is neither walked nor mapped, and the last page within it is', () => {
    const host = Host.create(1 << 20, 1 << 20);
    const table = new PageTable(host.ram, host.frames, format);
    const root = table.create();
    const result = new WalkResult();
    const beyond = 2 ** (format.inputBits - 32);
    if (format.inputBits < 64) {
      expect(table.walk(root, beyond | 0, 0, Access.READ, result)).toBe(WalkFault.BEYOND_WIDTH);
      expect(result.level).toBe(format.levels + 1);
      expect(table.mapPage(root, beyond | 0, 0, 1 as Frame, 3)).toBe('ERANGE');
      expect(table.unmap(root, beyond | 0, 0, 5)).toBe(0);
    }
    expect(table.mapPage(root, (beyond - 1) | 0, 0xffff_f000 | 0, 7 as Frame, 3)).toBe(0);
    expect(table.walk(root, (beyond - 1) | 0, -1, Access.WRITE, result)).toBe(WalkFault.NONE);
    expect(result.frame).toBe(7);
    expect(table.unmap(root, (beyond - 1) | 0, 0xffff_f000 | 0, 2)).toBe(1);
    expect(table.mapPage(root, 0, 0, 2 ** (format.outputBits - 12) as Frame, 3)).toBe('ERANGE');
  });
});
