/** C4, order: entry, context or PASID cache, IOTLB, device TLB, and only then zeroes; a device uses ATS while its entry allows it. */
import { EntryWritten, EntryZeroed, FlushCalled, GuestCommands, InvalidationQueued, SubmitTimedOut } from '../../drivers/events.ts';
import { dma, DmaFlags, TableKind } from '../../hardware/events.ts';
import * as amd from '../../hardware/amd/commands.ts';
import { Cause } from '../../hardware/riscv/cause.ts';
import * as riscv from '../../hardware/riscv/commands.ts';
import * as smmu from '../../hardware/smmuv3/commands.ts';
import { UnitKind } from '../../hardware/unit.ts';
import { Bits, Descriptor, pasidMask } from '../../hardware/vtd/descriptors.ts';
import { FaultReason, ScalableReason } from '../../hardware/vtd/faults.ts';
import { functionText, ridOf } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** The steps of a sequence, in their order. */
const Rank = { ENTRY: 0, ENTRY_CACHE: 1, IOTLB: 2, DEVICE_TLB: 3 } as const;
const ofVtd: Readonly<Record<number, number>> = {
  [Descriptor.CONTEXT_CACHE]: Rank.ENTRY_CACHE,
  [Descriptor.PASID_CACHE]: Rank.ENTRY_CACHE,
  [Descriptor.IOTLB]: Rank.IOTLB,
  [Descriptor.PASID_IOTLB]: Rank.IOTLB,
  [Descriptor.DEVICE_TLB]: Rank.DEVICE_TLB,
  [Descriptor.PASID_DEVICE_TLB]: Rank.DEVICE_TLB,
};
const ofAmd: Readonly<Record<number, number>> = { [amd.Opcode.INVALIDATE_DEVTAB_ENTRY]: Rank.ENTRY_CACHE, [amd.Opcode.INVALIDATE_IOMMU_PAGES]: Rank.IOTLB };
const ofRiscv: Readonly<Record<number, number>> = {
  [riscv.Opcode.IODIR]: Rank.ENTRY_CACHE,
  [riscv.Opcode.IOTINVAL]: Rank.IOTLB,
  [riscv.Opcode.ATS]: Rank.DEVICE_TLB,
};
const ofSmmu: Readonly<Record<number, number>> = {
  [smmu.Opcode.CFGI_STE]: Rank.ENTRY_CACHE,
  [smmu.Opcode.CFGI_CD]: Rank.ENTRY_CACHE,
  [smmu.Opcode.CFGI_CD_ALL]: Rank.ENTRY_CACHE,
  [smmu.Opcode.TLBI_NH_ALL]: Rank.IOTLB,
  [smmu.Opcode.TLBI_NH_ASID]: Rank.IOTLB,
  [smmu.Opcode.TLBI_NH_VA]: Rank.IOTLB,
  [smmu.Opcode.TLBI_NH_VAA]: Rank.IOTLB,
  [smmu.Opcode.TLBI_S12_VMALL]: Rank.IOTLB,
  [smmu.Opcode.TLBI_S2_IPA]: Rank.IOTLB,
  [smmu.Opcode.ATC_INV]: Rank.DEVICE_TLB,
};

/** The step that a command is, by whose it is; undefined for one that invalidates nothing. */
function rankOf(kind: UnitKind | undefined, first: number, second: number): number | undefined {
  if (kind === UnitKind.AMD) return ofAmd[amd.opcodeOf(second)];
  if (kind === UnitKind.RISCV) return riscv.isPageAnswer(first) ? undefined : ofRiscv[riscv.opcodeOf(first)];
  return kind === UnitKind.SMMUV3 ? ofSmmu[smmu.opcodeOf(first)] : ofVtd[first & 15];
}
const rankNames = ['the entry', 'the cache of entries', 'the IOTLB', 'the device TLB'];

/** What an actor's running sequence has queued: the last step, all of them, and under which numbers the IOTLB was invalidated. */
interface Sequence {
  last: number;
  readonly done: Set<number>;
  readonly numbers: Set<string>;
}

/** The unit whose IOTLB is invalidated; of VT-d with the domain id and PASID that are named, of another vendor there is but one domain in a sequence. */
const numberOf = (unit: number, kind: UnitKind | undefined, first: number, second: number): string =>
  kind === UnitKind.VTD || kind === undefined ? `${unit}.${first >>> Bits.domainShift}.${second & pasidMask}` : `${unit}`;

/** Whether a fault without a PASID says that the entry forbids ATS. */
function isAtsForbidden(kind: UnitKind | undefined, reason: number): boolean {
  if (kind === UnitKind.RISCV) return reason === Cause.TYPE_DISALLOWED;
  return kind === UnitKind.VTD && (reason === FaultReason.DEVICE_TLB_FORBIDDEN || reason === ScalableReason.DEVICE_TLB_FORBIDDEN);
}

/** All before it is over: what follows has an order of its own (Q8). */
const isFence = (first: number): boolean => (first & Bits.typeMask) === Descriptor.WAIT && (first & Bits.waitFence) !== 0;

export default invariant<Map<number, Sequence>>({
  id: 'C4',
  claim: 'caches are invalidated in the order entry, context or PASID cache, IOTLB, device TLB, and an entry is emptied behind that; no device uses ATS that its entry forbids',
  events: [EntryWritten, EntryZeroed, FlushCalled, GuestCommands, InvalidationQueued, SubmitTimedOut, dma],
  start: () => new Map(),
  step(sequences, event, view) {
    if (event.kind === dma.kind) {
      const reason = dma.get.function(event) >>> DmaFlags.reasonShift;
      return isAtsForbidden(view.kindOfUnitBefore(ridOf(event)), reason) ? breach(`${functionText(event)} asked for a translation that its entry does not allow it to ask for`) : null;
    }
    if (event.kind === InvalidationQueued.kind) {
      const unit = InvalidationQueued.get.unit(event);
      const kind = view.kindOfUnit(unit);
      const [first, second] = [InvalidationQueued.get.first(event), InvalidationQueued.get.second(event)];
      const sequence = sequences.get(event.actor);
      if (kind === UnitKind.VTD && isFence(first) && sequence !== undefined) sequence.last = Rank.ENTRY;
      return queue(sequence, rankOf(kind, first, second), numberOf(unit, kind, first, second));
    }
    if (event.kind === GuestCommands.kind) {
      // What a guest queues has the order that the guest gave it.
      sequences.delete(event.actor);
      return null;
    }
    if (event.kind === SubmitTimedOut.kind) {
      // All of it may be queued again.
      const sequence = sequences.get(event.actor);
      if (sequence !== undefined) sequence.last = Rank.ENTRY;
      return null;
    }
    if (event.kind === EntryZeroed.kind) return empty(sequences.get(event.actor), EntryZeroed.get.table(event));
    // An entry changes, or a range is flushed: a sequence begins.
    sequences.set(event.actor, { last: Rank.ENTRY, done: new Set(), numbers: new Set() });
    return null;
  },
});

function queue(sequence: Sequence | undefined, rank: number | undefined, number: string): Breach | null {
  if (sequence === undefined || rank === undefined) return null;
  const { numbers } = sequence;
  // A domain may be known by several numbers, as the parent of nested ones is: each has its IOTLB, then its device TLBs.
  const isNext = rank === Rank.IOTLB && sequence.last === Rank.DEVICE_TLB && numbers.size > 0 && !numbers.has(number);
  const before = isNext ? Rank.IOTLB : sequence.last;
  if (rank === Rank.IOTLB) numbers.add(number);
  sequence.last = rank;
  sequence.done.add(rank);
  return rank < before ? breach(`${rankNames[rank]} is invalidated after ${rankNames[before]}`) : null;
}

function empty(sequence: Sequence | undefined, table: number): Breach | null {
  const kind = table === TableKind.PASID ? 'a PASID entry' : 'a context entry';
  if (sequence === undefined) return breach(`${kind} is emptied that was present until then`);
  const missing = [Rank.ENTRY_CACHE, Rank.IOTLB].find((rank) => !sequence.done.has(rank));
  return missing === undefined ? null : breach(`${kind} is emptied, but ${rankNames[missing]} was not invalidated since it was there`);
}
