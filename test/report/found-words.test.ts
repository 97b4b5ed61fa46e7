import { foundFreed, foundWords } from '#src/report/found-words';
import type { Failure, StepOp, TraceStep } from '#src/report/failure';
import { tellStory } from '#src/report/story';
import { expect, test } from 'vitest';

const places: Record<string, number> = { 'Access.lock': 0x10, 'Other.lock': 0x20, 'Access.ioas': 0x30, 'Ioas.users': 0x40 };

/** `actor op label value`, numbered from 1. */
const trace = (...lines: readonly string[]): TraceStep[] =>
  lines.map((line, index) => {
    const [actor, op, label, value] = line.split(' ') as [string, StepOp, string, string | undefined];
    return { step: index + 1, actor, op, space: 1, at: places[label]!, label, value: Number(value ?? 0), choice: false };
  });

const steps = trace(
  'mover LOCK Access.lock',
  'mover WROTE Access.ioas 0',
  'mover RMW Ioas.users 1',
  'pinner LOCK Other.lock',
  'pinner READ Access.ioas 0',
  'pinner RMW Ioas.users 2',
  'pinner LOAD Ioas.users 2',
  'pinner UNLOCK Other.lock',
);

const failure: Failure = {
  scenario: 'access', variant: 'unlocked', violation: { invariant: 'O2', claim: 'nobody follows a dangling reference', message: 'a null reference to Ioas was followed' },
  actors: ['mover', 'pinner'], steps, events: [], switches: [{ actor: 'mover', op: 3, next: 'pinner' }], conflicts: [], found: foundWords(steps, 'pinner'), token: 'v1.access.0.0.0',
};

test('what an actor went on with is what it read and another one had written last', () => {
  expect(foundWords(steps, 'pinner')).toEqual([{ label: 'Access.ioas', value: 0, write: { actor: 'mover', step: 2 }, read: { actor: 'pinner', step: 5 } }]);
  expect(foundWords(steps, 'mover')).toEqual([]);
});

test('the story tells both accesses, and that no lock kept them apart', () => {
  const story = tellStory(failure);
  expect(story).toContain('What pinner went on with, as others had left it:');
  expect(story).toContain('  Access.ioas = 0, by mover at step 2, under Access.lock;');
  expect(story).toContain('  pinner read it at step 5, under Other.lock: no lock of both.');
  expect(story.filter((line) => /changes Access\.ioas|reads Access\.ioas/.test(line))).toHaveLength(2);
});

test('a lock that is let go of in a step is not held over what is done behind that', () => {
  const dropped = trace('mover LOCK Access.lock', 'mover UNLOCK Access.lock', 'mover WROTE Access.ioas 0', 'pinner READ Access.ioas 0').map((step, index) => (index === 2 ? { ...step, step: 2 } : step));
  expect(tellStory({ ...failure, steps: dropped, found: foundWords(dropped, 'pinner') })).toContain('  Access.ioas = 0, by mover at step 2, under no lock;');
});

test('what the verdict names is told before what it does not', () => {
  const events = Array.from({ length: 40 }, (_, index) => ({ step: index + 1, actor: 'mover', text: index === 0 ? 'ATTACH pasid 64' : `PASID ${index + 100} has moved` }));
  const story = tellStory({ ...failure, found: [], events, violation: { ...failure.violation, message: 'a DMA with PASID 64' } });
  expect(story.join('\n')).toContain('ATTACH pasid 64');
  expect(story.length).toBeLessThanOrEqual(25);
});

test('what an actor used that another one gave back behind its use comes before what it read', () => {
  const use = trace('pinner RMW Ioas.users 2', 'mover LOCK Access.lock', 'mover RMW Ioas.users 1');
  const freed = [{ space: 1, at: places['Ioas.users']!, actor: 'mover', step: 3 }];
  const found = foundFreed(use, 'pinner', freed);
  expect(found).toEqual([{ label: 'Ioas.users', value: 2, freed: true, write: { actor: 'mover', step: 3 }, read: { actor: 'pinner', step: 1 } }]);
  expect([foundFreed(use, 'mover', freed), foundFreed(use, 'pinner', [{ ...freed[0]!, step: 1 }])]).toEqual([[], []]);
  const story = tellStory({ ...failure, steps: use, found }).join('\n').replaceAll(/\s+/g, ' ');
  expect(story).toContain('the object of Ioas.users was given back, by mover at step 3, under Access.lock; pinner had used it at step 1, under no lock: no lock of both.');
});
