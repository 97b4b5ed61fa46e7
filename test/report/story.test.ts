import { tellStory } from '#src/report/story';
import { expect, test } from 'vitest';
import { crowded, forgotten, interleaved } from './failures.ts';

test('two interleaved replaces are told as who did what, who was paused where, and what was let go of', () => {
  expect(tellStory(interleaved)).toEqual([
    'G2 in group-replace, replace-unlocked: group edu: the record says hwpt 7, the',
    '  group is on the domain of hwpt 6',
    'The claim: when no attach, replace, detach or close of a group is in progress,',
    '  record, group and hardware name one domain',
    '',
    ' step  actor',
    '    1  vmm-a  REPLACE edu1 -> ioas 3',
    '    3  vmm-a  Group.domain := 7',
    '    4  vmm-a  unlock Igroup.lock',
    '    4  vmm-a  vmm-a is paused here until vmm-b has returned',
    '    5  vmm-b  REPLACE edu2 -> ioas 2',
    '    7  vmm-b  Group.domain := 6',
    '   11  vmm-b  Igroup.hwpt := 6',
    '   12  vmm-b  replaced edu2: hwpt 6',
    '   14  vmm-a  Igroup.hwpt := 7',
    '   15  vmm-a  replaced edu1: hwpt 7',
    '       (7 more in the trace)',
    '',
    'The words that disagree:',
    '  Group.domain = 6, by vmm-b at step 7, under Igroup.lock',
    '  Igroup.hwpt  = hwpt 7, by vmm-a at step 14, under Igroup.lock',
    '  vmm-a let go of Igroup.lock (step 4) between its writes (3, 14).',
    '',
    'token   v1.group-replace.0badcafe.AAECAw.11223344',
    'replay  dmarena replay v1.group-replace.0badcafe.AAECAw.11223344',
  ]);
});

test('a mistake of one actor needs no switch, and the story says which word it forgot', () => {
  expect(tellStory(forgotten)).toEqual([
    'G2 in group-replace, replace-v2: group edu: the record says hwpt 7, the group is',
    '  on the domain of hwpt 6',
    'The claim: when no attach, replace, detach or close of a group is in progress,',
    '  record, group and hardware name one domain',
    '',
    ' step  vmm-a',
    '    1  REPLACE edu1 -> ioas 3',
    '    2  lock Igroup.lock',
    '    3  Group.domain := 7',
    '    4  unlock Igroup.lock',
    '',
    'The words that disagree:',
    '  Group.domain = 7, by vmm-a at step 3, under Igroup.lock',
    '  Igroup.hwpt  = hwpt 6, as at the start: nobody wrote it',
    '  vmm-a never wrote Igroup.hwpt.',
    '',
    'token   v1.group-replace.0badcafe.AAECAw.11223344',
    'replay  dmarena replay v1.group-replace.0badcafe.AAECAw.11223344',
  ]);
});

test('only the actors that take part are in the story', () => {
  const text = tellStory(interleaved).join('\n');
  expect(text).not.toMatch(/mapper|viommu|edu2 +$/m);
});

test('of what is found at rest, by nobody and in no word, all are told who did something, and not only who went first', () => {
  const story = tellStory({ ...interleaved, conflicts: [], switches: [{ actor: null, op: 0, next: 'mapper' }] }).join('\n');
  for (const told of ['MAP 0x4000', 'REPLACE edu1', 'REPLACE edu2']) expect(story).toContain(told);
});

test('a long trace of many actors is told in 25 lines of 80 columns', () => {
  const lines = tellStory(crowded);
  expect(lines.length).toBeLessThanOrEqual(25);
  for (const line of lines.filter((one) => !one.includes(crowded.token))) expect(line.length).toBeLessThanOrEqual(80);
  expect(lines.join('\n')).toMatch(/\(\d+ more in the trace\)/);
  expect(lines.join('\n')).toMatch(/first-vmm-thread is paused here until step 31/);
});

test('a lock that only one actor takes keeps nobody apart, and is not named', () => {
  const own = (step: number, op: 'LOCK' | 'UNLOCK') =>
    ({ step, actor: 'vmm-a', op, space: 1, at: 0x4000, label: 'DevSet.lock', value: 0, choice: false }) as const;
  const steps = [own(1.5, 'LOCK'), ...interleaved.steps, own(99, 'UNLOCK')].sort((a, b) => a.step - b.step);
  const text = tellStory({ ...interleaved, steps }).join('\n');
  expect(text).not.toContain('DevSet.lock');
  expect(text).toContain('vmm-a let go of Igroup.lock (step 4)');
});
