/** Which commands a RISC-V IOMMU's queue carries out: one that the unit has, whose reserved bits are 0 and whose fields fit each other (cqcsr.cmd_ill). */
import { deviceIdOf, Fence, funcOf, Invalidate, isRange, namesDevice, Opcode, opcodeOf, processIdOf } from './commands.ts';
import { Capability, CapabilityHigh, processBitsOf } from './registers.ts';

/** What a unit's queue may be told: its capabilities, and how wide a device id its directory has room for. */
export interface CommandAbilities {
  readonly capabilities: number;
  readonly capabilitiesHigh: number;
  readonly deviceBits: number;
}

/** Bits that must be 0 in each word, by opcode, of those that every unit has; the address of a fence, and an ATS message, take whole words. */
const reserved: Readonly<Record<number, readonly [number, number, number, number]>> = {
  [Opcode.IOTINVAL]: [0x800, 0xf0000ff8 | 0, 0x1ff, 0xc0000000 | 0],
  // There is no wired interrupt: fctl.WSI is 0.
  [Opcode.IOFENCE]: [Fence.SIGNAL | (0xffffc000 | 0), 0, 0, 0xc0000000 | 0],
  [Opcode.IODIR]: [0xc00, 0xfd, -1, -1],
  [Opcode.ATS]: [0xc00, 0xfc, 0, 0],
};
const functions: Readonly<Record<number, number>> = { [Opcode.IOTINVAL]: 2, [Opcode.IOFENCE]: 1, [Opcode.IODIR]: 2, [Opcode.ATS]: 2 };

export function isLegal(first: number, second: number, third: number, fourth: number, abilities: CommandAbilities): boolean {
  const opcode = opcodeOf(first);
  const bits = reserved[opcode];
  if (bits === undefined || funcOf(first) >= functions[opcode]!) return false;
  if (((first & bits[0]) | (second & bits[1]) | (third & bits[2]) | (fourth & bits[3])) !== 0) return false;
  if (opcode === Opcode.IOTINVAL) return isLegalInvalidation(first, second, third, abilities.capabilitiesHigh);
  if (opcode === Opcode.IODIR) return isLegalDirectoryInvalidation(first, second, abilities);
  return opcode !== Opcode.ATS || (abilities.capabilities & Capability.ATS) !== 0;
}

/** Guest-physical translations have no process. */
function isLegalInvalidation(first: number, second: number, third: number, capabilitiesHigh: number): boolean {
  if ((second & Invalidate.NON_LEAF) !== 0 && (capabilitiesHigh & CapabilityHigh.NL) === 0) return false;
  if ((third & isRange) !== 0 && (capabilitiesHigh & CapabilityHigh.S) === 0) return false;
  return funcOf(first) === 0 || (second & Invalidate.PSCV) === 0;
}

/** A process directory is one of a device; the directory of devices has no processes. */
function isLegalDirectoryInvalidation(first: number, second: number, { capabilitiesHigh, deviceBits }: CommandAbilities): boolean {
  if (namesDevice(second) && deviceIdOf(second) >>> deviceBits !== 0) return false;
  if (funcOf(first) === 0) return processIdOf(first) === 0;
  return namesDevice(second) && processIdOf(first) >>> processBitsOf(capabilitiesHigh) === 0;
}
