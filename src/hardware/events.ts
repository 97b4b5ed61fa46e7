/** What hardware reports about itself: one event for each page that a DMA touched or was refused. */
import { event } from '#hostmem/history';

/** Parts of the `function` word of a `dma` event. */
export const DmaFlags = { ridMask: 0xffff, WRITE: 1 << 16, reasonShift: 17 } as const;

/**
 * A DMA transaction of at most one page, emitted while it is still in flight.
 *
 *   function   requester id of the function [15:0] · write 16 · fault reason [31:17], 0 when data moved
 *   iovaHigh, iovaLow   page address
 *   frame      the frame reached, 0 when none was
 *   root       root table it was translated through, 0 when there was none
 *   begin      a stamp taken before the transaction was published as in flight
 */
export const dma = event('dma', ['function', 'iovaHigh', 'iovaLow', 'frame', 'root', 'begin']);
