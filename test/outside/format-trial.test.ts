/** The trial of a format finds what is wrong with it, and shows no more than that takes. */
import { readdirSync } from 'node:fs';
import { tryFormat } from '#src/format-trial';
import { findFormats } from '#src/catalogue';
import type { PageTableFormat } from '#hostmem/page-table-format';
import { expect, test } from 'vitest';

const sound = (await findFormats('vtd-second-stage'))[0]!;
const broken = (changed: Partial<PageTableFormat>): PageTableFormat => ({ ...sound, ...changed });

const names = readdirSync('hostmem/formats').map((file) => file.replace(/\.ts$/, ''));
test.each(names)('the formats of %s answer as page tables do', async (name) => {
  for (const format of await findFormats(name)) expect(tryFormat(format, 1)).toMatchObject({ format: format.name, difference: null });
});

test('frames that lose their high bits take one map and are found by the walk at the end', () => {
  const { difference } = tryFormat(broken({ leafHigh: () => 0 }), 1);
  expect(difference!.steps).toHaveLength(1);
  expect(difference!.steps[0]).toMatch(/^map page 0x[0-9a-f]+ to frame 0x[0-9a-f]{6,}/);
  expect(difference!.got).toMatch(/^frame 0x[0-9a-f]+ at level 1/);
});

test('a table entry that grants too little denies what its leaf grants', () => {
  const { difference } = tryFormat(broken({ tableLow: (table) => (table << 12) | 1 }), 1);
  expect(difference!.steps[0]).toMatch(/^map /);
  expect(difference!.steps.length).toBeLessThanOrEqual(2);
});

test('a format that throws differs, by an exception', () => {
  const inspect = (): never => {
    throw new Error('not written yet');
  };
  expect(tryFormat(broken({ inspect }), 1).difference!.got).toBe('an exception, Error: not written yet');
});

test('the same seed tries the same, another seed something else', () => {
  const one = tryFormat(broken({ leafHigh: () => 0 }), 1);
  expect(tryFormat(broken({ leafHigh: () => 0 }), 1)).toEqual(one);
  expect(tryFormat(broken({ leafHigh: () => 0 }), 2)).not.toEqual(one);
});
