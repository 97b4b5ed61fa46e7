/**
 * An IOMMU unit as every vendor has it: whose functions it serves, its IOTLB, and its vendor's registers.
 *
 * Units are made with the world and stay for the life of the host.
 */
import { object, ref, u32 } from '#hostmem/struct';

/** Whose registers a unit has. */
export const UnitKind = { VTD: 1, RISCV: 2 } as const;
export type UnitKind = (typeof UnitKind)[keyof typeof UnitKind];

export const IommuUnit = object('IommuUnit', {
  number: u32,
  kind: u32,
  next: ref('IommuUnit'),
  firstFunction: ref('PciFunction'),
  iotlb: ref('Iotlb'),
  /** Beside the IOTLB: of entries of requesters, of PASIDs (`NULL` for a unit without), of upper levels of page tables. */
  contextCache: ref('TaggedCache'),
  pasidCache: ref('TaggedCache'),
  walkCache: ref('TaggedCache'),
  /** Where page requests wait; `NULL` for a unit that takes none. */
  pageRequests: ref('PageRequests'),
  /** The vendor's register file: `VtdRegisters` or `RiscvRegisters`. */
  registers: u32,
  /**
   * Not 0 where hardware and driver let a device go from one table to another without a moment in which it has none (D5). VT-d is
   * declared to break before it makes: its driver blocks a device, then lets it translate again.
   */
  hitless: u32,
  /** Kept for system software, which hangs a record of its own here; hardware never reads it. */
  driverData: u32,
});
