import { Space } from '#hostmem/memory';
import { afterEach, describe, expect, test } from 'vitest';
import { openCell, type Cell } from './cell.ts';

let cell: Cell | null = null;

async function open(model: string, options: Parameters<typeof openCell>[1] = {}): Promise<Cell> {
  cell = await openCell(model, options);
  return cell;
}

afterEach(async () => {
  await cell?.close();
  cell = null;
});

describe('what the scheduler finds by itself', () => {
  test('two locks taken in opposite order are a deadlock that names who waits for what, and who has it', async () => {
    const { commander } = await open('abba');
    const { violation } = await commander.explore({ strategy: 'random', count: 100, seed: 1 });
    expect(violation?.invariant).toBe('DEADLOCK');
    expect(violation?.message).toMatch(/actor0 waits for ScheduleCells\.other \(kernel 0x\w+\), held by actor1/);
    expect(violation?.message).toMatch(/actor1 waits for ScheduleCells\.lock \(kernel 0x\w+\), held by actor0/);
  });

  test('an actor that throws ends the schedule with what it said', async () => {
    const { commander } = await open('throws');
    const outcome = await commander.explore({ strategy: 'random', count: 200, seed: 1 });
    expect(outcome.violation).toMatchObject({ invariant: 'THROWN', message: 'RangeError: the second actor gives up' });
    expect(outcome.actor).toBe(1);
  });

  test('a reference followed after its object was freed is O2', async () => {
    const { commander } = await open('dangling');
    const { violation } = await commander.explore({ strategy: 'random', count: 100, seed: 1 });
    expect(violation?.invariant).toBe('O2');
  });

  test('a guarded word touched without its lock is L2 where the run asks for it, and only there', async () => {
    const { commander } = await open('unguarded');
    const asked = await commander.explore({ strategy: 'random', count: 20, seed: 1, checksLocking: true });
    expect(asked.violation?.invariant).toBe('L2');
    expect(asked.violation?.message).toMatch(/^actor1 touches ScheduleCells\.guarded \(kernel 0x\w+\) without its lock$/);
    expect(asked.violation?.words).toHaveLength(1);
    const notAsked = await commander.explore({ strategy: 'random', count: 20, seed: 1 });
    expect(notAsked.violation).toBeNull();
  });

  test('a word that is changed without waking who waits for it is L4, though here it goes on, and only where somebody waits', async () => {
    const { commander } = await open('does-not-wake');
    const { violation } = await commander.replay({ switches: [] });
    expect(violation).toMatchObject({ invariant: 'L4', message: 'actor1 changes ScheduleCells.asked to what actor0 waits for, and does not wake it' });
    const beforehand = await commander.replay({ switches: [{ actor: 255, count: 0, next: 1 }] });
    expect(beforehand.violation).toBeNull();
  });

  test('a schedule that takes more steps than its budget is a violation, not a hang', async () => {
    const { commander } = await open('long');
    const { violation, steps } = await commander.explore({ strategy: 'random', count: 1, seed: 1, budget: 500 });
    expect(violation?.invariant).toBe('BUDGET');
    expect(steps).toBe(501);
  });

  test('a model that remembers something outside the memory that is restored is caught by running schedules twice', async () => {
    const { commander } = await open('leaks');
    const { violation } = await commander.explore({ strategy: 'random', count: 65, seed: 1 });
    expect(violation?.invariant).toBe('NONDETERMINISM');
    expect(violation?.message).toMatch(/trace hashes [0-9a-f]{16} and [0-9a-f]{16}$/);
    const place = String.raw`actor0 STORE ScheduleCells\.m1 \(kernel 0x\w+\), value`;
    expect(violation?.message).toMatch(new RegExp(`differed first at step 2: ${place} 0, then ${place} 1;`));
    const { hashes } = await commander.replay({ switches: [], times: 5 });
    expect(hashes).toHaveLength(5);
  });

  test.for([['reads-the-clock', 'Date'], ['draws', 'Math.random'], ['sets-a-timer', 'setTimeout']])('%s: %s is not there, and whoever asks for it is told', async ([model, name]) => {
    const { commander } = await open(model!);
    const { violation } = await commander.explore({ strategy: 'random', count: 5, seed: 1 });
    expect(violation).toMatchObject({ invariant: 'THROWN', message: `Error: ${name} is not there in a controlled run: a schedule is the same every time` });
  });

  test('the judge sees what no actor sees, and its words reach the commander', async () => {
    const { commander } = await open('lost-update');
    const { violation, actor } = await commander.explore({ strategy: 'random', count: 100, seed: 1 });
    expect(violation).toMatchObject({ invariant: 'SUM', message: 'two additions give 1' });
    expect(violation?.words[0]).toMatchObject({ space: Space.KERNEL });
    expect(actor).toBeNull();
  });
});

describe('engines', () => {
  test('an engine takes part as an actor: answering before the value came is found, and not where it came first', async () => {
    const { commander } = await open('engine');
    const found = await commander.explore({ strategy: 'random', count: 100, seed: 1 });
    expect(found.violation?.message).toBe('the answer is what was there before the value came');
    const started = await commander.replay({ switches: [{ actor: 255, count: 0, next: 1 }], trace: true });
    expect(started.violation).toBeNull();
    const step = started.trace.findIndex(({ op, actor }) => op === 'STEP' && actor === 2);
    expect(step).toBeGreaterThan(0);
    expect(started.trace[step + 1]).toMatchObject({ actor: 2, inside: true, op: 'LOAD', label: 'ScheduleCells.m1', value: 5 });
  });

  test('an engine that throws ends the schedule under its own name, whoever ran its step', async () => {
    const { commander, resets } = await open('engine-throws', { compares: true });
    const { violation, actor } = await commander.explore({ strategy: 'random', count: 20, seed: 1 });
    expect(violation).toMatchObject({ invariant: 'THROWN', message: 'RangeError: the engine is on fire' });
    expect(actor).toBe(2);
    expect(resets().different).toBe(0);
  });
});

describe('every way out', () => {
  test.for(['throws', 'abba', 'torn-pointer', 'dangling', 'engine-throws', 'swallows', 'busy-3x36'])(
    'of %s leaves memory as it was, and the next command works',
    async (model) => {
      const { commander, resets } = await open(model, { compares: true });
      const first = await commander.explore({ strategy: 'random', count: 60, seed: 2, budget: 2_000 });
      const again = await commander.replay({ switches: first.switches ?? [], times: 20, budget: 2_000 });
      expect(again.hashes).toEqual([first.hash]);
      expect(resets().compared).toBe(first.executions + 20);
      expect(resets().different).toBe(0);
    },
  );

  test('an actor whose thread dies ends the command with an error, not with a hang', async () => {
    const { commander, destroy } = await openCell('dies');
    await expect(commander.explore({ strategy: 'random', count: 10, seed: 1 })).rejects.toThrow();
    await destroy();
  });

  test('an actor that loops without reaching a point is reported by the watchdog', async () => {
    const { commander, destroy } = await openCell('hangs', { stallMs: 1_000 });
    await expect(commander.explore({ strategy: 'random', count: 10, seed: 1 })).rejects.toThrow(/nothing has moved for 1 s \(schedule 0, step 2, actor 0\)/);
    await destroy();
  });
});
