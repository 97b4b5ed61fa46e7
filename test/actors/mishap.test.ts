/** What may befall a device where a strategy wants it: found, needed, told, and never in a free run. */
import { explore, replay } from '#src/explore';
import { decodeToken, encodeToken } from '#src/schedule/token';
import { firstAlternative } from '#src/schedule/board';
import { expect, test } from 'vitest';

test.for([
  ['late-and-reset', 'reset-vs-attach', 'resets the device'],
  ['surprise-removal', 'vtd-pasid-torn-teardown', 'unplugs the device'],
])('%s: %s needs one mishap, which the story tells and without which the schedule holds', async ([name, variant, told]) => {
  const { violation, story } = await explore({ scenario: name!, variant: variant!, seed: 2, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms: null });
  expect(violation?.faults).toBe(1);
  expect(story.join('\n')).toContain(told!);
  const token = decodeToken(violation!.token);
  const without = encodeToken({ ...token, switches: token.switches.filter(({ next }) => next < firstAlternative) });
  expect((await replay({ token: without, times: 2 })).violation).toBeNull();
  expect((await replay({ token: violation!.token, times: 20 })).hashes).toHaveLength(1);
});

test('late hardware alone, without a switch, is enough for a page that is let go before its invalidation', async () => {
  const found = await explore({ scenario: 'late-and-reset', variant: 'invalidate-after-unpin', seed: 1, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms: null });
  const token = decodeToken(found.violation!.token);
  // The mapper's only choice is that: whichever of its operations it is.
  const late = Array.from({ length: 250 }, (_, index) => ({ actor: 0, count: index + 1, next: firstAlternative + 1 }));
  const { violation } = await replay({ token: encodeToken({ ...token, switches: late }), times: 1 });
  expect(violation?.invariant).toBe('D7');
});
