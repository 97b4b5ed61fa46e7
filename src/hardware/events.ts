/** What hardware reports about itself: pages that a DMA touched or was refused, entries that it fetched, invalidations that it carried out. */
import { event } from '#hostmem/history';

/** Parts of the `function` word of a `dma` event; `ownerMask` of its `iovaLow`. */
export const DmaFlags = { ridMask: 0xffff, WRITE: 1 << 16, reasonShift: 17, ownerMask: 0xfff } as const;

/**
 * A DMA transaction of at most one page, emitted while it is still in flight.
 *
 *   function   requester id of the function [15:0] · write 16 · fault reason [31:17], 0 when data moved
 *   iovaHigh, iovaLow   page address [63:12] · owner of the frame reached, as the frame table says at that moment [11:0]
 *   frame      the frame reached, 0 when none was
 *   root       root table it was translated through, 0 when there was none
 *   begin      a moment before the transaction was published as in flight: greater than all stamps until then, and no stamp
 */
export const dma = event('dma', ['function', 'iovaHigh', 'iovaLow', 'frame', 'root', 'begin']);

/**
 * The same of a request that carried a PASID: `function`, `frame`, `root` and `begin` as in `dma`.
 *
 *   pasidOwner   PASID [19:0] · owner of the frame reached [31:20]
 *   page         page number of the IOVA, or `farPage` where 32 bits are too few for it
 */
export const pasidDma = event('pasid dma', ['function', 'pasidOwner', 'page', 'frame', 'root', 'begin']);
/** The PASID in `pasidOwner`. */
export const dmaPasidMask = 0xfffff;
export const dmaOwnerShift = 20;
export const farPage = -1;

/**
 * Beside the `dma` or `pasid dma` of a request that two stages translated, at the same moment: what it was in the second stage. Words as of `dma`,
 * with the guest's address in place of the IOVA and the second stage's root; only of requests that moved data.
 */
export const nestedDma = event('nested dma', ['function', 'gpaHigh', 'gpaLow', 'frame', 'root', 'begin']);

/** A request went to a sibling's memory below the unit: requester id and whether it wrote, as in `dma`; the address's page; the sibling's requester id. */
export const peerReached = event('peer reached', ['function', 'iovaHigh', 'iovaLow', 'peer']);

/** Tables of a unit whose entries have more than one word. */
export const TableKind = { CONTEXT: 1, SCALABLE_CONTEXT: 2, PASID: 3, DEVICE_TABLE: 4, STREAM: 5, CONTEXT_DESCRIPTOR: 6, DEVICE_CONTEXT: 7 } as const;

/** A present entry was read from its table and is used: the low words of its quadwords, 0 for one that the entry's type does not use. */
export const entryFetched = event('entry fetched', ['table', 'source', 'pasid', 'word0', 'word1', 'word2']);

/** A walk read a table in a frame that holds no table any more: `owner` as the frame table says. */
export const deadTableRead = event('dead table read', ['source', 'frame', 'owner']);

/** A function asks for a page (`pasid` -1: without one); and it was answered with a code of PRI. `group` is the function's own number for it. */
export const pageRequested = event('page requested', ['function', 'group', 'pasid', 'page']);
export const pageAnswered = event('page answered', ['function', 'group', 'code']);

/** A unit's queue has carried out the descriptor in `slot`, whose first word this is. */
export const invalidated = event('invalidated', ['unit', 'slot', 'first']);

/** A device interface went from one `TdiState` to another, by a `Mover`. */
export const tdiMoved = event('tdi moved', ['function', 'before', 'after', 'by']);

/** A `Register` of a function that TDISP locks was written. Told before the interface answers to it. */
export const configurationWritten = event('configuration written', ['function', 'register']);

/**
 * Beside a `dma` of a host with confidential guests, at the same moment: whether the request had T = 1, and what of the frame the owner's
 * table says. `function` and `iovaLow` as in `dma`, without the owner.
 */
export const ownedAccess = event('owned access', ['function', 'trusted', 'iovaHigh', 'iovaLow', 'frame', 'visibility']);
