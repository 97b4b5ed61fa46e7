/**
 * The faults of 7.2 that recordings show (SEMANTICS g.0): each on as in 7.2; a variant switches one off to see what a repair does.
 */
export interface FaultsOf72 {
  /** K3: ATTACH that cannot write back `pt_id` detaches the RID, whichever slot it attached and whether it was a replace. */
  readonly pasidUndoHitsRid: boolean;
  /** K4: a failed replace within one IOAS takes the group's reserved regions away from it. */
  readonly failedReplaceDropsReserved: boolean;
  /** K5: a PASID attach of pasid 0 attaches the RID, behind the back of the ordinary attach and detach. */
  readonly pasidZeroIsRid: boolean;
  /** K7: a driver that blocks before it refuses leaves the member that it refused blocked. */
  readonly failedReplaceLeavesBlocked: boolean;
}

export const faultsOf72: FaultsOf72 = Object.freeze({
  pasidUndoHitsRid: true,
  failedReplaceDropsReserved: true,
  pasidZeroIsRid: true,
  failedReplaceLeavesBlocked: true,
});
