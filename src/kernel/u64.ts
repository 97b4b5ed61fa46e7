/** 64-bit values between the ioctl's BigInt and the (high, low) words of records and page tables. */

export const U64_MAX = 0xffff_ffff_ffff_ffffn;
export const PAGE = 4096n;

export const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
export const low = (value: bigint): number => Number(BigInt.asIntN(32, value));
export const big = (highWord: number, lowWord: number): bigint => (BigInt(highWord >>> 0) << 32n) | BigInt(lowWord >>> 0);

/** The smallest power of two that is not below `value` (1 for 0). */
export function roundUpPowerOfTwo(value: bigint): bigint {
  let power = 1n;
  while (power < value) power <<= 1n;
  return power;
}

/** The lowest set bit; `value` is not 0. */
export const lowestSetBit = (value: bigint): bigint => value & -value;
