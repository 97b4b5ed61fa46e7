/**
 * Commands of AMD's command buffer (AMD I/O Virtualization Technology specification 2.4; SEMANTICS d.5): 16 bytes, here as four words. The
 * opcode is in [31:28] of the second one.
 *
 *   COMPLETION_WAIT 1          S 0 · address [31:3]; address [51:32] in [19:0] of the second; third and fourth: data
 *   INVALIDATE_DEVTAB_ENTRY 2  requester id [15:0]
 *   INVALIDATE_IOMMU_PAGES 3   PASID [19:0]; DomID [15:0] of the second; third: S 0 · PDE 1 · GN 2 · address [31:12]; fourth: address
 *   INVALIDATE_IOMMU_ALL 8
 *
 * With S a range is as large as its address says: the lowest bit of it, from 12 up, that is 0 is the first one that does not belong to it.
 */
export const Opcode = { COMPLETION_WAIT: 1, INVALIDATE_DEVTAB_ENTRY: 2, INVALIDATE_IOMMU_PAGES: 3, INVALIDATE_IOMMU_ALL: 8 } as const;
const opcodeShift = 28;

export type Command = readonly [number, number, number, number];

export const opcodeOf = (second: number): number => second >>> opcodeShift;
/** Of COMPLETION_WAIT: store. */
export const store = 1;
/** Of INVALIDATE_IOMMU_PAGES: more than one page; page-directory entries too; guest addresses. */
export const Pages = { SIZE: 1, DIRECTORIES: 2, GUEST: 4 } as const;

/** `at` is below 4 GiB, a multiple of 8. */
export const completionWait = (at: number, data: number): Command => [at | store, Opcode.COMPLETION_WAIT << opcodeShift, data, 0];
export const invalidateEntry = (sourceId: number): Command => [sourceId, Opcode.INVALIDATE_DEVTAB_ENTRY << opcodeShift, 0, 0];

/** An aligned block of `1 << order` pages, or for an order of 52 all of the domain. */
export function invalidatePages(domainId: number, iovaHigh: number, iovaLow: number, order: number): Command {
  const second = (Opcode.INVALIDATE_IOMMU_PAGES << opcodeShift) | domainId;
  if (order === 0) return [0, second, (iovaLow & ~0xfff) | Pages.DIRECTORIES, iovaHigh];
  // All bits below the one that tells the size are 1; of everything, all but the sign.
  const ones = order === 52 ? 2 ** 51 - 1 : 2 ** (order - 1) - 1;
  const page = ((iovaHigh >>> 0) * 2 ** 20 + (iovaLow >>> 12)) / 2 ** Math.min(order, 51);
  const first = order === 52 ? 0 : Math.floor(page) * 2 ** order;
  const address = first + ones;
  return [0, second, ((address % 2 ** 20) << 12) | Pages.DIRECTORIES | Pages.SIZE, Math.floor(address / 2 ** 20) | 0];
}

/** How many bits of a page number the block of an INVALIDATE_IOMMU_PAGES spans. */
export function orderOf(third: number, fourth: number): number {
  if ((third & Pages.SIZE) === 0) return 0;
  const lowZero = ~(third >>> 12) & 0xfffff;
  if (lowZero !== 0) return 32 - Math.clz32(lowZero & -lowZero);
  const highZero = ~fourth;
  return highZero === 0 ? 52 : Math.min(52, 20 + 32 - Math.clz32(highZero & -highZero));
}
