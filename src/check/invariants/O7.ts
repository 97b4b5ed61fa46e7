/**
 * O7, the IOAS as a map: maps and unmaps of one range answer as if one came after the other.
 *
 * Cut by ranges, which a map from range to mapping may be: of one range only calls for just it are judged, and only where nothing else came or went
 * in a range that overlaps it. An errno with other causes than what is mapped says nothing, nor does an order that takes too long to find.
 */
import type { Cursor } from '#hostmem/history';
import { errnoName } from '../../kernel/errno.ts';
import { AreaPlaced, AreaTaken, MapCalled, MapReturned, UnmapCalled, UnmapReturned } from '../../kernel/events.ts';
import { pageNumber } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { isLinearizable, type Operation, type SequentialModel } from '../linearize.ts';

/** What a range is, one call after the other; at first nobody knows. */
const Range = { UNKNOWN: 0, FREE: 1, MAPPED: 2 } as const;
type Range = (typeof Range)[keyof typeof Range];

interface Answer {
  readonly does: 'map' | 'unmap';
  /** 0, EEXIST or ENOENT; others have no part in it. */
  readonly errno: string | null;
}

interface Calls {
  readonly ioas: string;
  readonly first: number;
  readonly end: number;
  readonly operations: Operation<Answer>[];
}

interface Ranges {
  /** By `<process>.<ioas> <first>-<end>`. */
  readonly calls: Map<string, Calls>;
  /** When the map or unmap that an actor is in began. */
  readonly began: Map<number, number>;
  /** IOASes in which other calls than these made or took mappings. */
  readonly disturbed: Set<string>;
}

/** Tries to find an order; more concurrent calls than that need are not judged. */
const mostTries = 20_000;

const mapped: SequentialModel<Range, Answer> = {
  initial: Range.UNKNOWN,
  step(range, { does, errno }) {
    const isMapped = does === 'map' ? errno !== null : errno === null;
    if (range !== Range.UNKNOWN && (range === Range.MAPPED) !== isMapped) return null;
    return does === 'map' ? Range.MAPPED : Range.FREE;
  },
};

export default invariant<Ranges>({
  id: 'O7',
  claim: 'maps and unmaps of one range answer as if one came after the other, each between its call and its return',
  events: [MapCalled, MapReturned, UnmapCalled, UnmapReturned, AreaPlaced, AreaTaken],
  start: () => ({ calls: new Map(), began: new Map(), disturbed: new Set() }),
  step(ranges, event) {
    if (event.kind === MapCalled.kind || event.kind === UnmapCalled.kind) ranges.began.set(event.actor, event.stamp);
    else if (event.kind === MapReturned.kind) finish(ranges, 'map', MapReturned.get, event);
    else if (event.kind === UnmapReturned.kind) finish(ranges, 'unmap', UnmapReturned.get, event);
    else if (!ranges.began.has(event.actor)) ranges.disturbed.add(ioasOf(event.kind === AreaPlaced.kind ? AreaPlaced.get : AreaTaken.get, event));
    return null;
  },
  inspect(ranges, _view, atRest) {
    return atRest ? judgeAll(ranges) : null;
  },
});

type Word = (event: Cursor) => number;
interface Named {
  readonly process: Word;
  readonly ioas: Word;
}
interface Returned extends Named {
  readonly iovaHigh: Word;
  readonly iovaLow: Word;
  readonly pages: Word;
  readonly errno: Word;
}

const ioasOf = (get: Named, event: Cursor): string => `${get.process(event)}.${get.ioas(event)}`;

function finish({ calls, began, disturbed }: Ranges, does: Answer['does'], get: Returned, event: Cursor): void {
  const since = began.get(event.actor);
  began.delete(event.actor);
  const ioas = ioasOf(get, event);
  const pages = get.pages(event);
  // An unmap of everything is about many ranges.
  if (pages === 0) disturbed.add(ioas);
  const errno = get.errno(event) === 0 ? null : errnoName(get.errno(event));
  const says = errno === null || errno === (does === 'map' ? 'EEXIST' : 'ENOENT');
  if (since === undefined || pages === 0 || !says) return;
  const first = pageNumber(get.iovaHigh(event), get.iovaLow(event));
  const key = `${ioas} ${first}-${first + pages}`;
  if (!calls.has(key)) calls.set(key, { ioas, first, end: first + pages, operations: [] });
  calls.get(key)!.operations.push({ input: { does, errno }, began: since, ended: event.stamp });
}

/** Everybody stands still: judges all ranges and forgets them. */
function judgeAll({ calls, began, disturbed }: Ranges): Breach | null {
  const all = [...calls.values()];
  calls.clear();
  const known = all.filter(({ ioas }) => !disturbed.has(ioas));
  disturbed.clear();
  began.clear();
  for (const one of known) {
    const isAlone = !all.some((other) => other !== one && other.ioas === one.ioas && other.first < one.end && other.end > one.first);
    if (isAlone && isLinearizable(one.operations, mapped, mostTries) === false) return breach(describe(one));
  }
  return null;
}

function describe({ ioas, first, operations }: Calls): string {
  const answers = operations.slice(0, 8).map(({ input: { does, errno }, began, ended }) => `${does} ${errno ?? 'succeeded'} [${began}, ${ended}]`);
  const rest = operations.length > 8 ? ` and ${operations.length - 8} more` : '';
  return `no order of the calls for iova 0x${(first * 4096).toString(16)} of IOAS ${ioas.split('.')[1]} gives their answers: ${answers.join(', ')}${rest}`;
}
