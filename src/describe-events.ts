/** Events of the kernel as lines of a story: `ATTACH A -> IOAS 3`. Knows the world's names, and who moves what where. */
import { Owner } from '#hostmem/frames';
import type { Cursor } from '#hostmem/history';
import { dmaPasid, iovaPage, iovaText, isDma, ownerOf } from './check/dma-words.ts';
import { describeConfidential } from './describe-confidential.ts';
import { EntryWritten, EntryZeroed, FlushCalled, FlushReturned, GuestCommandsCounted, LeavesCleared } from './drivers/events.ts';
import { deadTableRead, dma, DmaFlags, entryFetched, pageAnswered, pageRequested, pasidDma, peerReached, TableKind } from './hardware/events.ts';
import { commandName } from './kernel/call-events.ts';
import { stormCallName } from './kernel/storm-calls.ts';
import { errnoName } from './kernel/errno.ts';
import {
  AreaTaken, CallBegan, CallEnded, DestroyRefused, DeviceGoes, DirtyAnswered, DirtyQueried, DirtyReported, DirtyTracked, DmaMapped, DmaUnmapped,
  DriverBound, DriverOpens, DriverProbes, DriverRefused, DriverUnbound, GroupBlocked, GroupClaimed, GroupMoved, GroupMoves, GroupReleased, GuestUnmapped, HwptLinked,
  HwptRecorded, KvmTells, MapCalled, MapReturned, PageRequestQueued, PasidFreed, PasidMoved, PasidMoves, PasidRevoked, PasidSubmitted, RequestsSwitched,
  ResetEnds, ResetPrepared, StormCalled, StormReturned, UnmapCalled, UnmapReturned, VfioCall, VfioCalled,
  VfioReturned,
} from './kernel/events.ts';
import { kindNames } from './kernel/objects.ts';

const callNames = {
  [VfioCall.BIND]: 'BIND', [VfioCall.ATTACH]: 'ATTACH', [VfioCall.REPLACE]: 'REPLACE', [VfioCall.DETACH]: 'DETACH', [VfioCall.CLOSE]: 'CLOSE',
  [VfioCall.PASID_ATTACH]: 'PASID ATTACH', [VfioCall.PASID_DETACH]: 'PASID DETACH',
};
const isOfPasid = (what: number): boolean => what === VfioCall.PASID_ATTACH || what === VfioCall.PASID_DETACH;
/** Requester id of devices that no unit stands before: those of the selftest. */
const noRid = 0;

/** Calls that have events of their own. */
const toldByThemselves: ReadonlySet<string> = new Set([
  'open', 'close', 'IOMMU_IOAS_MAP', 'IOMMU_IOAS_UNMAP', 'IOMMU_HWPT_SET_DIRTY_TRACKING', 'IOMMU_HWPT_GET_DIRTY_BITMAP', 'VFIO_IOMMU_MAP_DMA',
  'VFIO_IOMMU_UNMAP_DMA', 'VFIO_DEVICE_BIND_IOMMUFD', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'VFIO_DEVICE_DETACH_IOMMUFD_PT',
]);

/** Steps of drivers and hardware. */
const details: ReadonlySet<number> = new Set([EntryWritten, EntryZeroed, FlushCalled, FlushReturned, LeavesCleared, entryFetched].map(({ kind }) => kind));

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
      case GroupClaimed.kind: return `group ${GroupClaimed.get.group(event)} belongs to a user`;
      case GroupReleased.kind: return `group ${GroupReleased.get.group(event)} is released`;
      case DriverProbes.kind: return `a kernel driver probes ${this.#requester(DriverProbes.get.function(event))}`;
      case DriverBound.kind: return `a kernel driver is bound to ${this.#requester(DriverBound.get.function(event))}`;
      case DriverRefused.kind: return `a kernel driver is refused ${this.#requester(DriverRefused.get.function(event))}`;
      case DriverUnbound.kind: return `${this.#requester(DriverUnbound.get.function(event))} has no kernel driver`;
      case ResetPrepared.kind: return `${this.#requester(ResetPrepared.get.function(event))} is parked for its reset`;
      case ResetEnds.kind: return `the reset of ${this.#requester(ResetEnds.get.function(event))} is over`;
      case peerReached.kind: return `${this.#requester(peerReached.get.function(event) & DmaFlags.ridMask)} reaches ${this.#requester(peerReached.get.peer(event))} below the unit`;
      case GroupBlocked.kind: return `group ${GroupBlocked.get.group(event)} is blocked`;
      case MapCalled.kind: return `MAP ${range(MapCalled.get.iovaHigh(event), MapCalled.get.iovaLow(event))} on IOAS ${MapCalled.get.ioas(event)}`;
      case MapReturned.kind: return `MAP on IOAS ${MapReturned.get.ioas(event)} returned ${errnoName(MapReturned.get.errno(event)) ?? '0'}`;
      case UnmapCalled.kind: return `UNMAP ${range(UnmapCalled.get.iovaHigh(event), UnmapCalled.get.iovaLow(event))} on IOAS ${UnmapCalled.get.ioas(event)}`;
      case UnmapReturned.kind: return `UNMAP on IOAS ${UnmapReturned.get.ioas(event)} returned ${errnoName(UnmapReturned.get.errno(event)) ?? '0'}`;
      case StormCalled.kind: return stormCall(event);
      case StormReturned.kind: return `${stormCallName(StormReturned.get.call(event))} returned ${errnoName(StormReturned.get.errno(event)) ?? '0'}`;
      case CallBegan.kind: return this.#call(CallBegan.get.command(event), '');
      case CallEnded.kind: return this.#call(CallEnded.get.command(event), ` returned ${errnoName(CallEnded.get.errno(event)) ?? '0'}`);
      case AreaTaken.kind: return `takes the mapping at ${range(AreaTaken.get.iovaHigh(event), AreaTaken.get.iovaLow(event))} out of IOAS ${AreaTaken.get.ioas(event)}`;
      case HwptLinked.kind: return `HWPT ${HwptLinked.get.hwpt(event)} joins the list of IOAS ${HwptLinked.get.ioas(event)}`;
      case DeviceGoes.kind: return `device ${DeviceGoes.get.device(event)} goes`;
      case DestroyRefused.kind: return `the owner of ${kindNames[DestroyRefused.get.kind(event)]} ${DestroyRefused.get.id(event)} finds ${DestroyRefused.get.users(event)} users`;
      case DmaMapped.kind: return `DMA map ${range(DmaMapped.get.iovaHigh(event), DmaMapped.get.iovaLow(event))}`;
      case DmaUnmapped.kind: return `DMA unmap ${range(DmaUnmapped.get.iovaHigh(event), DmaUnmapped.get.iovaLow(event))} returned${DmaUnmapped.get.lazy(event) === 0 ? '' : ', its flush is queued'}`;
      case LeavesCleared.kind: return `clears ${range(LeavesCleared.get.iovaHigh(event), LeavesCleared.get.iovaLow(event))}, ${LeavesCleared.get.pages(event)} pages`;
      case FlushCalled.kind: return `starts to flush ${flushed(FlushCalled.get.iovaHigh(event), FlushCalled.get.iovaLow(event), FlushCalled.get.pages(event))}`;
      case FlushReturned.kind: return `has flushed ${flushed(FlushReturned.get.iovaHigh(event), FlushReturned.get.iovaLow(event), FlushReturned.get.pages(event))}`;
      case GuestUnmapped.kind: return `the guest's own unmap of ${range(GuestUnmapped.get.iovaHigh(event), GuestUnmapped.get.iovaLow(event))} has returned`;
      case GuestCommandsCounted.kind: return commandsCounted(event);
      case EntryWritten.kind: return `writes the ${entryNames[EntryWritten.get.table(event)]} of ${this.#requester(EntryWritten.get.source(event))}: ${(EntryWritten.get.word0(event) & 1) === 0 ? 'not present' : 'present'}`;
      case EntryZeroed.kind: return `the ${entryNames[EntryZeroed.get.table(event)]} of ${this.#requester(EntryZeroed.get.source(event))} is empty`;
      case entryFetched.kind: return `reads the ${entryNames[entryFetched.get.table(event)]} of ${this.#requester(entryFetched.get.source(event))}`;
      case deadTableRead.kind: return `reads a table in frame 0x${deadTableRead.get.frame(event).toString(16)}, which is none any more`;
      case DirtyTracked.kind: return `dirty tracking is switched ${DirtyTracked.get.on(event) === 0 ? 'off' : 'on'}`;
      case DirtyQueried.kind: return `GET_DIRTY_BITMAP of ${dirtyRange(DirtyQueried.get, event)}`;
      case DirtyReported.kind: return `${dirtyRange(DirtyReported.get, event)}: reported`;
      case DirtyAnswered.kind: return `GET_DIRTY_BITMAP of ${dirtyRange(DirtyAnswered.get, event)} returned 0`;
      case PasidMoves.kind: return `PASID ${PasidMoves.get.pasid(event)} of group ${PasidMoves.get.group(event)} starts to move to ${PasidMoves.get.newRoot(event) === 0 ? 'nothing' : this.#asked.get(event.actor) ?? 'another domain'}`;
      case PasidMoved.kind: return `PASID ${PasidMoved.get.pasid(event)} of group ${PasidMoved.get.group(event)} ${PasidMoved.get.root(event) === 0 ? 'is blocked' : 'has moved'}`;
      case KvmTells.kind: return `KVM, its lock held: ${this.#names.devices[KvmTells.get.device(event)]} is for ${KvmTells.get.on(event) === 0 ? 'no VM' : 'this VM'}`;
      case DriverOpens.kind: return `VFIO, its lock held: the driver of ${this.#names.devices[DriverOpens.get.device(event)]} is opened`;
      case PasidSubmitted.kind: return `work of process ${PasidSubmitted.get.process(event)} is taken under PASID ${PasidSubmitted.get.pasid(event)}`;
      case pageRequested.kind: return `${this.#requester(pageRequested.get.function(event))} asks for page 0x${(pageRequested.get.page(event) >>> 0).toString(16)}${withPasid(pageRequested.get.pasid(event))}, group ${pageRequested.get.group(event)}`;
      case pageAnswered.kind: return `${this.#requester(pageAnswered.get.function(event))}: group ${pageAnswered.get.group(event)} is answered ${pageAnswered.get.code(event) === 0 ? 'success' : 'invalid'}`;
      case RequestsSwitched.kind: return `page requests of ${this.#requester(RequestsSwitched.get.function(event))}${withPasid(RequestsSwitched.get.pasid(event))} have another handler`;
      case PageRequestQueued.kind: return `page request ${PageRequestQueued.get.group(event)} of device ${PageRequestQueued.get.device(event)} is queued for the user`;
      case PasidRevoked.kind: return `PASID ${PasidRevoked.get.pasid(event)} of group ${PasidRevoked.get.group(event)} is taken back, the call returns`;
      case PasidFreed.kind: return `PASID ${PasidFreed.get.pasid(event)} may be given to another process`;
      case pasidDma.kind:
      case dma.kind: return this.#dma(event);
      default: return describeConfidential(event, (rid) => this.#names.functions.get(rid) ?? 'a function');
    }
  }

  /** A call that no other event tells of. */
  #call(number: number, outcome: string): string | null {
    const name = commandName(number);
    return toldByThemselves.has(name) ? null : `${name}${outcome}`;
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

  #requester(sourceId: number): string {
    return this.#names.functions.get(sourceId) ?? `requester 0x${sourceId.toString(16)}`;
  }

  /** Whether an event is of what drivers and hardware do for a call of the kernel's. */
  isDetail({ kind }: Cursor): boolean {
    return details.has(kind);
  }

  /** Whose memory a DMA reached; null for an event that is none. */
  reached(event: Cursor): string | null {
    if (!isDma(event)) return null;
    if (dma.get.function(event) >>> DmaFlags.reasonShift !== 0) return 'a fault';
    return this.#owner(ownerOf(event));
  }

  #owner(owner: number): string {
    if (owner === Owner.FREE) return 'a free frame';
    if (owner === Owner.TABLE) return 'a page table';
    return this.#names.processes.get(owner) ?? 'memory of the kernel';
  }

  #dma(event: Cursor): string {
    const word = dma.get.function(event);
    const reason = word >>> DmaFlags.reasonShift;
    const pasid = dmaPasid(event);
    const what = `${pasid === null ? '' : `with PASID ${pasid}, `}${(word & DmaFlags.WRITE) !== 0 ? 'write' : 'read'}`;
    const where = iovaPage(event) < 0 ? iovaText(event) : `0x${(iovaPage(event) * 4096).toString(16)}`;
    const outcome = reason !== 0 ? `fault 0x${reason.toString(16)}` : `${this.reached(event)}, frame 0x${dma.get.frame(event).toString(16)}`;
    const rid = word & DmaFlags.ridMask;
    return `${this.#names.functions.get(rid) ?? (rid === noRid ? 'a mock device' : 'a function')}: DMA ${what} ${where}: ${outcome}`;
  }
}

/** What a VMM is told of its guest's commands, and what the unit was. */
function commandsCounted(event: Cursor): string {
  const { count, handled, issued } = GuestCommandsCounted.get;
  return `${handled(event)} of ${count(event)} commands of the guest count as handled, ${issued(event)} were issued`;
}

/** `IOMMU_IOAS_MAP 3, 0x10000000`: the ids and descriptors that it names, and where it maps. */
function stormCall(event: Cursor): string {
  const { call, target, other, iovaPage, pages } = StormCalled.get;
  const named = [target(event), other(event)].filter((id) => id !== 0).map(String);
  const where = pages(event) === 0 ? [] : [`0x${(iovaPage(event) * 4096).toString(16)}`, `${pages(event)} pages`];
  return `${stormCallName(call(event))} ${[...named, ...where].join(', ')}`;
}
const entryNames: Readonly<Record<number, string>> = {
  [TableKind.CONTEXT]: 'context entry', [TableKind.SCALABLE_CONTEXT]: 'context entry', [TableKind.PASID]: 'PASID entry',
  [TableKind.DEVICE_TABLE]: 'device-table entry', [TableKind.STREAM]: 'stream-table entry', [TableKind.CONTEXT_DESCRIPTOR]: 'context descriptor',
  [TableKind.DEVICE_CONTEXT]: 'device context',
};

const withPasid = (pasid: number): string => (pasid < 0 ? '' : ` with PASID ${pasid}`);
const flushed = (high: number, low: number, pages: number): string => (pages === 0 ? 'the whole domain' : `${range(high, low)}, ${pages} pages`);

/** `0x1000000, 16 pages`. */
const dirtyRange = (get: Record<'iovaHigh' | 'iovaLow' | 'pages', (event: Cursor) => number>, event: Cursor): string =>
  `${range(get.iovaHigh(event), get.iovaLow(event))}, ${get.pages(event)} ${get.pages(event) === 1 ? 'page' : 'pages'}`;

const range = (high: number, low: number): string => `0x${((high >>> 0) * 0x1_0000_0000 + (low >>> 0)).toString(16)}`;
