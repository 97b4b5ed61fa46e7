/**
 * SMMUv3's event queue (Arm SMMUv3 architecture specification 7.3; SEMANTICS d.6): 32 bytes a record.
 *
 *   type [7:0]; second: stream id; fourth: RnW 3 · S2 7 · CLASS [9:8] (context descriptor 0, input 2); fifth and sixth: the address
 */
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { takeEvents, tellEvent } from '../event-ring.ts';
import { SmmuRegisters } from './registers.ts';

/** Types; also the fault reason of a request that was refused. `ABORTED` is no type: an entry that aborts is told of nowhere. */
export const SmmuEvent = {
  NONE: 0, C_BAD_STREAMID: 0x02, F_STE_FETCH: 0x03, C_BAD_STE: 0x04, F_CD_FETCH: 0x09, C_BAD_CD: 0x0a, F_WALK_EABT: 0x0b, F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11, F_ACCESS: 0x12, F_PERMISSION: 0x13, ABORTED: 0xff,
} as const;
export type SmmuEvent = (typeof SmmuEvent)[keyof typeof SmmuEvent];

const wasRead = 1 << 3;
const atStage2 = 1 << 7;
const ofInput = 2 << 8;
const recordWords = 8;

export function tellRefused(host: Host, unit: Ref<'SmmuRegisters'>, type: SmmuEvent, streamId: number, iovaHigh: number, iovaLow: number, read: boolean, stage2: boolean): void {
  const isOfInput = type >= SmmuEvent.F_WALK_EABT;
  const flags = (read ? wasRead : 0) | (stage2 ? atStage2 : 0) | (isOfInput ? ofInput : 0);
  tellEvent(host, SmmuRegisters.events.peek(host.kernel, unit), [type, streamId, 0, flags, iovaLow, iovaHigh, 0, 0]);
}

/** A record as software reads it. */
export interface SmmuRecord {
  readonly type: number;
  readonly streamId: number;
  readonly read: boolean;
  readonly stage2: boolean;
  readonly iovaHigh: number;
  readonly iovaLow: number;
}

/** Fetches the records, oldest first. */
export function takeSmmuRecords(host: Host, unit: Ref<'SmmuRegisters'>): SmmuRecord[] {
  return takeEvents(host, SmmuRegisters.events.peek(host.kernel, unit), recordWords).map((words) => ({
    type: words[0]! & 0xff,
    streamId: words[1]!,
    read: (words[3]! & wasRead) !== 0,
    stage2: (words[3]! & atStage2) !== 0,
    iovaHigh: words[5]!,
    iovaLow: words[4]!,
  }));
}
