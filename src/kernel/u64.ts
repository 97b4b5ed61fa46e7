/** 64-bit values between the ioctl's BigInt and the (high, low) words of records and page tables. */

export const U64_MAX = 0xffff_ffff_ffff_ffffn;
export const PAGE = 4096n;

/** One value seen as its two words: four times as fast as shifting a BigInt. Written and read at once, it keeps nothing. */
const whole = new BigInt64Array(1);
const halves = new Int32Array(whole.buffer);

export function high(value: bigint): number {
  whole[0] = value;
  return halves[1]!;
}

export function low(value: bigint): number {
  whole[0] = value;
  return halves[0]!;
}

export const big = (highWord: number, lowWord: number): bigint => (BigInt(highWord >>> 0) << 32n) | BigInt(lowWord >>> 0);

/** The smallest power of two that is not below `value` (1 for 0). */
export function roundUpPowerOfTwo(value: bigint): bigint {
  let power = 1n;
  while (power < value) power <<= 1n;
  return power;
}

/** The lowest set bit; `value` is not 0. */
export const lowestSetBit = (value: bigint): bigint => value & -value;
