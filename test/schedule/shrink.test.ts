import { startOfSchedule, type Switch } from '#src/schedule/board';
import { shrink } from '#src/schedule/shrink';
import { turnsWithout } from '#src/schedule/straighten';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const one = (actor: number, count: number, next: number): Switch => ({ actor, count, next });
const has = (switches: readonly Switch[], { actor, count, next }: Switch): boolean =>
  switches.some((other) => other.actor === actor && other.count === count && other.next === next);

const switchArbitrary = fc.record({ actor: fc.nat(4), count: fc.integer({ min: 1, max: 60 }), next: fc.nat(4) });

test('whatever else is in the list, only the switches that the failure needs are left', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(switchArbitrary, { minLength: 1, maxLength: 40, selector: (s) => JSON.stringify(s) }), fc.nat(), async (all, pick) => {
      const needed = all.filter((_, i) => (i * 7 + pick) % 11 === 0).slice(0, 3);
      const { switches, replays } = await shrink(
        { switches: all, steps: 100 },
        async (tried) => ({ sameFailure: needed.every((need) => has(tried, need)), switches: tried, steps: 100 }),
        { actors: 5 },
      );
      expect(switches).toEqual(needed);
      expect(replays).toBeLessThan(2_000);
    }),
    { numRuns: 60, seed: 4 },
  );
});

test('a switch to b followed by one from b to c becomes one switch to c', async () => {
  const result = await shrink(
    { switches: [one(0, 3, 1), one(1, 1, 2)], steps: 10 },
    async (tried) => ({ sameFailure: has(tried, one(0, 3, 2)) || tried.length === 2, switches: tried, steps: 10 }),
    { actors: 3 },
  );
  expect(result.switches).toEqual([one(0, 3, 2)]);
});

test('another start actor is tried', async () => {
  const start = one(startOfSchedule, 0, 2);
  const result = await shrink(
    { switches: [one(0, 1, 2), one(2, 5, 0)], steps: 10 },
    async (tried) => ({ sameFailure: tried.length === 2 || (tried.length === 1 && has(tried, start)), switches: tried, steps: 10 }),
    { actors: 3 },
  );
  expect(result.switches).toEqual([start]);
});

test('another failure is not accepted, and the number of replays is bounded', async () => {
  const switches = Array.from({ length: 50 }, (_, i) => one(0, i + 1, 1));
  const result = await shrink({ switches, steps: 10 }, async (tried) => ({ sameFailure: false, switches: tried, steps: 1 }), { actors: 2, maxReplays: 20 });
  expect(result).toEqual({ switches, steps: 10, replays: 20 });
});

test('a race of two is found among many switches that only hold each other up', async () => {
  const [hold, release] = [one(1, 37, 0), one(0, 20, 1)];
  const tangled = Array.from({ length: 9 }, (_, i) => one(i % 4, 3 + i, (i + 1) % 4));
  const isTangle = (tried: readonly Switch[]): boolean => tried.length === 9;
  const scene = { actor: 1, counts: [20, 40, 5, 0] };
  const result = await shrink(
    { switches: tangled, steps: 100, scene },
    async (tried) => ({ sameFailure: isTangle(tried) || (has(tried, hold) && has(tried, release)), switches: tried, steps: 50, scene }),
    { actors: 4 },
  );
  expect(result.switches).toEqual([hold, release]);
});

test('the same race with the first actor in the place of the one that started needs no other start', async () => {
  const start = one(startOfSchedule, 0, 2);
  const result = await shrink(
    { switches: [start, one(2, 5, 0)], steps: 10 },
    async (tried) => ({ sameFailure: tried.length === 2 || has(tried, one(0, 5, 2)), switches: tried, steps: 10 }),
    { actors: 3 },
  );
  expect(result.switches).toEqual([one(0, 5, 2)]);
});

test('simpler schedules are tried first, again after each that halves the list, and what has one switch is not searched any further', async () => {
  const switches = Array.from({ length: 40 }, (_, i) => one(i % 3, i + 1, (i + 1) % 3));
  const { switches: left, replays } = await shrink(
    { switches, steps: 10 },
    async (tried) => ({ sameFailure: tried.length > 0, switches: tried, steps: tried.length }),
    { actors: 3, simpler: (_scene, best) => [[], best.slice(0, Math.ceil(best.length / 2))] },
  );
  expect(left).toHaveLength(1);
  // None, then 20, 10, 5, 3 and 2 switches, then one of two.
  expect(replays).toBeLessThanOrEqual(8);
});

test('actors that the failure does not need are left out many at once', async () => {
  const turns = Array.from({ length: 120 }, (_, i) => ({ actor: i % 12, count: Math.floor(i / 12) + 1 }));
  const actorsOf = (tried: readonly Switch[]): Set<number> => new Set(tried.map(({ next }) => next));
  const tried: number[] = [];
  const attempt = async (candidate: readonly Switch[]) => {
    tried.push(candidate.length);
    const actors = actorsOf(candidate);
    const sameFailure = actors.has(3) && actors.has(7);
    return { sameFailure, switches: candidate, steps: candidate.length, scene: { actor: 7, counts: [] }, turns: turns.filter(({ actor }) => actors.has(actor)) };
  };
  const first = turnsWithout(turns, new Set());
  const { switches } = await shrink({ switches: first, steps: 120, scene: { actor: 7, counts: [] }, turns }, attempt, { actors: 12 });
  expect(first).toHaveLength(120);
  expect(tried.slice(0, 12)).toContain(20);
  expect(actorsOf(switches)).toEqual(new Set([3, 7]));
});
