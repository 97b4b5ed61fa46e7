/**
 * From a request to a frame, as a DMA engine asks for it, with all checks and without a history: on a hit of the IOTLB, and on a miss, which
 * walks the tables and fills.
 */
import { Access } from '#hostmem/page-table-format';
import { attachFunctions, type Attached } from '../attached.ts';
import { drive, iovaHigh, type Driven } from '../device.ts';
import type { Question } from '../question.ts';

/** Of 256 entries; no two in one way. */
const cachedPages = 64;
/** Round and round, always four times what the IOTLB holds: the next page has just been replaced. */
const uncachedPages = 1024;

function translateAll({ unit, rid }: Attached & Driven, pages: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const reason = unit.translate(rid, iovaHigh, (i & (pages - 1)) << 12, Access.READ, unit.iotlb.epoch());
    sum = (sum + unit.frame + reason) | 0;
  }
  return sum;
}

export default {
  asks: 'what does a translation cost on an IOTLB hit and on a miss?',
  prepare(tiny) {
    const [hitting, missing] = [drive(attachFunctions(1, cachedPages)[0]!), drive(attachFunctions(1, uncachedPages)[0]!)];
    const operations = tiny ? uncachedPages : 4 * uncachedPages;
    return {
      rows: [
        { name: 'hit', operations, call: () => translateAll(hitting, cachedPages, operations) },
        { name: 'miss', operations, against: 'hit', call: () => translateAll(missing, uncachedPages, operations) },
      ],
    };
  },
} satisfies Question;
