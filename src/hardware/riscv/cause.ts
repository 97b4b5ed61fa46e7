/** Why a RISC-V IOMMU refused a request (RISC-V IOMMU specification, "Fault causes"; SEMANTICS d.6), and whom it tells. */

export const Cause = {
  NONE: 0,
  /** By what the request wanted: see `accessFault`, `pageFault`, `guestPageFault`. */
  READ_ACCESS: 5,
  ALL_DISALLOWED: 256,
  DDT_ACCESS: 257,
  DDT_NOT_VALID: 258,
  DDT_MISCONFIGURED: 259,
  TYPE_DISALLOWED: 260,
  PDT_ACCESS: 265,
  PDT_NOT_VALID: 266,
  PDT_MISCONFIGURED: 267,
  DDT_CORRUPT: 268,
} as const;

/** What a request wants of a page. A read for execution may want both. */
export const Want = { READ: 1, WRITE: 2, EXECUTE: 4 } as const;

export const accessFault = (wanted: number): number => ((wanted & Want.WRITE) !== 0 ? 7 : (wanted & Want.EXECUTE) !== 0 ? 1 : Cause.READ_ACCESS);
export const pageFault = (wanted: number): number => ((wanted & Want.WRITE) !== 0 ? 15 : (wanted & Want.EXECUTE) !== 0 ? 12 : 13);
export const guestPageFault = (wanted: number): number => ((wanted & Want.WRITE) !== 0 ? 23 : (wanted & Want.EXECUTE) !== 0 ? 20 : 21);
export const isGuestPageFault = (cause: number): boolean => cause === 20 || cause === 21 || cause === 23;

/** Whether a cause is recorded though the device's context disables faults (DTF). */
export const ignoresDtf = (cause: number): boolean => (cause >= Cause.ALL_DISALLOWED && cause <= Cause.DDT_MISCONFIGURED) || cause === Cause.DDT_CORRUPT;

/** How an ATS translation request is completed. */
export const Completion = { SUCCESS: 0, NO_ACCESS: 1, UNSUPPORTED_REQUEST: 2, COMPLETER_ABORT: 3 } as const;
export type Completion = (typeof Completion)[keyof typeof Completion];

/** By the cause found: what a page request may mend says that there is no access, what is not set up is unsupported. */
export function completionOf(cause: number): Completion {
  if (cause === Cause.NONE) return Completion.SUCCESS;
  if ((cause >= 12 && cause <= 23) || cause === Cause.PDT_NOT_VALID) return Completion.NO_ACCESS;
  return cause >= Cause.ALL_DISALLOWED && cause <= Cause.TYPE_DISALLOWED ? Completion.UNSUPPORTED_REQUEST : Completion.COMPLETER_ABORT;
}
