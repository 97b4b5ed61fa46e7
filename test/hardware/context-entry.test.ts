import type { Frame } from '#hostmem/memory';
import * as entry from '#src/hardware/vtd/context-entry';
import { addressBitsOf, domainIdsOf, faultRecordsOf, largestOrderOf, recordedCapability, supportsLevels } from '#src/hardware/vtd/registers';
import { expect, test } from 'vitest';

test('a context entry has its fields where the specification has them', () => {
  const frame = 0x12345 as Frame;
  expect(entry.contextLow(frame, entry.TranslationType.UNTRANSLATED_ONLY)).toBe(0x12345001);
  expect(entry.contextLow(frame, entry.TranslationType.ALSO_TRANSLATED)).toBe(0x12345005);
  expect(entry.contextLow(0 as Frame, entry.TranslationType.PASS_THROUGH)).toBe(0x9);
  expect(entry.contextHigh(3, 0x2a)).toBe(0x2a01);
  expect(entry.contextHigh(4, 0xffff)).toBe(0xffff02);
});

test('what is written into a context entry is read out of it', () => {
  for (const levels of [3, 4, 5])
    for (const domainId of [1, 2, 0x1234, 0xffff]) {
      const high = entry.contextHigh(levels, domainId);
      expect([entry.levelsOf(high), entry.domainIdOf(high), high & entry.reservedInHigh]).toEqual([levels, domainId, 0]);
    }
});

test('root and context entries are found by bus and by device and function', () => {
  expect(entry.rootEntryAt(2 as Frame, 0x03f9)).toBe(0x2000 + 3 * 16);
  expect(entry.contextEntryAt(5 as Frame, 0x03f9)).toBe(0x5000 + 0xf9 * 16);
});

test('the recorded capability reads as the recorded machine behaved', () => {
  const low = Number(BigInt.asIntN(32, recordedCapability));
  const high = Number(BigInt.asIntN(32, recordedCapability >> 32n));
  expect([addressBitsOf(low), domainIdsOf(low), largestOrderOf(high), faultRecordsOf(high)]).toEqual([39, 65_536, 18, 1]);
  expect([2, 3, 4, 5, 6].map((levels) => supportsLevels(low, levels))).toEqual([false, true, false, false, false]);
});
