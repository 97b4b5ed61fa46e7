/**
 * SMMUv3's event queue (Arm SMMUv3 architecture specification 7.3; SEMANTICS d.6): 32 bytes a record.
 *
 *   type [7:0]; second: stream id; fourth: RnW 3 · S2 7 · CLASS [9:8] (context descriptor 0, table 1, input 2); fifth and sixth: the address; seventh
 *   and eighth: the address that stage 2 was asked for
 */
import type { Host } from '#hostmem/host';
import { highOf, lowOf, pageNumber } from '#hostmem/iova';
import type { Ref } from '#hostmem/object';
import { WalkFault } from '#hostmem/page-walk';
import { takeEvents, tellEvent } from '../event-ring.ts';
import { SmmuRegisters } from './registers.ts';

/** Types; also the fault reason of a request that was refused. `ABORTED` is no type: an entry that aborts is told of nowhere. */
export const SmmuEvent = {
  NONE: 0, C_BAD_STREAMID: 0x02, F_STE_FETCH: 0x03, C_BAD_STE: 0x04, F_CD_FETCH: 0x09, C_BAD_CD: 0x0a, F_WALK_EABT: 0x0b, F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11, F_ACCESS: 0x12, F_PERMISSION: 0x13, ABORTED: 0xff,
} as const;
export type SmmuEvent = (typeof SmmuEvent)[keyof typeof SmmuEvent];

/** What is wrong with page tables, of either stage. */
export const eventOf: Readonly<Record<WalkFault, SmmuEvent>> = {
  [WalkFault.NONE]: SmmuEvent.NONE,
  [WalkFault.BEYOND_WIDTH]: SmmuEvent.F_TRANSLATION,
  [WalkFault.NOT_PRESENT]: SmmuEvent.F_TRANSLATION,
  [WalkFault.READ_DENIED]: SmmuEvent.F_PERMISSION,
  [WalkFault.WRITE_DENIED]: SmmuEvent.F_PERMISSION,
  [WalkFault.RESERVED]: SmmuEvent.F_TRANSLATION,
  [WalkFault.TABLE_ACCESS]: SmmuEvent.F_WALK_EABT,
  [WalkFault.SUPERVISOR]: SmmuEvent.F_PERMISSION,
  [WalkFault.NOT_ACCESSED]: SmmuEvent.F_ACCESS,
};

const wasRead = 1 << 3;
const atStage2 = 1 << 7;
const classShift = 8;
const recordWords = 8;

/** What was being read, or the access itself. */
export const EventClass = { DESCRIPTOR: 0, TABLE: 1, INPUT: 2 } as const;
export type EventClass = (typeof EventClass)[keyof typeof EventClass];

/** Which stage refused what; and of a stage 2 below a stage 1, the page that it was asked for. */
export interface Refusal {
  stage2: boolean;
  class: EventClass;
  ipaPage: number;
}

export function tellRefused(
  host: Host, unit: Ref<'SmmuRegisters'>, type: SmmuEvent, streamId: number, iovaHigh: number, iovaLow: number, read: boolean, refusal: Refusal,
): void {
  const { stage2, ipaPage } = refusal;
  const flags = (read ? wasRead : 0) | (stage2 ? atStage2 : 0) | (refusal.class << classShift);
  tellEvent(host, SmmuRegisters.events.peek(host.kernel, unit), [type, streamId, 0, flags, iovaLow, iovaHigh, lowOf(ipaPage), highOf(ipaPage)]);
}

/** A record as software reads it. */
export interface SmmuRecord {
  readonly type: number;
  readonly streamId: number;
  readonly read: boolean;
  readonly stage2: boolean;
  readonly class: number;
  readonly iovaHigh: number;
  readonly iovaLow: number;
  readonly ipaPage: number;
}

/** Fetches the records as they are, oldest first. */
export const takeRawRecords = (host: Pick<Host, 'kernel' | 'ram'>, unit: Ref<'SmmuRegisters'>): number[][] =>
  takeEvents(host, SmmuRegisters.events.peek(host.kernel, unit), recordWords);

export const recordOf = (words: readonly number[]): SmmuRecord => ({
  type: words[0]! & 0xff,
  streamId: words[1]!,
  read: (words[3]! & wasRead) !== 0,
  stage2: (words[3]! & atStage2) !== 0,
  class: (words[3]! >>> classShift) & 3,
  iovaHigh: words[5]!,
  iovaLow: words[4]!,
  ipaPage: pageNumber(words[7]!, words[6]!),
});

/** Fetches the records, oldest first. */
export const takeSmmuRecords = (host: Host, unit: Ref<'SmmuRegisters'>): SmmuRecord[] => takeRawRecords(host, unit).map(recordOf);

/** A record of another stream. */
export const withStream = (words: readonly number[], streamId: number): number[] => words.map((word, index) => (index === 1 ? streamId : word));

