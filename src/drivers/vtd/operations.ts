/**
 * The functions of the VT-d driver that a variant may replace: `{ ...vtdOperations, flushRange: mine }`.
 *
 * They call each other through the table of the `Vtd` they are given, so that a replaced one is used throughout.
 */
import { attachIdentity, attachPaging, blockTranslation, enterDomain } from './attach.ts';
import { clearContext, installContext } from './context.ts';
import { assignTag, flushContext, flushPasid, flushRange, flushScalableContext, unassignTag } from './invalidation.ts';
import { setUpPasid, setUpPassThrough, tearDownPasid } from './pasid-entry.ts';
import { setUpPasidTable, tearDownPasidTable } from './pasid-table.ts';
import { submit } from './queue.ts';

export const vtdOperations = {
  submit,
  flushRange,
  flushContext,
  flushPasid,
  flushScalableContext,
  assignTag,
  unassignTag,
  installContext,
  clearContext,
  setUpPasidTable,
  tearDownPasidTable,
  setUpPasid,
  setUpPassThrough,
  tearDownPasid,
  blockTranslation,
  attachPaging,
  enterDomain,
  attachIdentity,
};

export type VtdOperations = typeof vtdOperations;
