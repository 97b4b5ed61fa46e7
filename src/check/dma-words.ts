/** The words of a `dma` event in the language of messages; those of a `pasid dma` that have the same names are the same. */
import type { Cursor } from '#hostmem/history';
import { DmaFlags, dma, dmaPasidMask, pasidDma } from '../hardware/events.ts';

/** Requester id of the function. */
export const ridOf = (event: Cursor): number => dma.get.function(event) & DmaFlags.ridMask;

/** Owner of the frame reached, at that moment. */
export const ownerOf = (event: Cursor): number => dma.get.iovaLow(event) & DmaFlags.ownerMask;

/** The PASID of a `pasid dma`. */
export const dmaPasid = (event: Cursor): number => pasidDma.get.pasidOwner(event) & dmaPasidMask;

/** Number of the page that an IOVA lies in, from its two words; exact below 2^53. */
export const pageNumber = (high: number, low: number): number => (high >>> 0) * 0x10_0000 + (low >>> 12);

export const iovaPage = (event: Cursor): number => pageNumber(dma.get.iovaHigh(event), dma.get.iovaLow(event));

/** `function 05.1`, as in a PCI address. */
export function functionText(event: Cursor): string {
  const rid = ridOf(event);
  return `function ${((rid >>> 3) & 0x1f).toString(16).padStart(2, '0')}.${rid & 7}`;
}

export const iovaText = (event: Cursor): string => `iova 0x${(iovaPage(event) * 4096).toString(16)}`;

export const frameText = (event: Cursor): string => `frame 0x${dma.get.frame(event).toString(16)}`;
