/**
 * AMD's event log (AMD I/O Virtualization Technology specification 2.5; SEMANTICS d.6): 16 bytes a record, the code in [31:28] of the second
 * word.
 *
 *   requester id [15:0]; DomID [15:0] · PR 20 · RW 21 · code [31:28] of the second; third and fourth: address
 */
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { takeEvents, tellEvent } from '../event-ring.ts';
import { AmdRegisters } from './registers.ts';

/** Codes; of a request that was refused, also its fault reason. */
export const AmdEvent = { NONE: 0, ILLEGAL_DEV_TABLE_ENTRY: 1, IO_PAGE_FAULT: 2, DEV_TAB_HARDWARE_ERROR: 3, PAGE_TAB_HARDWARE_ERROR: 4, ILLEGAL_COMMAND_ERROR: 5 } as const;
export type AmdEvent = (typeof AmdEvent)[keyof typeof AmdEvent];

const codeShift = 28;
const wasPresent = 1 << 20;
const wasWrite = 1 << 21;
const recordWords = 4;

/** `present`: the page is there, and the permission was missing. */
export function refusedRequest(host: Host, unit: Ref<'AmdRegisters'>, code: AmdEvent, sourceId: number, domainId: number, iovaHigh: number, iovaLow: number, write: boolean, present: boolean): void {
  const second = (code << codeShift) | (write ? wasWrite : 0) | (present ? wasPresent : 0) | domainId;
  tellEvent(host, AmdRegisters.events.peek(host.kernel, unit), [sourceId, second, iovaLow, iovaHigh]);
}

/** The command at that address is none. */
export function illegalCommand(host: Host, unit: Ref<'AmdRegisters'>, at: number): void {
  tellEvent(host, AmdRegisters.events.peek(host.kernel, unit), [0, AmdEvent.ILLEGAL_COMMAND_ERROR << codeShift, at, 0]);
}

/** A record as software reads it. */
export interface AmdRecord {
  readonly code: number;
  readonly sourceId: number;
  readonly domainId: number;
  readonly write: boolean;
  readonly present: boolean;
  readonly addressHigh: number;
  readonly addressLow: number;
}

/** Fetches the records, oldest first. */
export function takeRecords(host: Host, unit: Ref<'AmdRegisters'>): AmdRecord[] {
  return takeEvents(host, AmdRegisters.events.peek(host.kernel, unit), recordWords).map(([first, second, addressLow, addressHigh]) => ({
    code: second! >>> codeShift,
    sourceId: first! & 0xffff,
    domainId: second! & 0xffff,
    write: (second! & wasWrite) !== 0,
    present: (second! & wasPresent) !== 0,
    addressHigh: addressHigh!,
    addressLow: addressLow!,
  }));
}
