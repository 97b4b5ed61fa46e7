/** Sums on the 64-bit values of ioctls. */
import { low } from '#hostmem/u64';

export { big, high, highOfPage, low, lowOfPage, pageNumber, pageOf, pagesTouched } from '#hostmem/u64';

export const U64_MAX = 0xffff_ffff_ffff_ffffn;
export const PAGE = 4096n;

/** What of an address lies within its page. */
export const offsetInPage = (value: bigint): number => low(value) & 4095;

/** The smallest power of two that is not below `value` (1 for 0). */
export function roundUpPowerOfTwo(value: bigint): bigint {
  let power = 1n;
  while (power < value) power <<= 1n;
  return power;
}

/** The lowest set bit; `value` is not 0. */
export const lowestSetBit = (value: bigint): bigint => value & -value;
