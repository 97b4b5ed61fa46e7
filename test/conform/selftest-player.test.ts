/** What the player of the selftest's recordings understands beside calls, and that it sees a difference there. */
import { Capability } from '#src/kernel/accounting';
import { capabilitiesAfter } from '#src/conform/capability-text';
import { firstDifference } from '#src/conform/compare';
import { SelftestPlayer } from '#src/conform/selftest-player';
import { bytesOf, told } from '#src/conform/trace-bytes';
import { parseTrace, readTrace, type TraceLine } from '#src/conform/trace-file';
import { expect, test } from 'vitest';

/** The first difference, as `seq: field`, or null. */
function play(lines: readonly TraceLine[], change: (line: TraceLine) => TraceLine = (line) => line): string | null {
  const player = new SelftestPlayer(lines);
  for (const line of lines.map(change)) {
    const played = player.play(line);
    if ('skip' in played) return `${line.seq}: ${played.skip}`;
    const found = 'differs' in played ? played.differs : firstDifference(line, played);
    if (found !== null) return `${line.seq}: ${found.field}`;
  }
  return null;
}

const call = (seq: number, name: string, input: object, more: object = {}): string =>
  JSON.stringify({ seq, call: name, phase: 'BODY', proc: 1, in: input, out: {}, ret: 0, errno: null, ...more });
const failed = (errno: string): object => ({ ret: -1, errno });
const opened = call(1, 'OPEN', { path: '/dev/iommu', flags: '0x2' }, { out: { fd: 'iommu1', rawfd: 3 } });
const lines = (...texts: string[]): TraceLine[] => parseTrace('x.jsonl', [opened, ...texts].join('\n'));

test('what a query left in memory that ends within the bitmap is compared', () => {
  const file = 'test/traces/K1b_dirty_bitmap_fault.mock.jsonl';
  expect(play(readTrace(file))).toBeNull();
  const misled = (line: TraceLine): TraceLine => (line.call === 'CHECK' ? { ...line, rest: { first_bitmap_byte: '0f' } } : line);
  expect(play(readTrace(file), misled)).toBe('27: first_bitmap_byte');
  const other = (line: TraceLine): TraceLine => (line.call === 'CHECK' ? { ...line, rest: { something: 'else' } } : line);
  expect(play(readTrace(file), other)).toBe('27: nobody checks this yet');
});

test('VmLck is compared like VmPin', () => {
  const changed = (line: TraceLine): TraceLine => (line.seq === 14 ? { ...line, acct: { vm_pin_kb: 4, vm_lck_kb: 0 } } : line);
  const recorded = readTrace('test/traces/change_process.account_mm.basic.jsonl');
  expect(play(recorded)).toBeNull();
  expect(play(recorded.map(changed))).toBe('14: acct.vm_lck_kb');
});

test('an operation that the selftest does not have, a struct that is too short, and one that is not there', () => {
  const test1 = (seq: number, name: string, input: object, errno: string) => call(seq, name, input, { fd: 'iommu1', ...failed(errno) });
  expect(play(lines(
    test1(2, 'IOMMU_TEST_OP0', { size: 72, id: 0 }, 'EOPNOTSUPP'),
    test1(3, 'IOMMU_TEST_OP99', { size: 72, id: 0 }, 'EOPNOTSUPP'),
    test1(4, 'IOMMU_TEST_OP99', { size: 67, id: 0 }, 'EINVAL'),
    test1(5, 'IOMMU_TEST_MD_CHECK_REFS', { size: 76, id: 0, _extra: '01' }, 'E2BIG'),
    test1(6, 'IOMMU_TEST_MD_CHECK_REFS', { _badptr: '0x0' }, 'EFAULT'),
    test1(7, 'IOMMU_TEST_SET_TEMP_MEMORY_LIMIT', { size: 72, id: 0, limit: 11 }, 'EINVAL'),
    test1(8, 'IOMMU_GET_HW_INFO', { size: 40, dev_id: 9, data_len: 8, data_uptr_at: 'unmapped' }, 'ENOENT'),
  ))).toBeNull();
});

test('a pointer that leads nowhere is EFAULT where the kernel writes', () => {
  const info = { size: 40, flags: '0x0', dev_id: 3, in_or_out_data_type: '0x0' };
  const answer = { out: { data_len: 8, in_or_out_data_type: '0xfeedbeef', out_max_pasid_log2: 0, out_capabilities: '0x9' } };
  expect(play(lines(
    call(2, 'IOMMU_IOAS_ALLOC', { size: 12, flags: '0x0' }, { fd: 'iommu1', out: { out_ioas_id: 1 } }),
    call(3, 'IOMMU_TEST_MOCK_DOMAIN', { size: 72, id: 1 }, { fd: 'iommu1', out: { id: 1, out_stdev_id: 2, out_hwpt_id: 4, out_idev_id: 3 } }),
    call(4, 'IOMMU_GET_HW_INFO', { ...info, data_len: 8, data_uptr: '0x10000', data_uptr_at: 'unmapped' }, { fd: 'iommu1', ...failed('EFAULT') }),
    call(5, 'IOMMU_GET_HW_INFO', { ...info, data_len: 8, data_uptr: '0x0', data_uptr_at: null }, { fd: 'iommu1', ...failed('EFAULT') }),
    call(6, 'IOMMU_GET_HW_INFO', { ...info, data_len: 0, data_uptr: '0x0', data_uptr_at: null }, { fd: 'iommu1', ...answer }),
  ))).toBeNull();
});

test('a descriptor that is another program\'s, closed or none is EBADF; a file that is not in memory is EINVAL once it is wanted', () => {
  const map = (seq: number, fd: number, name: string | null, more: object) =>
    call(seq, 'IOMMU_IOAS_MAP_FILE', { size: 40, flags: '0x6', ioas_id: 1, fd, fd_name: name, start: '0x0', length: '0x1000', iova: '0x0' }, { fd: 'iommu1', ...more });
  expect(play(lines(
    call(2, 'IOMMU_IOAS_ALLOC', { size: 12, flags: '0x0' }, { fd: 'iommu1', out: { out_ioas_id: 1 } }),
    map(3, -1, null, failed('EBADF')),
    map(4, 4294967295, null, failed('EBADF')),
    map(5, 3, 'iommu1', { out: { iova: '0x1000' } }),
    call(6, 'IOMMU_TEST_MOCK_DOMAIN', { size: 72, id: 1 }, { fd: 'iommu1', ...failed('EADDRINUSE') }),
    call(7, 'IOMMU_IOAS_ALLOC', { size: 12, flags: '0x0' }, { fd: 'iommu1', out: { out_ioas_id: 2 } }),
    call(8, 'IOMMU_TEST_MOCK_DOMAIN', { size: 72, id: 2 }, { fd: 'iommu1', out: { id: 2 } }),
    call(9, 'IOMMU_IOAS_MAP_FILE', { size: 40, flags: '0x6', ioas_id: 2, fd: 3, fd_name: 'iommu1', start: '0x0', length: '0x1000', iova: '0x0' }, { fd: 'iommu1', ...failed('EINVAL') }),
  ))).toBeNull();
});

test.each<[string, boolean, boolean]>([
  ['=ep cap_ipc_lock-e', false, true], ['=ep', true, true], ['=', false, false], ['=p', false, false], ['all=ep', true, true],
  ['cap_ipc_lock,cap_sys_resource=ep', true, true], ['= cap_sys_resource+ep', false, true], ['=ep cap_chown,cap_sys_resource-ep', true, false],
])('capabilities written %s', (text, ipcLock, sysResource) => {
  const has = (set: number, bit: number): boolean => (set & (1 << bit)) !== 0;
  const after = capabilitiesAfter(text, 0);
  expect([has(after, Capability.IPC_LOCK), has(after, Capability.SYS_RESOURCE)]).toEqual([ipcLock, sysResource]);
});

test('bytes are told as they are written', () => {
  const many = { len: 17, fill: 'ff' };
  expect([told(bytesOf(many)!), told(bytesOf('00ff')!), told(new Uint8Array(16)), bytesOf(null)]).toEqual([many, '00ff', '00'.repeat(16), null]);
});
