/**
 * An IOMMU unit as every vendor has it: whose functions it serves, its IOTLB, and its vendor's registers.
 *
 * Units are made with the world and stay for the life of the host.
 */
import { object, ref, u32 } from '#hostmem/struct';

/** Whose registers a unit has. */
export const UnitKind = { VTD: 1, RISCV: 2, AMD: 3, SMMUV3: 4, MOCK: 5 } as const;
export type UnitKind = (typeof UnitKind)[keyof typeof UnitKind];

/**
 * What is declared of a unit's replaces. VT-d, AMD and RISC-V break before they make: their drivers block a device, then let it translate
 * again. SMMUv3 does between stages, where one word of the stream-table entry decides; within a stage two words differ, and it breaks too.
 */
export const Hitless = { NEVER: 0, ALWAYS: 1, BETWEEN_STAGES: 2 } as const;
export type Hitless = (typeof Hitless)[keyof typeof Hitless];

export const IommuUnit = object('IommuUnit', {
  number: u32,
  kind: u32,
  next: ref('IommuUnit'),
  firstFunction: ref('PciFunction'),
  iotlb: ref('Iotlb'),
  /** On a host with a TSM: what the trusted side of all its units shares. */
  trustedRoot: ref('TrustedRoot'),
  /** Beside the IOTLB: of entries of requesters, of PASIDs (`NULL` for a unit without), of upper levels of page tables. */
  contextCache: ref('TaggedCache'),
  pasidCache: ref('TaggedCache'),
  walkCache: ref('TaggedCache'),
  /** Where page requests wait; `NULL` for a unit that takes none. */
  pageRequests: ref('PageRequests'),
  /** The vendor's register file: `VtdRegisters`, `RiscvRegisters`, `AmdRegisters` or `SmmuRegisters`; the mock unit has one in each function. */
  registers: u32,
  /** When hardware and driver let a device go from one table to another without a moment in which it has none: a `Hitless` (D5). */
  hitless: u32,
  /** Kept for system software, which hangs a record of its own here; hardware never reads it. */
  driverData: u32,
});

/** How a unit of AMD's or Arm's is made. */
export interface EntryUnitOptions {
  /** How many bits of an entry the unit fetches at once; 128 by default, 512 is any entry as a whole. */
  readonly fetchBits?: 64 | 128 | 512;
  /** Whether the unit has caches at all; on by default. */
  readonly caches?: 'on' | 'off';
}
