/**
 * O6, errnos have causes: what a call of a random program says was so at some instant between its beginning and its end.
 *
 * Folded from the comings and goings of objects and mappings, which are stamped under the locks that decide who sees them. Where a cause
 * cannot be seen in the history (a reserved range, an alignment), the errno need only be one that the call may end in. Of a call of no random
 * program that alone is asked, of IOAS_MAP: an IOAS has nothing to do with what becomes of groups (seed 002).
 */
import type { Cursor } from '#hostmem/history';
import { errnoName, type ErrnoName } from '../../kernel/errno.ts';
import { AreaGone, AreaPlaced, MapReturned, ObjectErased, ObjectPublished, StormCalled, StormReturned } from '../../kernel/events.ts';
import { Kind, kindNames } from '../../kernel/objects.ts';
import { stormCallName, type StormCallName } from '../../kernel/storm-calls.ts';
import { allowedErrnos } from '../allowed-errnos.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** A call that runs. */
interface Running {
  readonly name: StormCallName;
  readonly process: number;
  readonly target: number;
  readonly other: number;
  readonly iovaPage: number;
  readonly pages: number;
  readonly stamp: number;
  /** Another call of the process ran beside it, for an instant at least. */
  hasCompany: boolean;
}

/** What there is under an id or a page: since when, or until when there was something. */
interface Life {
  kind: number;
  since: number;
  /** Infinity while it is there. */
  until: number;
}

interface State {
  readonly running: Map<number, Running>;
  /** By `<process>.<id>`. */
  readonly objects: Map<string, Life>;
  /** By `<process>.<ioas>.<page>`. */
  readonly pages: Map<string, Life>;
  /** Those that several mappings may share, each a part: what is there is not followed any more. */
  readonly shared: Set<string>;
}

/** Of which kind the object has to be that a call names as its target; 0 for any. */
const targetKinds: Partial<Record<StormCallName, number>> = {
  IOMMU_DESTROY: Kind.ANY, IOMMU_IOAS_ALLOW_IOVAS: Kind.IOAS, IOMMU_IOAS_IOVA_RANGES: Kind.IOAS, IOMMU_IOAS_MAP: Kind.IOAS,
  IOMMU_OPTION: Kind.IOAS, IOMMU_HWPT_ALLOC: Kind.DEVICE, IOMMU_GET_HW_INFO: Kind.DEVICE, IOMMU_HWPT_SET_DIRTY_TRACKING: Kind.HWPT,
  IOMMU_HWPT_GET_DIRTY_BITMAP: Kind.HWPT, IOMMU_HWPT_INVALIDATE: Kind.ANY, IOMMU_VEVENTQ_ALLOC: Kind.VIOMMU,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: Kind.ANY, IOMMU_TEST_CREATE_ACCESS: Kind.IOAS,
};

/** Kinds of objects that can hold one of a kind for longer than a call; what is not here only calls hold, or its own driver always. */
const holders: Partial<Record<number, readonly number[]>> = {
  [Kind.IOAS]: [Kind.HWPT, Kind.ACCESS],
  [Kind.HWPT]: [Kind.DEVICE, Kind.NESTED_HWPT, Kind.VIOMMU],
  [Kind.NESTED_HWPT]: [Kind.DEVICE],
  [Kind.VIOMMU]: [Kind.NESTED_HWPT, Kind.VDEVICE, Kind.EVENT_QUEUE, Kind.HW_QUEUE],
  [Kind.VDEVICE]: [],
};

export default invariant<State>({
  id: 'O6',
  claim: 'every errno has a cause that was true at some instant of the call',
  events: [MapReturned, StormCalled, StormReturned, ObjectPublished, ObjectErased, AreaPlaced, AreaGone],
  start: ({ builtObjects }) => ({
    running: new Map(),
    objects: new Map([...builtObjects].map(([key, kind]) => [key, { kind, since: -1, until: Infinity }])),
    pages: new Map(),
    shared: new Set(),
  }),
  step(state, event) {
    switch (event.kind) {
      case StormCalled.kind: begin(state, event); return null;
      case StormReturned.kind: return end(state, event);
      case MapReturned.kind: return mapped(event);
      case ObjectPublished.kind: {
        const { process, id, kind } = ObjectPublished.get;
        state.objects.set(`${process(event)}.${id(event)}`, { kind: kind(event), since: event.stamp, until: Infinity });
        return null;
      }
      case ObjectErased.kind: leave(state.objects, `${ObjectErased.get.process(event)}.${ObjectErased.get.id(event)}`, event.stamp); return null;
      default: move(state, event); return null;
    }
  },
});

const pageNumber = (high: number, low: number): number => (high >>> 0) * 0x10_0000 + (low >>> 12);

function leave(lives: Map<string, Life>, key: string, stamp: number): void {
  const life = lives.get(key);
  if (life !== undefined && life.until === Infinity) life.until = stamp;
}

function move(state: State, event: Cursor): void {
  const get = event.kind === AreaPlaced.kind ? AreaPlaced.get : AreaGone.get;
  const first = pageNumber(get.iovaHigh(event), get.iovaLow(event));
  // A mapping that begins within a page ends within one.
  const isPart = (get.iovaLow(event) & 0xfff) !== 0;
  for (let page = first; page < first + get.pages(event) + (isPart ? 1 : 0); page++) {
    const key = `${get.process(event)}.${get.ioas(event)}.${page}`;
    if (isPart) state.shared.add(key);
    if (event.kind === AreaPlaced.kind) state.pages.set(key, { kind: 0, since: event.stamp, until: Infinity });
    else leave(state.pages, key, event.stamp);
  }
}

/** IOAS_MAP, whoever calls it. */
function mapped(event: Cursor): Breach | null {
  const errno = errnoName(MapReturned.get.errno(event));
  if (errno === null || errno === 'ENOMEM' || allowedErrnos.IOMMU_IOAS_MAP.includes(errno)) return null;
  return breach(`IOMMU_IOAS_MAP on IOAS ${MapReturned.get.ioas(event)} says ${errno}, which it never may: nothing in an IOAS depends on what groups do`);
}

function begin(state: State, event: Cursor): void {
  const process = StormCalled.get.process(event);
  let hasCompany = false;
  for (const other of state.running.values()) {
    if (other.process !== process) continue;
    other.hasCompany = true;
    hasCompany = true;
  }
  state.running.set(event.actor, {
    name: stormCallName(StormCalled.get.call(event)), process, target: StormCalled.get.target(event), other: StormCalled.get.other(event),
    iovaPage: StormCalled.get.iovaPage(event), pages: StormCalled.get.pages(event), stamp: event.stamp, hasCompany,
  });
}

function end(state: State, event: Cursor): Breach | null {
  const call = state.running.get(event.actor);
  state.running.delete(event.actor);
  const errno = errnoName(StormReturned.get.errno(event));
  if (state.running.size === 0) forget(state);
  if (call === undefined || errno === null || errno === 'ENOMEM' || StormReturned.get.refused(event) !== 0) return null;
  if (!allowedErrnos[call.name].includes(errno)) return breach(`${call.name} says ${errno}, which it never may`);
  const why = contradiction(state, call, errno);
  return why === null ? null : breach(`${call.name} says ${errno}, but ${why}`);
}

/** Nobody can have seen any more what is gone. Of pages it is known then that they are free: those that no event ever named may be mapped. */
function forget({ objects: known }: State): void {
  for (const [key, { until }] of known) if (until !== Infinity) known.delete(key);
}

/** Why the errno cannot be right, as the end of a sentence; null where it may be. */
function contradiction(state: State, call: Running, errno: ErrnoName): string | null {
  if (errno === 'ENOENT') return wasThere(state, call);
  if (errno === 'EEXIST' && call.pages > 0) return wasFree(state, call);
  if (errno === 'EBUSY' && call.name === 'IOMMU_DESTROY') return wasUnused(state, call);
  if (errno === 'EBUSY' && (call.name === 'IOMMU_IOAS_UNMAP' || call.name === 'IOMMU_IOAS_CHANGE_PROCESS')) return nobodyWasBusy(state, call);
  return errno === 'EDEADLOCK' && !hasAny(state, call, [Kind.ACCESS]) ? 'there is no access' : null;
}

/** ENOENT: the object that is asked for was there all the time. A call whose target is 0 asks for none, or not for that alone. */
function wasThere(state: State, call: Running): string | null {
  const kind = targetKinds[call.name];
  if (kind === undefined || call.target === 0) return null;
  const life = state.objects.get(`${call.process}.${call.target}`);
  if (life === undefined || life.since >= call.stamp || life.until !== Infinity || (kind !== Kind.ANY && life.kind !== kind)) return null;
  return `${kindNames[life.kind]} ${call.target} was there all the time`;
}

/** EEXIST: no page of the range was mapped at any instant. */
function wasFree(state: State, call: Running): string | null {
  for (let page = call.iovaPage; page < call.iovaPage + call.pages; page++) {
    const key = `${call.process}.${call.target}.${page}`;
    const life = state.pages.get(key);
    if (life === undefined || life.until > call.stamp || state.shared.has(key)) return null;
  }
  return `nothing was mapped there, in IOAS ${call.target}, at any instant`;
}

/** EBUSY of DESTROY: nobody else made a call, and there is no object that could hold it. */
function wasUnused(state: State, call: Running): string | null {
  const life = state.objects.get(`${call.process}.${call.target}`);
  const kinds = life === undefined ? undefined : holders[life.kind];
  if (kinds === undefined || call.hasCompany || hasAny(state, call, kinds)) return null;
  return `nobody else made a call, and nothing holds ${kindNames[life!.kind]} ${call.target}`;
}

/** EBUSY for a mapping that is not finished, or for a hardware queue in it. */
function nobodyWasBusy(state: State, call: Running): string | null {
  return call.hasCompany || hasAny(state, call, [Kind.HW_QUEUE]) ? null : 'nobody else made a call, and there is no hardware queue';
}

function hasAny(state: State, { process, stamp }: Running, kinds: readonly number[]): boolean {
  for (const [key, { kind, until }] of state.objects) if (kinds.includes(kind) && until > stamp && key.startsWith(`${process}.`)) return true;
  return false;
}
