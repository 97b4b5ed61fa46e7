/** The functions of the SMMUv3 driver that a variant may replace; they call each other through the table of the `Smmu` they are given. */
import { attachIdentity, attachNested, attachPaging, block } from './attach.ts';
import { streamStages } from './entries.ts';
import { beginUnmap, flushRange, forgetStages1 } from './invalidation.ts';
import type { Smmu } from './smmu.ts';
import type { Ref } from '#hostmem/object';

export interface SmmuOperations {
  readonly attachPaging: typeof attachPaging;
  readonly attachNested: typeof attachNested;
  readonly attachIdentity: typeof attachIdentity;
  readonly block: typeof block;
  readonly streamStages: typeof streamStages;
  /** Before leaves are cleared. */
  beginUnmap(smmu: Smmu, domain: Ref<'IommuDomain'>): void;
  readonly flushRange: typeof flushRange;
  readonly forgetStages1: typeof forgetStages1;
}

export const smmuOperations: SmmuOperations = { attachPaging, attachNested, attachIdentity, block, streamStages, beginUnmap, flushRange, forgetStages1 };
