/** What the AMD driver keeps: of all units together, of each (the kernel's `struct amd_iommu`, reached through `IommuUnit.driverData`), and of each domain. */
import { mutex } from '#hostmem/locks';
import type { Frame } from '#hostmem/memory';
import { object, ref, u32 } from '#hostmem/struct';

export const AmdDriverState = object('AmdDriverState', {
  blockedDomain: ref('IommuDomain'),
  identityDomain: ref('IommuDomain'),
  /** Domain ids, the same on every unit (`pdom_ids`). */
  domainIds: ref('IdBitmap'),
});

export const AmdUnitState = object('AmdUnitState', {
  driver: ref('AmdDriverState'),
  /** Frame of the word that completion waits store to (`cmd_sem`). */
  semaphore: u32,
  /** Held while an entry of the device table is written (`dte_lock`). */
  entryLock: mutex,
  /** Leaf lock over the command buffer's tail and the two below (`iommu->lock`). */
  ringLock: u32,
  /** Not 0 when a command lies in the buffer that no completion wait is behind. */
  needSync: u32,
  /** What the last completion wait stores, or will. */
  sequence: u32,
});

/**
 * Reached through `IommuDomain.driverData`. `IommuDomain.root` is the table that the domain's tables began with: it stays where it is, and
 * reports name the domain by it.
 */
export const AmdDomain = object('AmdDomain', {
  domainId: u32,
  /** Root and levels of the tables in one word, so that nobody has one without the other (CVE-2025-39961). */
  top: u32,
});

/** The root of a domain's tables, and how many levels it has. */
export interface Top {
  readonly root: Frame;
  readonly levels: number;
}

const levelBits = 3;
const levelMask = 7;
export const packTop = ({ root, levels }: Top): number => (root << levelBits) | levels;
export const topRoot = (top: number): Frame => (top >>> levelBits) as Frame;
export const topLevels = (top: number): number => top & levelMask;
