/**
 * Every scenario of the folder: its mistakes are caught by the invariant they name, its correct kernel by none. Those that meet
 * faults of 7.2 are in `faults-of-72.test.ts`. Two test files share them out, for two cores.
 */
import { findScenario, findVariant, scenarioNames, variantsOf } from '#src/catalogue';
import { cellCpus } from '#src/cell-process';
import { explore, replay } from '#src/explore';
import { run } from '#src/run';
import { actorsOf, parametersOf } from '#src/scenario';
import { describe, expect, test } from 'vitest';

const seeds = [1, 2];
const cpus = cellCpus();

/** Switches of every failing schedule that was shrunk here. */
const shrunk: number[] = [];

/** Registers the tests of every second scenario. */
export async function everyScenario(part: 0 | 1): Promise<void> {
  // A cell on a CPU for each file: to start one takes longer than most explorations here.
  const own = cpus[part % cpus.length]!;
  const all = await Promise.all(scenarioNames().map((name) => findScenario(name)));

  /** Variants that hold: the design that was merged, and proposals that were as good. */
  const holding = new Set<string>();
  for (const found of all) for (const name of variantsOf(found).slice(1)) if ((await findVariant(found, name)).value.caughtBy === null) holding.add(name);

  describe.each(all.filter(({ value }, index) => value.caught72 === undefined && index % 2 === part))('$name', (found) => {
    const scenario = found.name;
    // Where a scenario has a size, a small one: shrinking tries every actor.
    const vms = found.value.vms === undefined ? null : 2;
    const variants = variantsOf(found).slice(1);
    const designs = variants.filter((name) => holding.has(name));

    if (designs.length > 0) {
      test.each(designs)('design %s holds', async (variant) => {
        const { violation, schedules } = await explore({ scenario, variant, seed: 5, strategy: 'portfolio', schedules: 100, budgetMs: null, vms: null, cpus: [own] });
        expect([violation, schedules]).toEqual([null, 100]);
      });
    }

    test.each(variants.filter((name) => !holding.has(name)))('mistake %s is caught by the invariant it names, in few switches, and replays as one hash', async (variant) => {
      const { value } = await findVariant(found, variant);
      for (const seed of seeds) {
        const { violation, story } = await explore({ scenario, variant, seed, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms, cpus: [own] });
        expect(violation?.invariant).toBe(value.caughtBy);
        expect(violation!.switches).toBeLessThanOrEqual(3);
        shrunk.push(violation!.switches);
        expect(violation!.token.length).toBeLessThanOrEqual(64);
        expect(story.length).toBeGreaterThan(8);
        expect(story.length).toBeLessThanOrEqual(25);
        // To replay takes a cell of its own, which takes longer than the replays.
        if (seed !== seeds[0]) continue;
        const again = await replay({ token: violation!.token, times: 50, cpu: own });
        expect(again.hashes).toHaveLength(1);
        expect(again.violation?.invariant).toBe(value.caughtBy);
      }
    });

    test('the correct kernel is caught by none over some hundred schedules', async () => {
      const { violation, schedules } = await explore({ scenario, variant: 'correct', seed: 11, strategy: 'portfolio', schedules: 300, budgetMs: null, vms, cpus: [own] });
      expect(violation).toBeNull();
      expect(schedules).toBe(300);
    });

    test('free, every actor has a thread of its own, all make progress, and nothing breaks', async () => {
      const { threads, counts, violation } = await run({ scenario, variant: 'correct', seed: 1, durationMs: 1_000, vms: null });
      expect(violation).toBeNull();
      expect(threads.map(({ actor }) => actor)).toEqual(Object.keys(actorsOf(found.value, parametersOf(found.value, null))));
      expect(new Set(threads.map(({ threadId }) => threadId)).size).toBe(threads.length);
      expect(counts.rounds).toBeGreaterThan(0);
      // Which other counters move is the scenario's own affair; in the two large ones all do.
      if (!['fleet', 'group-replace'].includes(scenario)) return;
      for (const [name, count] of Object.entries(counts)) if (name !== 'faults') expect(count, name).toBeGreaterThan(0);
    });
  });

  test('half of all failing schedules are shrunk to two switches or fewer', () => {
    const half = shrunk.toSorted((one, other) => one - other).slice(0, Math.ceil(shrunk.length / 2));
    expect(half.length).toBeGreaterThan(10);
    expect(half.at(-1)).toBeLessThanOrEqual(2);
  });
}
