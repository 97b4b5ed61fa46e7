/** Events of device interfaces, handles for DMA and owned pages as lines of a story. */
import { Visibility } from '#hostmem/frames';
import type { Cursor } from '#hostmem/history';
import { GuestRequested, TdiBound, TdiUnbound } from './drivers/tsm/events.ts';
import { Request } from './drivers/tsm/link-tsm.ts';
import { configurationWritten, DmaFlags, tdiMoved } from './hardware/events.ts';
import { Register } from './hardware/tdisp.ts';
import { BounceCopied, BounceFilled, CachesFlushed, GuestPageFreed, HandleMapped, HandleUnmapped, PageBlocked, PageConverted } from './kernel/events.ts';
import { Backend } from './kernel/guest-dma.ts';

const states = ['CONFIG_UNLOCKED', 'CONFIG_LOCKED', 'RUN', 'ERROR'];
const requests = { [Request.REPORT]: 'its report', [Request.LOCK]: 'LOCK', [Request.START]: 'START', [Request.STOP]: 'STOP' };
const registers = { [Register.BUS_MASTER]: 'bus master is cleared', [Register.BAR]: 'a BAR is written', [Register.RESET]: 'it is reset' };
const backends = {
  [Backend.BOUNCE]: 'bounce page, around the vIOMMU', [Backend.TRANSLATED]: 'private, through the trusted table', [Backend.ONE_TABLE]: 'through the one table',
  [Backend.SHARED_HALF]: 'shared half', [Backend.PRIVATE_HALF]: 'private half',
};

/** The line of an event, or null for one of another kind. `nameOf` has the functions' names by requester id. */
export function describeConfidential(event: Cursor, nameOf: (rid: number) => string): string | null {
  // All but those of pages begin with the function.
  const device = nameOf(event.words[event.at + 2]! & DmaFlags.ridMask);
  switch (event.kind) {
    case TdiBound.kind: return `the interface of ${device} is bound to guest ${TdiBound.get.guest(event)}`;
    case TdiUnbound.kind: return `the interface of ${device} is unbound from guest ${TdiUnbound.get.guest(event)}`;
    case GuestRequested.kind: return `${device}: the guest asks for ${requests[GuestRequested.get.what(event) as Request]}`;
    case tdiMoved.kind: return `${device}: ${states[tdiMoved.get.before(event)]} -> ${states[tdiMoved.get.after(event)]}`;
    case configurationWritten.kind: return `${device}: ${registers[configurationWritten.get.register(event) as Register]}`;
    case HandleMapped.kind: return `dma_map for ${device}: ${text(HandleMapped.get.address(event))} (${backends[HandleMapped.get.backend(event) as Backend]})`;
    case HandleUnmapped.kind: return `dma_unmap for ${device}: ${text(HandleUnmapped.get.address(event))} (${backends[HandleUnmapped.get.backend(event) as Backend]})`;
    default: return describePage(event);
  }
}

function describePage(event: Cursor): string | null {
  const frame = `frame ${text(event.words[event.at + 2]!)}`;
  switch (event.kind) {
    case PageBlocked.kind: return `${frame} of guest ${PageBlocked.get.guest(event)} is blocked`;
    case CachesFlushed.kind: return `${frame}: caches of T=${CachesFlushed.get.trusted(event)} are flushed`;
    case PageConverted.kind: return `${frame} is ${PageConverted.get.visibility(event) === Visibility.PRIVATE ? `private to guest ${PageConverted.get.guest(event)}` : 'shared'}`;
    case BounceFilled.kind: return `${frame}, a bounce page, gets what frame ${text(BounceFilled.get.frame(event))} holds`;
    case BounceCopied.kind: return `${frame}, a bounce page, is copied to frame ${text(BounceCopied.get.frame(event))}`;
    case GuestPageFreed.kind: return `${frame} is free in guest ${GuestPageFreed.get.guest(event)}`;
    default: return null;
  }
}

const text = (number: number): string => `0x${(number >>> 0).toString(16)}`;
