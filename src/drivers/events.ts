/** What a driver reports about its tables and invalidations: what invariants hold against what hardware does. */
import { event } from '#hostmem/history';

/**
 * An entry is meant to be so from now on, told before its first word is written. `table` is a `TableKind` of hardware's events,
 * `source` the requester id; the words are the low words of its quadwords.
 */
export const EntryWritten = event('entry written', ['table', 'source', 'pasid', 'word0', 'word1', 'word2']);
/** What a present entry said when software began to change it; words as of `EntryWritten`. */
export const EntryFound = event('entry found', ['table', 'source', 'pasid', 'word0', 'word1', 'word2']);
/** An entry that was not present is emptied, and what it pointed to may be freed. */
export const EntryZeroed = event('entry zeroed', ['table', 'source', 'pasid']);
/** Leaves of the domain with that root table were cleared: the range holds all of them, and may be larger than what was asked for. */
export const LeavesCleared = event('leaves cleared', ['root', 'iovaHigh', 'iovaLow', 'pages']);
/** A flush of a range of a domain begins; and it has returned. `leafOnly` is 1 when tables may stay cached, `pages` is 0 for the whole domain. */
export const FlushCalled = event('flush call', ['root', 'iovaHigh', 'iovaLow', 'pages', 'leafOnly']);
export const FlushReturned = event('flush return', ['root', 'iovaHigh', 'iovaLow', 'pages', 'leafOnly']);
/** The page tables of a domain were freed. */
export const TablesFreed = event('tables freed', ['root']);
/** A descriptor lies in the ring of a unit, in `slot`; its low words. */
export const InvalidationQueued = event('invalidation queued', ['unit', 'slot', 'first', 'second', 'third']);
/** So many commands of a guest are about to be converted and queued: their order is the guest's. */
export const GuestCommands = event('guest commands', ['count']);
/** Of those, so many are said to be handled, and so many were queued. */
export const GuestCommandsCounted = event('guest commands counted', ['count', 'handled', 'issued']);
/** A submission to the queue of a unit returned: it takes all that it queued for done. */
export const SubmitReturned = event('submit return', ['unit']);
/** A submission came to nothing, a device having not answered: whoever made it knows, and takes nothing of it for done. */
export const SubmitTimedOut = event('submit timed out', ['unit', 'source']);
/** A domain id of a unit may be given to another domain from now on. */
export const DomainIdReturned = event('domain id returned', ['unit', 'domainId']);
