/**
 * Failures made by hand: two replaces of one group whose two critical sections interleave, and one that needs no switch.
 */
import type { Failure, StepOp, TraceStep } from '#src/report/failure';

const addresses: Record<string, number> = { 'Group.mutex': 0x40, 'Igroup.lock': 0x80, 'Group.domain': 0xc0, 'Igroup.hwpt': 0x100 };

/** `actor op label value`, numbered from 1. */
function trace(...lines: readonly string[]): TraceStep[] {
  return lines.map((line, index) => {
    const [actor, op, label, value] = line.split(' ') as [string, StepOp, string, string | undefined];
    return { step: index + 1, actor, op, space: 1, at: addresses[label] ?? 0x1000, label, value: Number(value ?? 0), choice: index > 0 };
  });
}

/** The group moves under one lock, the record under the next, and the other replace comes between. */
export const interleaved: Failure = {
  scenario: 'group-replace',
  variant: 'replace-unlocked',
  violation: {
    invariant: 'G2',
    claim: 'when no attach, replace, detach or close of a group is in progress, record, group and hardware name one domain',
    message: 'group edu: the record says hwpt 7, the group is on the domain of hwpt 6',
  },
  actors: ['vmm-a', 'vmm-b', 'mapper', 'edu1', 'edu2', 'viommu'],
  steps: trace(
    'vmm-a START vmm-a',
    'vmm-a LOCK Igroup.lock 1',
    'vmm-a WROTE Group.domain 7',
    'vmm-a UNLOCK Igroup.lock',
    'vmm-b START vmm-b',
    'vmm-b LOCK Igroup.lock 1',
    'vmm-b WROTE Group.domain 6',
    'vmm-b UNLOCK Igroup.lock',
    'vmm-b LOAD Ioas.users 2',
    'vmm-b LOCK Igroup.lock 1',
    'vmm-b WROTE Igroup.hwpt 6',
    'vmm-b UNLOCK Igroup.lock',
    'vmm-a LOCK Igroup.lock 1',
    'vmm-a WROTE Igroup.hwpt 7',
    'vmm-a UNLOCK Igroup.lock',
  ),
  events: [
    { step: 1, actor: 'vmm-a', text: 'REPLACE edu1 -> ioas 3' },
    { step: 5, actor: 'vmm-b', text: 'REPLACE edu2 -> ioas 2' },
    { step: 8, actor: 'mapper', text: 'MAP 0x4000 in ioas 2' },
    { step: 12, actor: 'vmm-b', text: 'replaced edu2: hwpt 6' },
    { step: 15, actor: 'vmm-a', text: 'replaced edu1: hwpt 7' },
  ],
  switches: [{ actor: 'vmm-a', op: 3, next: 'vmm-b' }],
  conflicts: [
    { label: 'Group.domain', space: 1, at: 0xc0, lastWrite: { actor: 'vmm-b', step: 7, value: 6 } },
    { label: 'Igroup.hwpt', space: 1, at: 0x100, lastWrite: { actor: 'vmm-a', step: 14, value: 7 }, means: 'hwpt 7' },
  ],
  token: 'v1.group-replace.0badcafe.AAECAw.11223344',
};

/** The group moves and the record stays: one actor, no switch. */
export const forgotten: Failure = {
  ...interleaved,
  variant: 'replace-v2',
  steps: trace('vmm-a START vmm-a', 'vmm-a LOCK Igroup.lock 1', 'vmm-a WROTE Group.domain 7', 'vmm-a UNLOCK Igroup.lock'),
  events: [{ step: 1, actor: 'vmm-a', text: 'REPLACE edu1 -> ioas 3' }],
  switches: [],
  conflicts: [
    { label: 'Group.domain', space: 1, at: 0xc0, lastWrite: { actor: 'vmm-a', step: 3, value: 7 } },
    { label: 'Igroup.hwpt', space: 1, at: 0x100, lastWrite: null, means: 'hwpt 6' },
  ],
};

/** Many actors, many steps, long names: what has to be left out. */
export const crowded: Failure = {
  ...interleaved,
  actors: ['first-vmm-thread', 'second-vmm-thread', 'third-vmm-thread'],
  steps: Array.from({ length: 300 }, (_, index): TraceStep => ({
    step: index + 1,
    actor: ['first-vmm-thread', 'second-vmm-thread', 'third-vmm-thread'][Math.floor(index / 10) % 3]!,
    op: index % 3 === 0 ? 'LOAD' : 'WRITE',
    space: 1,
    at: 0xc0,
    label: 'PasidTableEntryOfAVeryLongRecordName.secondLevelPageTablePointer',
    value: index,
    choice: true,
  })),
  events: [],
  switches: [
    { actor: 'first-vmm-thread', op: 10, next: 'second-vmm-thread' },
    { actor: 'second-vmm-thread', op: 10, next: 'third-vmm-thread' },
  ],
  conflicts: [{ label: 'PasidTableEntryOfAVeryLongRecordName.secondLevelPageTablePointer', space: 1, at: 0xc0,
    lastWrite: { actor: 'third-vmm-thread', step: 300, value: 299 } }],
};
