/**
 * Process context (RISC-V IOMMU specification, "Process-context"; SEMANTICS c.8), as words of 32 bits. The entries of the directory above
 * it are those of the device directory, its index is pid [19:17], [16:8], [7:0].
 *
 *   ta    V 0 · ENS 1 · SUM 2 · reserved [11:3] · PSCID [31:12] · reserved [63:32]
 *   fsc   PPN [43:0] · reserved [59:44] · MODE [63:60]
 */
import { label } from '#hostmem/labels';
import { modeOf } from './device-context.ts';
import { offersFirstStage } from './registers.ts';

export const Ta = { VALID: 1, ENS: 1 << 1, SUM: 1 << 2 } as const;

/** Where a field begins among the words of a context. */
export const ProcessField = { TA: 0, FSC: 2 } as const;
export const processContextWords = 4;

export const pdtLabel = label('RiscvPdt.entry');
export const processContextLabels: readonly number[] = [label('RiscvProcessContext.ta'), label('RiscvProcessContext.fsc')];

/** Most bits of a process id that a directory of so many levels can name; pdtp's MODE is the number of levels. */
export const pidBits = (levels: number): number => (levels === 1 ? 8 : levels === 2 ? 17 : 20);

const reservedInTa = 0xff8;
const reservedInFscHigh = 0x0ffff000;

/** Whether a context, valid by its V bit, says what the unit cannot do. */
export function isMisconfiguredProcess(context: Int32Array, capabilities: number): boolean {
  const reserved = (context[ProcessField.TA]! & reservedInTa) | context[ProcessField.TA + 1]! | (context[ProcessField.FSC + 1]! & reservedInFscHigh);
  return reserved !== 0 || !offersFirstStage(capabilities, modeOf(context[ProcessField.FSC + 1]!));
}
