import { tellStory } from '#src/report/story';
import { expect, test } from 'vitest';
import { crowded, forgotten, interleaved } from './failures.ts';

test('two interleaved replaces are told as who did what, who was paused where, and what was let go of', () => {
  expect(tellStory(interleaved)).toEqual([
    'G2 broken in group-replace, replace-unlocked: group edu: the record says hwpt 7,',
    '  the group is on the domain of hwpt 6',
    'The claim: when no attach, replace, detach or close of a group is in progress,',
    '  record, group and hardware name one domain',
    '',
    ' step  vmm-a                               vmm-b',
    '    1  REPLACE edu1 -> ioas 3',
    '    3  Group.domain := 7',
    '    4  vmm-a is paused here until vmm-b has returned',
    '    5                                      REPLACE edu2 -> ioas 2',
    '    7                                      Group.domain := 6',
    '   11                                      Igroup.hwpt := 6',
    '   12                                      replaced edu2: hwpt 6',
    '   14  Igroup.hwpt := 7',
    '   15  replaced edu1: hwpt 7',
    '       (8 more in the trace)',
    '',
    'The words that disagree:',
    '  Group.domain = 6, by vmm-b at step 7, under Igroup.lock',
    '  Igroup.hwpt  = hwpt 7, by vmm-a at step 14, under Igroup.lock',
    '  vmm-b let go of Igroup.lock (step 8) between its writes (7, 11).',
    '  vmm-a let go of Igroup.lock (step 4) between its writes (3, 14).',
    '',
    'token   v1.group-replace.0badcafe.AAECAw.11223344',
    'replay  dmarena replay v1.group-replace.0badcafe.AAECAw.11223344',
  ]);
});

test('a mistake of one actor needs no switch, and the story says which word it forgot', () => {
  expect(tellStory(forgotten)).toEqual([
    'G2 broken in group-replace, replace-v2: group edu: the record says hwpt 7, the',
    '  group is on the domain of hwpt 6',
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

test('a long trace of many actors is told in 25 lines of 80 columns', () => {
  const lines = tellStory(crowded);
  expect(lines.length).toBeLessThanOrEqual(25);
  for (const line of lines.filter((one) => !one.includes(crowded.token))) expect(line.length).toBeLessThanOrEqual(80);
  expect(lines.join('\n')).toMatch(/\(\d+ more in the trace\)/);
  expect(lines.join('\n')).toMatch(/first-vmm-thread is paused here until step 31/);
});
