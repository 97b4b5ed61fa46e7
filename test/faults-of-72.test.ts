/** The scenarios that meet faults of Linux 7.2: each fault by itself is caught by the invariant it names, 7.2 as it is too, the mended kernel by none. */
import { History, historyBytes } from '#hostmem/history';
import { Counters } from '#src/actors/counters';
import { Device } from '#src/actors/device';
import { Vm } from '#src/actors/vm';
import { findScenario, findVariant, scenarioNames } from '#src/catalogue';
import { loadInvariants } from '#src/check/catalogue';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { driverInForce } from '#src/drivers/in-force';
import { explore, replay } from '#src/explore';
import { Machine } from '#src/hardware/machine';
import { faultsOf72 } from '#src/kernel/faults-of-72';
import { Kernel } from '#src/kernel/kernel';
import { operationsOf, type Variant } from '#src/kernel/variant';
import { run } from '#src/run';
import { actorsOf, parametersOf, type Scenario } from '#src/scenario';
import { violationOf } from '#src/schedule/violation';
import { World } from '#src/world';
import { describe, expect, test } from 'vitest';

const found = await Promise.all(scenarioNames().map((name) => findScenario(name)));
const meeting = found.filter(({ value }) => value.caught72 !== undefined);

/** One actor after the other, on this thread, judged at every event. The id of what did not hold, or null. */
async function actInOrder(scenario: Scenario, variant: Variant): Promise<string | null> {
  const operations = operationsOf(variant);
  const world = new World({ ...scenario.host, aliasPasidTableSkipped: operations.faults.aliasPasidTableSkipped });
  const stage = scenario.world(world);
  const { host, directory } = world;
  const history = new History(new SharedArrayBuffer(historyBytes(1, 4096)), 1, 4096);
  host.kernel.history = history;
  const judge = new Judge(await loadInvariants(scenario.holds), history, new View(host.buffers));
  let seen: { readonly invariant: string } | null = null;
  history.listener = (kind) => {
    seen ??= judge.moment(kind);
  };
  const kernel = new Kernel(host, operations, driverInForce(host, new Machine(host)));
  const counters = new Counters(Counters.createBuffer(1), 0);
  try {
    for (const [name, { role, subject, body }] of Object.entries(actorsOf(scenario, parametersOf(scenario, null)))) {
      const seat = { name, host, kernel, counters, pace: null, seed: 1, directory };
      body((role === 'device' ? new Device(seat, subject) : new Vm(seat, subject)) as never, stage);
    }
    seen ??= judge.quiescence();
  } catch (thrown) {
    seen ??= violationOf(thrown);
  }
  return seen?.invariant ?? null;
}

test('every fault has a variant that has it alone', async () => {
  const kept: string[] = [];
  for (const scenario of meeting) {
    for (const name of scenario.value.variants) {
      const { faults = {} } = (await findVariant(scenario, name)).value;
      const on = Object.entries(faults).filter(([, isOn]) => isOn).map(([fault]) => fault);
      expect(on).toHaveLength(name === 'mended' ? 0 : 1);
      kept.push(...on);
    }
  }
  expect(kept.sort()).toEqual(Object.keys(faultsOf72).sort());
});

const pairs = meeting.flatMap((scenario) => ['as-7.2', ...scenario.value.variants].map((variant) => [scenario.name, variant, scenario] as const));

/** A guest and its vIOMMU wait for each other: they need a thread each. */
const inOneSchedule = async (scenario: string, variant: string): Promise<string | null> =>
  (await explore({ scenario, variant, seed: 1, strategy: 'portfolio', schedules: 1, budgetMs: null, vms: null })).violation?.invariant ?? null;

test.each(pairs)('%s under %s: caught by the invariant that it names, or by none', async (name, variant, scenario) => {
  const { value } = await findVariant(scenario, variant);
  expect(value.caughtBy === null).toBe(variant === 'mended');
  const hasViommu = Object.values(actorsOf(scenario.value, parametersOf(scenario.value, null))).some(({ role }) => role === 'viommu');
  expect(hasViommu ? await inOneSchedule(name, variant) : await actInOrder(scenario.value, value)).toBe(value.caughtBy);
});

describe.each(meeting)('$name', ({ name }) => {
  test('mended, it holds: one thread at a time, and free', async () => {
    const explored = await explore({ scenario: name, variant: 'mended', seed: 1, strategy: 'portfolio', schedules: 150, budgetMs: null, vms: null });
    expect([explored.schedules, explored.violation]).toEqual([150, null]);
    const { violation, counts } = await run({ scenario: name, variant: 'mended', seed: 1, durationMs: 500, vms: null });
    expect(violation).toBeNull();
    expect(counts.translations).toBeGreaterThan(0);
  });
});

test('7.2 as it is is what a scenario is run with, by that name; what is found replays', async () => {
  const answer = await explore({ scenario: 'failed-attach', variant: 'correct', seed: 1, strategy: 'portfolio', schedules: 50, budgetMs: null, vms: null });
  expect(answer).toMatchObject({ variant: 'as-7.2', schedules: 1, violation: { invariant: 'G2', switches: 0 } });
  const again = await replay({ token: answer.violation!.token, times: 20 });
  expect(again).toMatchObject({ times: 20, hashes: [expect.any(String)], violation: { invariant: 'G2' } });
});
