/** What a unit of AMD's keeps in registers, as far as it is modelled; in kernel memory, as MMIO registers are to the kernel. */
import { object, ref, u32 } from '#hostmem/struct';

export const AmdRegisters = object('AmdRegisters', {
  /** First frame of the device table, 0 until software has given it, and how many frames. */
  deviceTable: u32,
  deviceTableFrames: u32,
  commands: ref('UnitCommandRing'),
  events: ref('EventRing'),
  /** A property of the unit, no register: how many bits of an entry it fetches at once. */
  fetchBits: u32,
});
