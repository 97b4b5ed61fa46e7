/**
 * How a translation through two stages is told apart in caches and reports: a name for the pair of tables, and the guest's page beside the
 * permissions of a cached line. Hardware needs neither; they are for oracles, who judge the second stage by the guest's address.
 */
import type { Frame } from '#hostmem/memory';

const nested = 1 << 30;
const firstShift = 20;
const firstMask = 0x3ff;
const secondMask = 0xfffff;
const accessBits = 2;

/** Of a first stage whose root is that page of the guest, on a second stage. Two roots of one guest that are 4 MiB apart have one name. */
export const nestedName = (first: number, second: Frame): Frame => (nested | ((first & firstMask) << firstShift) | (second & secondMask)) as Frame;

/** Whether a root frame is such a name. */
export const isNestedName = (root: number): boolean => root > 0 && (root & nested) !== 0;

/** The first stage's root, modulo 2^10. */
export const firstRootOf = (name: number): number => (name >>> firstShift) & firstMask;
/** The second stage's root. */
export const secondRootOf = (name: number): Frame => (name & secondMask) as Frame;

/** How messages call the tables behind a root, be it a name of two or a frame. */
export const rootText = (root: number): string =>
  isNestedName(root) ? `root page 0x${firstRootOf(root).toString(16)} of a guest on root frame 0x${secondRootOf(root).toString(16)}` : `root frame 0x${root.toString(16)}`;

/** A line's word of permissions, with the page of the guest (modulo 2^30) that it is for. */
export const withGuestPage = (permissions: number, page: number): number => permissions | (page << accessBits);
export const guestPageOf = (permissions: number): number => permissions >>> accessBits;
