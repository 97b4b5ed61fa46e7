/** The words of a `dma` and of a `pasid dma` event in the language of messages; those that have the same names are at the same places. */
import type { Cursor } from '#hostmem/history';
import { DmaFlags, dma, dmaOwnerShift, dmaPasidMask, farPage, pasidDma } from '../hardware/events.ts';

/** Whether an event tells of a page of a DMA, with a PASID or without. */
export const isDma = ({ kind }: Cursor): boolean => kind === dma.kind || kind === pasidDma.kind;

/** Requester id of the function. */
export const ridOf = (event: Cursor): number => dma.get.function(event) & DmaFlags.ridMask;

/** Owner of the frame reached, at that moment. */
export const ownerOf = (event: Cursor): number =>
  event.kind === pasidDma.kind ? pasidDma.get.pasidOwner(event) >>> dmaOwnerShift : dma.get.iovaLow(event) & DmaFlags.ownerMask;

/** The PASID of a `pasid dma`; null for a `dma`. */
export const dmaPasid = (event: Cursor): number | null => (event.kind === pasidDma.kind ? pasidDma.get.pasidOwner(event) & dmaPasidMask : null);

/** Number of the page that an IOVA lies in, from its two words; exact below 2^53. */
export const pageNumber = (high: number, low: number): number => (high >>> 0) * 0x10_0000 + (low >>> 12);

/** Number of the page; -1 for one that a `pasid dma` has no room for. */
export function iovaPage(event: Cursor): number {
  if (event.kind !== pasidDma.kind) return pageNumber(dma.get.iovaHigh(event), dma.get.iovaLow(event));
  const page = pasidDma.get.page(event);
  return page === farPage ? -1 : page >>> 0;
}

/** `function 05.1`, as in a PCI address; of a request with a PASID also that. */
export function functionText(event: Cursor): string {
  const rid = ridOf(event);
  const pasid = dmaPasid(event);
  return `function ${((rid >>> 3) & 0x1f).toString(16).padStart(2, '0')}.${rid & 7}${pasid === null ? '' : ` with PASID ${pasid}`}`;
}

export const iovaText = (event: Cursor): string => `iova ${iovaPage(event) < 0 ? 'beyond 2^44' : `0x${(iovaPage(event) * 4096).toString(16)}`}`;

export const frameText = (event: Cursor): string => `frame 0x${dma.get.frame(event).toString(16)}`;
