/** Aligned blocks of `1 << order` pages, as invalidations name them; an order of 52 is all there are. */

/** How many pages 64 bits of address have. */
export const allPages = 2 ** 52;

/** The order of the smallest block that holds `[first, last]` (`calculate_psi_aligned_address`); up to 52. */
export function blockOrder(firstHigh: number, firstLow: number, lastHigh: number, lastLow: number): number {
  const high = firstHigh ^ lastHigh;
  return high === 0 ? 32 - Math.clz32((firstLow ^ lastLow) >>> 12) : 52 - Math.clz32(high);
}

/** An IOVA without the bits inside its block. */
export const alignedLow = (low: number, order: number): number => (order < 20 ? low & (-1 << (12 + order)) : 0);
export const alignedHigh = (high: number, order: number): number => (order < 20 ? high : order === 52 ? 0 : high & (-1 << (order - 20)));

/** The same, of two pages or more, with the size in it as an invalidation of a device TLB has it: the lowest zero bit from 12 up (`orderOfBlock`). */
export const namedLow = (low: number, order: number): number => alignedLow(low, order) | (order < 21 ? ((1 << (order - 1)) - 1) << 12 : -4096);
export const namedHigh = (high: number, order: number): number => alignedHigh(high, order) | (order > 21 ? (1 << (order - 21)) - 1 : 0);
