/**
 * IOVAs and guest addresses as page tables take them apart: 64 bits as (high, low) pairs of 32-bit words, or the number of a page of
 * 4 KiB, which is 52 bits and exact.
 */
const pagesPerHigh = 1 << 20;

/** The number of the page that the address is in. */
export function pageNumber(high: number, low: number): number {
  return (high >>> 0) * pagesPerHigh + (low >>> 12);
}

/** The words of a page's address. */
export const highOf = (page: number): number => Math.floor(page / pagesPerHigh) | 0;
export const lowOf = (page: number): number => page << 12;

/** How many entries a root has: what the width of an address, its sign included, leaves to it. */
export const rootEntries = (levels: number, addressBits: number): number => 2 ** (addressBits - 3 - 9 * levels);

/** The bits of an address's high word from `bits` on, 33 to 64: what has to be 0 or all the sign. */
export const beyondWidth = (bits: number): number => (bits === 64 ? 0 : -1 << (bits - 32));

/** Which entry of a table of this level. `mask` is the number of entries less one: 511, but in a root. */
export function indexAt(level: number, high: number, low: number, mask: number): number {
  const shift = 3 + 9 * level;
  return shift < 32 ? ((low >>> shift) | (high << (32 - shift))) & mask : (high >>> (shift - 32)) & mask;
}

/** Which page of a leaf of this level the address is in. */
export function pageWithin(level: number, high: number, low: number): number {
  if (level < 4) return level === 1 ? 0 : ((low >>> 12) | (high << 20)) & ((1 << (9 * (level - 1))) - 1);
  return pageNumber(high, low) % 512 ** (level - 1);
}
