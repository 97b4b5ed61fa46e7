/**
 * The functions of the VT-d driver that a variant may replace: `{ ...vtdOperations, flushRange: mine }`.
 *
 * They call each other through the table of the `Vtd` they are given, so that a replaced one is used throughout.
 */
import { attachIdentity, attachPaging, blockTranslation, enterDomain, joinDomain, leaveDomain } from './attach.ts';
import { clearContext, installContext } from './context.ts';
import { disableAts, enableAts } from './ats.ts';
import { assignDeviceTag, assignParentTag, assignTag, unassignDeviceTag, unassignParentTag, unassignTag } from './cache-tag.ts';
import { gather } from './gather.ts';
import { drainPageRequests, flushContext, flushDeviceTlb, flushIotlb, flushNestedDeviceTlb, flushPasid, flushRange, flushScalableContext } from './invalidation.ts';
import { setUpPasid, setUpPassThrough, tearDownPasid } from './pasid-entry.ts';
import { removePasid, setPasid } from './device-pasid.ts';
import { addPasidTable, setUpPasidTable, tearDownPasidTable } from './pasid-table.ts';
import { afterTimeOut, submit } from './queue.ts';

export const vtdOperations = {
  submit,
  afterTimeOut,
  gather,
  flushRange,
  flushIotlb,
  flushDeviceTlb,
  flushNestedDeviceTlb,
  flushContext,
  flushPasid,
  flushScalableContext,
  drainPageRequests,
  assignTag,
  unassignTag,
  assignParentTag,
  unassignParentTag,
  assignDeviceTag,
  unassignDeviceTag,
  enableAts,
  disableAts,
  installContext,
  clearContext,
  setUpPasidTable,
  addPasidTable,
  tearDownPasidTable,
  setUpPasid,
  setUpPassThrough,
  tearDownPasid,
  setPasid,
  removePasid,
  blockTranslation,
  attachPaging,
  enterDomain,
  joinDomain,
  leaveDomain,
  attachIdentity,
};

export type VtdOperations = typeof vtdOperations;
