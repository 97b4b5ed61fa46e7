/**
 * The faults of 7.2 that recordings show (SEMANTICS g.0; docs/faults-of-7.2.md tells each): on as in 7.2; a variant switches some off, to see
 * one by itself or what a repair does. K2 alone was read and not recorded.
 */
export interface FaultsOf72 {
  /** K1: a dirty query ends at the first hole without an error, and tells nothing of what is behind it. */
  readonly dirtyHoleStops: boolean;
  /** K1b: a dirty query clears also what it could not store in the user's bitmap, and succeeds. */
  readonly dirtyBitmapFaultLosesDirt: boolean;
  /** K2: an SMMUv3 vIOMMU that is given a command it cannot convert counts those before it as handled that it has not issued yet. */
  readonly smmuPartialBatch: boolean;
  /** K6: enabling dirty tracking while it is on forgets what was written. */
  readonly secondEnableLosesDirt: boolean;
  /** K3: ATTACH that cannot write back `pt_id` detaches the RID, whichever slot it attached and whether it was a replace. Mended: it attaches nothing. */
  readonly pasidUndoHitsRid: boolean;
  /** K4: a failed replace within one IOAS takes the group's reserved regions away from it. */
  readonly failedReplaceDropsReserved: boolean;
  /** K5: a PASID attach of pasid 0 attaches the RID, behind the back of the ordinary attach and detach. */
  readonly pasidZeroIsRid: boolean;
  /** K7: a driver that blocks before it refuses leaves the member that it refused blocked. */
  readonly failedReplaceLeavesBlocked: boolean;
  /** K8: in scalable mode nothing translates under the alias of devices behind a bridge. Decided when a device is probed. */
  readonly aliasPasidTableSkipped: boolean;
  /** K9: a replace does not ask which driver made the HWPT. */
  readonly replaceForeignHwpt: boolean;
}

export const faultsOf72: FaultsOf72 = Object.freeze({
  dirtyHoleStops: true,
  dirtyBitmapFaultLosesDirt: true,
  smmuPartialBatch: true,
  secondEnableLosesDirt: true,
  pasidUndoHitsRid: true,
  failedReplaceDropsReserved: true,
  pasidZeroIsRid: true,
  failedReplaceLeavesBlocked: true,
  aliasPasidTableSkipped: true,
  replaceForeignHwpt: true,
});

/** All of them mended, but those named: what one does by itself. */
export function onlyFaults(...kept: readonly (keyof FaultsOf72)[]): FaultsOf72 {
  const names = Object.keys(faultsOf72) as (keyof FaultsOf72)[];
  return Object.fromEntries(names.map((name) => [name, kept.includes(name)])) as Record<keyof FaultsOf72, boolean>;
}
