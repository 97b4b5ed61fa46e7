/** Events of the kernel as lines of a story: `ATTACH A -> IOAS 3`. Knows the world's names, and who moves what where. */
import { Owner } from '#hostmem/frames';
import type { Cursor } from '#hostmem/history';
import { describeConfidential } from './describe-confidential.ts';
import { dma, DmaFlags } from './hardware/events.ts';
import { errnoName } from './kernel/errno.ts';
import {
  DirtyAnswered, DirtyQueried, DirtyReported, DirtyTracked, GroupBlocked, GroupMoved, GroupMoves, HwptRecorded, MapCalled, MapReturned,
  UnmapCalled, UnmapReturned, VfioCall, VfioCalled, VfioReturned,
} from './kernel/events.ts';

const callNames = {
  [VfioCall.BIND]: 'BIND', [VfioCall.ATTACH]: 'ATTACH', [VfioCall.REPLACE]: 'REPLACE', [VfioCall.DETACH]: 'DETACH', [VfioCall.CLOSE]: 'CLOSE',
  [VfioCall.PASID_ATTACH]: 'PASID ATTACH', [VfioCall.PASID_DETACH]: 'PASID DETACH',
};
const isOfPasid = (what: number): boolean => what === VfioCall.PASID_ATTACH || what === VfioCall.PASID_DETACH;
/** Requester id of devices that no unit stands before: those of the selftest. */
const noRid = 0;

/** Names of the world, by the numbers that events carry. */
export interface WorldNames {
  /** Functions behind the character devices, by number. */
  readonly devices: readonly string[];
  /** Functions by requester id. */
  readonly functions: ReadonlyMap<number, string>;
  /** `IOAS 2`, by `<process>.<id>`, of what existed at the start. */
  readonly objects: ReadonlyMap<string, string>;
  /** Processes by the number of who owns their frames. */
  readonly processes: ReadonlyMap<number, string>;
}

export class EventDescriber {
  readonly #names: WorldNames;
  /** What each actor's call asks for, so that the domain it moves a group to has a name. */
  readonly #asked = new Map<number, string>();
  readonly #roots = new Map<number, string>([[0, 'nothing (blocked)']]);

  constructor(names: WorldNames) {
    this.#names = names;
  }

  /** The line of an event, or null for one that tells nothing. */
  describe(event: Cursor): string | null {
    switch (event.kind) {
      case VfioCalled.kind: return this.#called(event);
      case VfioReturned.kind: return this.#returned(event);
      case GroupMoves.kind: {
        const from = GroupMoves.get.oldRoot(event);
        if (!this.#roots.has(from)) this.#roots.set(from, 'what it had');
        const to = GroupMoves.get.newRoot(event);
        if (!this.#roots.has(to)) this.#roots.set(to, this.#asked.get(event.actor) ?? 'another domain');
        return `group ${GroupMoves.get.group(event)} starts to move to ${this.#roots.get(to)}`;
      }
      case GroupMoved.kind: return `group ${GroupMoved.get.group(event)} now translates through ${this.#roots.get(GroupMoved.get.root(event)) ?? 'its default domain'}`;
      case HwptRecorded.kind: return `the record of group ${HwptRecorded.get.group(event)} says ${HwptRecorded.get.hwpt(event) === 0 ? 'nothing' : `HWPT ${HwptRecorded.get.hwpt(event)}`}`;
      case GroupBlocked.kind: return `group ${GroupBlocked.get.group(event)} is blocked`;
      case MapCalled.kind: return `MAP ${range(MapCalled.get.iovaHigh(event), MapCalled.get.iovaLow(event))} on IOAS ${MapCalled.get.ioas(event)}`;
      case MapReturned.kind: return `MAP on IOAS ${MapReturned.get.ioas(event)} returned ${errnoName(MapReturned.get.errno(event)) ?? '0'}`;
      case UnmapCalled.kind: return `UNMAP ${range(UnmapCalled.get.iovaHigh(event), UnmapCalled.get.iovaLow(event))} on IOAS ${UnmapCalled.get.ioas(event)}`;
      case UnmapReturned.kind: return `UNMAP on IOAS ${UnmapReturned.get.ioas(event)} returned ${errnoName(UnmapReturned.get.errno(event)) ?? '0'}`;
      case DirtyTracked.kind: return `dirty tracking is switched ${DirtyTracked.get.on(event) === 0 ? 'off' : 'on'}`;
      case DirtyQueried.kind: return `GET_DIRTY_BITMAP of ${dirtyRange(DirtyQueried.get, event)}`;
      case DirtyReported.kind: return `${dirtyRange(DirtyReported.get, event)}: reported`;
      case DirtyAnswered.kind: return `GET_DIRTY_BITMAP of ${dirtyRange(DirtyAnswered.get, event)} returned 0`;
      case dma.kind: return this.#dma(event);
      default: return describeConfidential(event, (rid) => this.#names.functions.get(rid) ?? 'a function');
    }
  }

  #called(event: Cursor): string {
    const pt = VfioCalled.get.pt(event);
    const what = callNames[VfioCalled.get.what(event) as VfioCall];
    const target = this.#names.objects.get(`${VfioCalled.get.process(event)}.${pt}`) ?? `pt ${pt}`;
    this.#asked.set(event.actor, target);
    const slot = isOfPasid(VfioCalled.get.what(event)) ? `, pasid ${VfioCalled.get.pasid(event)}` : '';
    return `${what} ${this.#names.devices[VfioCalled.get.device(event)]}${slot}${pt === 0 ? '' : ` -> ${target}`}`;
  }

  #returned(event: Cursor): string {
    const what = callNames[VfioReturned.get.what(event) as VfioCall];
    const errno = errnoName(VfioReturned.get.errno(event));
    const hwpt = VfioReturned.get.hwpt(event);
    return `${what} ${this.#names.devices[VfioReturned.get.device(event)]} returned ${errno ?? (hwpt === 0 ? '0' : `0, HWPT ${hwpt}`)}`;
  }

  /** Whose memory a DMA reached; null for an event that is none. */
  reached(event: Cursor): string | null {
    if (event.kind !== dma.kind) return null;
    if (dma.get.function(event) >>> DmaFlags.reasonShift !== 0) return 'a fault';
    return this.#owner(dma.get.iovaLow(event) & DmaFlags.ownerMask);
  }

  #owner(owner: number): string {
    if (owner === Owner.FREE) return 'a free frame';
    if (owner === Owner.TABLE) return 'a page table';
    return this.#names.processes.get(owner) ?? 'memory of the kernel';
  }

  #dma(event: Cursor): string {
    const word = dma.get.function(event);
    const reason = word >>> DmaFlags.reasonShift;
    const what = (word & DmaFlags.WRITE) !== 0 ? 'write' : 'read';
    const where = range(dma.get.iovaHigh(event), dma.get.iovaLow(event) & ~DmaFlags.ownerMask);
    const outcome = reason !== 0 ? `fault 0x${reason.toString(16)}` : `${this.reached(event)}, frame 0x${dma.get.frame(event).toString(16)}`;
    const rid = word & DmaFlags.ridMask;
    return `${this.#names.functions.get(rid) ?? (rid === noRid ? 'a mock device' : 'a function')}: DMA ${what} ${where}: ${outcome}`;
  }
}

/** `0x1000000, 16 pages`. */
const dirtyRange = (get: Record<'iovaHigh' | 'iovaLow' | 'pages', (event: Cursor) => number>, event: Cursor): string =>
  `${range(get.iovaHigh(event), get.iovaLow(event))}, ${get.pages(event)} ${get.pages(event) === 1 ? 'page' : 'pages'}`;

const range = (high: number, low: number): string => `0x${((high >>> 0) * 0x1_0000_0000 + (low >>> 0)).toString(16)}`;
