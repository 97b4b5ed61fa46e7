/** What an SMMUv3 keeps in registers, as far as it is modelled; in kernel memory, as MMIO registers are to the kernel. */
import { object, ref, u32 } from '#hostmem/struct';

/**
 * IDR0 to IDR5, IIDR and AIDR. Both stages, tables of AArch64, coherent, ATS, ASIDs and VMIDs of 16 bits, no stalls, stream tables of two levels; 256 commands,
 * 128 events, no substreams, stream ids of 16 bits; nothing of IDR2 to IDR4 (no invalidation by range); 48 bits of output, granules of 4 KiB; SMMUv3.1.
 */
export const idRegisters = [
  3 | (2 << 2) | (1 << 4) | (1 << 10) | (1 << 12) | (1 << 18) | (1 << 24) | (1 << 27), (8 << 21) | (7 << 16) | 16, 0, 0, 0, 5 | (1 << 4), 0, 1,
] as const;

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
