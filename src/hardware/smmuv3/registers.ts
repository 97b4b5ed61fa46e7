/** What an SMMUv3 keeps in registers, as far as it is modelled; in kernel memory, as MMIO registers are to the kernel. */
import { object, ref, u32 } from '#hostmem/struct';

/** FMT of STRTAB_BASE_CFG. */
export const StreamTableFormat = { LINEAR: 0, TWO_LEVEL: 1 } as const;

export const SmmuRegisters = object('SmmuRegisters', {
  /** STRTAB_BASE: the first frame of the stream table, 0 until software has given it; as long as there is none requests pass (GBPA). */
  streamTable: u32,
  /** FMT, and LOG2SIZE: how many bits of a stream id there are. */
  streamTableFormat: u32,
  streamBits: u32,
  commands: ref('UnitCommandRing'),
  events: ref('EventRing'),
  /** A property of the unit, no register: how many bits of an entry it fetches at once. */
  fetchBits: u32,
});
