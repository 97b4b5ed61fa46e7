import { Access } from '#hostmem/page-table-format';
import { loadInvariants } from '#src/check/catalogue';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { dma } from '#src/hardware/events';
import { PciFunction } from '#src/hardware/function';
import { Hitless, IommuUnit } from '#src/hardware/unit';
import { AreaPlaced, DomainJoined, GroupMoved, GroupMoves, MapReturned, UnmapCalled } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { page } from '../kernel/vmm.ts';
import { court } from './histories.ts';

const roots = [0x71, 0x72] as const;

/** Two IOASes, 1 and 2, each with its domain, and a group behind a unit that is declared hitless, or not. */
async function setUp(hitless: Hitless = Hitless.ALWAYS, formats: readonly [number, number] = [0, 0]) {
  const here = await court('D5');
  const memory = here.vmm.world.host.kernel;
  IommuUnit.hitless.poke(memory, PciFunction.unit.peek(memory, here.vmm.world.directory['A']!), hitless);
  const judge = new Judge(await loadInvariants(['D5']), here.history, new View(here.vmm.world.host.buffers));
  roots.forEach((root, index) => DomainJoined.emit(memory, index + 1, 1, root, formats[index]!));
  const place = (ioas: number, at: number, permissions: number = Access.READ): void => AreaPlaced.emit(memory, ioas, 0, at * page, 2, 1, permissions);
  return {
    place,
    map: (ioas: number, at: number, permissions?: number) => {
      place(ioas, at, permissions);
      MapReturned.emit(memory, ioas, 0, at * page, 2, 0, 1);
    },
    unmap: (ioas: number, at: number) => UnmapCalled.emit(memory, ioas, 0, at * page, 1, 1),
    moves: () => GroupMoves.emit(memory, here.group.number, ...roots),
    moved: () => GroupMoved.emit(memory, here.group.number, roots[1]),
    stamp: () => here.history.stamp(),
    read: (at: number, frame: number, begin = here.history.stamp()) => dma.emit(memory, here.rid('A'), 0, at * page, frame, 0, begin),
    verdict: () => judge.quiescence()?.message ?? null,
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

const mapBoth = ({ map }: All, at: number): void => [1, 2].forEach((ioas) => map(ioas, at));

test.each<[string, (all: All) => void]>([
  ['what both map is reached during the move', (all) => {
    mapBoth(all, 4);
    all.moves();
    all.read(4, 9);
    all.moved();
  }],
  ['what only one maps may fault', ({ map, moves, read, moved }) => {
    map(1, 4);
    moves();
    read(4, 0);
    moved();
  }],
  ['what only one lets be read may fault', ({ map, moves, read, moved }) => {
    map(1, 4);
    map(2, 4, Access.WRITE);
    moves();
    read(4, 0);
    moved();
  }],
  ['what is being mapped or unmapped may fault', (all) => {
    mapBoth(all, 4);
    all.map(1, 8);
    all.place(2, 8);
    all.moves();
    all.unmap(2, 5);
    all.read(4, 0);
    all.read(8, 0);
    all.moved();
  }],
  ['a DMA that began before the second MAP had returned may fault', (all) => {
    all.map(1, 4);
    const begin = all.stamp();
    all.map(2, 4);
    all.moves();
    all.read(4, 0, begin);
    all.moved();
  }],
  ['before the move and after it, this is not the question', (all) => {
    mapBoth(all, 4);
    all.read(4, 0);
    all.moves();
    all.moved();
    all.read(4, 0);
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.verdict()).toBeNull();
});

test('holds: VT-d is declared to break before it makes', async () => {
  const all = await setUp(Hitless.NEVER);
  mapBoth(all, 4);
  all.moves();
  all.read(4, 0);
  expect(all.verdict()).toBeNull();
});

test.each<[string, (all: All) => void]>([
  ['during the move', (all) => {
    all.moves();
    all.read(5, 0);
    all.moved();
  }],
  ['of a transaction that began during it', (all) => {
    all.moves();
    const begin = all.stamp();
    all.moved();
    all.read(5, 0, begin);
  }],
])('breaks: what both map faults %s', async (_, happen) => {
  const all = await setUp();
  mapBoth(all, 4);
  happen(all);
  expect(all.verdict()).toBe('a DMA of function 05.0 faulted on iova 0x5000 during a move of its group between two domains that both map it');
});

test.each([['between two stages it breaks', [1, 2], false], ['within a stage it holds', [1, 1], true]] as const)('a unit that is hitless between stages alone: %s', async (_, formats, holds) => {
  const all = await setUp(Hitless.BETWEEN_STAGES, formats);
  mapBoth(all, 4);
  all.moves();
  all.read(4, 0);
  expect(all.verdict() === null).toBe(holds);
});
