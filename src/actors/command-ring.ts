/**
 * The command ring of a guest's virtual IOMMU, in the first page of guest memory (in the manner of virtio-iommu).
 *
 * The guest writes a command, then `tail`; the vIOMMU answers in the command and moves `head`. Both sides are threads.
 */
import { waitWord } from '#hostmem/locks';
import { struct, u32, words } from '#hostmem/struct';

export const CommandRing = struct('CommandRing', { tail: waitWord, head: waitWord, pad: words(28) });

/** 32 bytes; `status` is 0 until answered, then 1 for success or 2 plus the errno's number. */
export const GuestCommand = struct('GuestCommand', {
  op: u32, iovaHigh: u32, iovaLow: u32, gpa: u32, pages: u32, flags: u32, status: u32, pad: u32,
});

/** MAP and UNMAP as virtio-iommu has them; INVALIDATE as a caching-mode VT-d: the guest's own table is read again. */
export const GuestOp = { MAP: 1, UNMAP: 2, INVALIDATE: 3 } as const;

/** Commands in flight at most. */
export const ringSlots = 64;

/** Where the guest keeps the table that INVALIDATE reads: one word a page, `gpa | 1`, by `iova >> 12` modulo 1024. */
export const guestTableGpa = 4096;
export const guestTableEntries = 1024;
export const guestPresent = 1;

/** Guest memory below this is used by the ring and the table. */
export const guestFreeGpa = 8192;

/** Address of the command with this running number, given the ring's. */
export const commandAt = (ring: number, number: number): number =>
  ring + CommandRing.sizeBytes + (number % ringSlots) * GuestCommand.sizeBytes;
