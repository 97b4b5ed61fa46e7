/** What a RISC-V IOMMU tells software of a fault (RISC-V IOMMU specification, "Fault/Event-Queue"; SEMANTICS d.6). */
import { Cause, completionOf, Completion, ignoresDtf, Want } from './cause.ts';
import { Tc } from './device-context.ts';
import { AddressType, type RiscvRequest } from './translation.ts';

/** TTYP: what kind of transaction it was. */
export function transactionType({ type, wanted }: RiscvRequest): number {
  if (type === AddressType.TRANSLATION_REQUEST) return 8;
  const untranslated = (wanted & Want.WRITE) !== 0 ? 3 : (wanted & Want.EXECUTE) !== 0 ? 1 : 2;
  return type === AddressType.TRANSLATED ? untranslated + 4 : untranslated;
}

/** Whether a fault is recorded: ATS answers "no access" without one, and a device's context can disable them. `control` is its tc. */
export function isRecorded(cause: number, control: number, { type }: RiscvRequest): boolean {
  if (cause === Cause.NONE || ((control & Tc.DTF) !== 0 && !ignoresDtf(cause))) return false;
  return type !== AddressType.TRANSLATION_REQUEST || completionOf(cause) !== Completion.NO_ACCESS;
}
