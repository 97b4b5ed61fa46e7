import { shrink, type Attempt } from '#src/schedule/shrink';
import { startOfSchedule, type Switch } from '#src/schedule/board';
import { Strategies } from '#src/schedule/strategy';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCell, type Cell } from './cell.ts';

const broken = { 'torn-pointer': 'MODEL', 'use-after-replace': 'MODEL', 'stale-hit': 'MODEL', 'lost-update': 'SUM', 'abba': 'DEADLOCK' };

describe.for(Object.entries(broken))('the bug of %s', ([model, invariant]) => {
  let cell: Cell;
  beforeAll(async () => {
    cell = await openCell(model);
  });
  afterAll(() => cell.close());

  test.for(['random', 'pct2', 'pct', 'pct4', 'pos', 'portfolio'])('is found by %s within 300 schedules, whatever the seed', async (strategy) => {
    for (const seed of [1, 2, 3, 4, 5, 0xffffffff]) {
      const { violation } = await cell.commander.explore({ strategy, count: 300, seed });
      expect(violation?.invariant, `seed ${seed}`).toBe(invariant);
    }
  });

  test('shrinks to 3 switches or fewer, from any seed, and then replays 1,000 times with one hash', async () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const found = await cell.commander.explore({ strategy: 'random', count: 300, seed });
      const replay = async (switches: readonly Switch[]): Promise<Attempt> => {
        const again = await cell.commander.replay({ switches });
        return { sameFailure: again.violation?.invariant === invariant, switches: again.switches!, steps: again.steps };
      };
      const small = await shrink({ switches: found.switches!, steps: found.steps }, replay, { actors: cell.board.actors });
      expect(small.switches.length).toBeLessThanOrEqual(3);
      const { hashes, failures, violation } = await cell.commander.replay({ switches: small.switches, times: 1_000 });
      expect(hashes).toHaveLength(1);
      expect(failures).toBe(1_000);
      expect(violation?.invariant).toBe(invariant);
    }
  });

  test('replays from its recorded switches with the hash it was found with, traced or not', async () => {
    const found = await cell.commander.explore({ strategy: 'pct', count: 300, seed: 7 });
    const traced = await cell.commander.replay({ switches: found.switches!, trace: true });
    const bare = await cell.commander.replay({ switches: found.switches! });
    expect([traced.hash, bare.hash]).toEqual([found.hash, found.hash]);
    expect(traced.switches).toEqual(found.switches);
    expect(traced.trace.filter(({ guarded, inside }) => !guarded && !inside)).toHaveLength(found.steps);
  });
});

describe.for(['three-locks', 'fill-vs-unmap', 'adds-3x4', 'engines-agree'])('the correct %s', (model) => {
  test('holds over thousands of schedules of every strategy', async () => {
    const cell = await openCell(model);
    for (const strategy of ['random', 'pct', 'pos', 'portfolio']) {
      const { violation, schedules, executions } = await cell.commander.explore({ strategy, count: 2_000, seed: 11 });
      expect(violation).toBeNull();
      expect(schedules).toBe(2_000);
      expect(executions).toBe(2_000 + Math.ceil(2_000 / 64));
    }
    await cell.close();
  });
});

describe.for(['three-locks', 'use-after-replace', 'dangling', 'throws', 'engines-agree'])('schedules of %s, failing or not', (model) => {
  test('replay from their switches with the hash, the violation and the memory of the first time', async () => {
    const cell = await openCell(model, { compares: true });
    let switchesOfEngines = 0;
    for (let first = 1; first < 80; first++) {
      const once = await cell.commander.explore({ strategy: 'portfolio', seed: 9, first, count: 1 });
      const again = await cell.commander.replay({ switches: once.switches!, trace: first % 2 === 0 });
      expect(again.hash).toBe(once.hash);
      expect(again.violation).toEqual(once.violation);
      switchesOfEngines += once.switches!.filter(({ actor }) => actor >= cell.board.actors && actor !== startOfSchedule).length;
    }
    expect(switchesOfEngines > 0).toBe(cell.board.engines > 0);
    expect(cell.resets().different).toBe(0);
    await cell.close();
  });
});

test('a schedule is a pure function of seed and index, whatever ran before it in its cell', async () => {
  const cell = await openCell('three-locks');
  for (const strategy of ['random', 'pct', 'pos', 'portfolio']) {
    for (const index of [1, 37, 63]) {
      const inOrder = await cell.commander.explore({ strategy, seed: 5, count: index + 1 });
      const alone = await cell.commander.explore({ strategy, seed: 5, first: index, count: 1 });
      const inStrides = await cell.commander.explore({ strategy, seed: 5, first: index % 4, stride: 4, count: Math.floor(index / 4) + 1 });
      expect([alone.hash, inStrides.hash]).toEqual([inOrder.hash, inOrder.hash]);
      expect(alone.schedules).toBe(1);
    }
  }
  const [one, other] = [await cell.commander.explore({ strategy: 'random', seed: 5, count: 10 }), await cell.commander.explore({ strategy: 'random', seed: 6, count: 10 })];
  expect(one.hash).not.toBe(other.hash);
  await cell.close();
});

test('forced switches that do not apply are skipped', async () => {
  const cell = await openCell('three-locks');
  const plain = await cell.commander.replay({ switches: [] });
  const odd = [
    { actor: 255, count: 0, next: 77 },
    { actor: 0, count: 900, next: 1 },
    { actor: 1, count: 2, next: 40 },
  ];
  const skipped = await cell.commander.replay({ switches: odd });
  expect(skipped.hash).toBe(plain.hash);
  expect(skipped.switches).toEqual([]);
  await cell.close();
});

test('strategies are found by the names of their files, and an unknown one is refused in one line', async () => {
  const strategies = await Strategies.load();
  expect(strategies.names).toEqual(['dpor', 'icb', 'non-preemptive', 'pct', 'portfolio', 'pos', 'random']);
  expect(() => strategies.find('pct0')).toThrow(/depth is 1 to 16/);
  expect(() => strategies.find('random3')).toThrow(/takes no number/);
  expect(() => strategies.find('../baton')).toThrow(/^no strategy is called '\.\.\/baton'; there are dpor, icb, non-preemptive, pct, portfolio, pos, random$/);
});

test('the non-preemptive schedule interrupts nobody: its list of switches is empty', async () => {
  const cell = await openCell('three-locks');
  const { switches, violation } = await cell.commander.explore({ strategy: 'non-preemptive', count: 3, seed: 1 });
  expect(violation).toBeNull();
  expect(switches).toEqual([]);
  await cell.close();
});
