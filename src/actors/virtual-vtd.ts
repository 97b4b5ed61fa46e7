/**
 * The virtual VT-d unit of a guest, in scalable mode with a first stage, as its driver and its VMM share it (VT-d specification 6.5, 7.4).
 *
 *   page 2   registers: tails and heads of both queues (in a real VM they trap to the VMM; here both see the words)
 *   page 3   invalidation queue: descriptors of 256 bits, written by the guest
 *   page 4   page-request queue: records of 256 bits, written by the VMM
 *   page 5   status words that the guest's wait descriptors name; in its upper half, the PASID entry of requests without PASID
 *   page 6 and on   the guest's first stage: a table of each level, root first, and behind them the guest's other memory
 *
 * Guest addresses; they are the IOVAs of the nest parent. Virtual units of the mock IOMMU and of SMMUv3 have the same queues (`virtual-mock.ts`,
 * `virtual-smmu.ts`).
 */
import { struct } from '#hostmem/struct';
import { waitWord } from '#hostmem/locks';
import type { RingPlace } from './guest-ring.ts';

const Registers = struct('VirtualIommu', { queueTail: waitWord, queueHead: waitWord, requestTail: waitWord, requestHead: waitWord });
const registersGpa = 0x2000;

/** What the guest tells its unit; and what its unit tells the guest. */
export const commandRing: RingPlace = { registersGpa, tail: Registers.queueTail, head: Registers.queueHead, slotsGpa: 0x3000 };
export const requestRing: RingPlace = { registersGpa, tail: Registers.requestTail, head: Registers.requestHead, slotsGpa: 0x4000 };

/** The word that a wait writes. */
export const WaitStatus = struct('WaitStatus', { word: waitWord });
export const statusGpa = 0x5000;

/** The guest's PASID entry, as hardware's (`scalable-entry.ts`); a guest that never changes its tables leaves it empty. */
export const pasidEntryGpa = 0x5800;

/** In place of a PASID, for requests without one. */
export const ridPasid = 0;
/** The guest's own name for its domain; the host has another. */
export const guestDomainId = 5;

export const firstStageGpa = 0x6000;
const levels = 4;
/** What a guest with such a unit has for itself. */
export const nestedFreeGpa = firstStageGpa + levels * 4096;

/** The first IOVA of those that the guest's tables reach, and how many pages these are: 2 MiB. */
export const windowIova = 0x1000_0000;
export const windowPages = 512;
