/** The words of an `owned access` in the language of messages; its function is in the word where `dma-words.ts` looks for it. */
import type { Cursor } from '#hostmem/history';
import { ownedAccess } from '../hardware/events.ts';
import { pageNumber } from './dma-words.ts';

export const iovaText = (event: Cursor): string =>
  `iova ${addressText(pageNumber(ownedAccess.get.iovaHigh(event), ownedAccess.get.iovaLow(event)) * 4096)}`;

export const frameText = (event: Cursor): string => `frame 0x${ownedAccess.get.frame(event).toString(16)}`;

/** An address below 2^53, from a word or a sum of words. */
export const addressText = (address: number): string => `0x${(address < 0 ? address >>> 0 : address).toString(16)}`;
