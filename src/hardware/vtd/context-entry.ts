/**
 * Root and context entries of legacy mode (VT-d specification 9.1, 9.3; SEMANTICS c.6), in the words of RAM.
 *
 *   root entry      lo: P 0 · context table [63:12]                                    index: bus
 *   context entry   lo: P 0 · FPD 1 · TT [3:2] · root of the page tables [63:12]       index: device and function
 *                   hi: AW [2:0] · DID [23:8]
 *
 * Tables lie below 4 GiB, so that the high word of every pointer is 0.
 */
import { label } from '#hostmem/labels';
import { hpaOf, type Frame } from '#hostmem/memory';

/** Bytes of an entry of either kind. */
export const entryBytes = 16;

export const present = 1;
export const faultsDisabled = 2;

/** TT: what the entry does with an untranslated request. */
export const TranslationType = { UNTRANSLATED_ONLY: 0, ALSO_TRANSLATED: 1, PASS_THROUGH: 2 } as const;

/** Labels of the two halves of a context entry. */
export const lowLabel = label('VtdContextEntry.low');
export const highLabel = label('VtdContextEntry.high');

/** Low word of a present context entry. */
export const contextLow = (root: Frame, type: number): number => (hpaOf(root) | (type << 2) | present) | 0;
/** Low word of the high half: address width by table levels, and domain id. */
export const contextHigh = (levels: number, domainId: number): number => (domainId << 8) | (levels - 2);

export const typeOf = (low: number): number => (low >>> 2) & 3;
export const levelsOf = (high: number): number => (high & 7) + 2;
export const domainIdOf = (high: number): number => (high >>> 8) & 0xffff;

/** Bits that must be 0, in the low word of each half. */
export const reservedInRoot = 0xffe;
export const reservedInLow = 0xff0;
export const reservedInHigh = 0xff000080 | 0;

/** Byte address of the root entry of a requester's bus. */
export const rootEntryAt = (rootTable: Frame, sourceId: number): number => hpaOf(rootTable) + (sourceId >>> 8) * entryBytes;
/** Byte address of the context entry of a requester in its bus's table. */
export const contextEntryAt = (contextTable: Frame, sourceId: number): number => hpaOf(contextTable) + (sourceId & 0xff) * entryBytes;
