/** Buffers of the recorded program that are read-only, missing, or end too early: EFAULT where Linux copies, and not before. */
import { firstDifference } from '#src/conform/compare';
import { SelftestPlayer } from '#src/conform/selftest-player';
import { parseTrace } from '#src/conform/trace-file';
import { expect, test } from 'vitest';

type Line = readonly [name: string, input: object, errno: string | null, out?: object];

/** The regions of the probe's programs: m1 is 64 KiB that can be written, m2 8 KiB that can only be read. */
const m1 = 0x200000000;
const m2 = 0x210000000;
const m1Bytes = 0x10000;
const inM1 = (offset: number) => ({ value: `0x${(m1 + offset).toString(16)}`, at: { region: 'm1', off: `0x${offset.toString(16)}` } });
/** So many bytes before m1 ends. */
const beforeEnd = (bytes: number) => inM1(m1Bytes - bytes);
const readOnly = { value: `0x${m2.toString(16)}`, at: { region: 'm2', off: '0x0' } };
const unmapped = { value: '0x10000', at: 'unmapped' };
const nullPointer = { value: '0x0', at: null };
const stack = { value: '0x7fffffffe598', at: 'private' };
type Place = typeof readOnly | typeof unmapped | typeof nullPointer;

const pointer = (field: string, { value, at }: Place): object => ({ [field]: value, [`${field}_at`]: at });
const mapped = (length: number, addr: string, prot: string, region: string): Line =>
  ['MMAP', { addr, length, prot, flags: 'SHARED|ANON|FIXED', fd: null, offset: '0x0' }, null, { addr, region }];

/** With IOAS 1, mock device 3 on it, nest parent 5 and nested HWPT 6. */
const begin: readonly Line[] = [
  ['OPEN', { path: '/dev/iommu', flags: '0x2' }, null, { fd: 'iommu1', rawfd: 3 }],
  mapped(m1Bytes, `0x${m1.toString(16)}`, 'rw-', 'm1'),
  mapped(0x2000, `0x${m2.toString(16)}`, 'r--', 'm2'),
  ['IOMMU_IOAS_ALLOC', { size: 12, flags: '0x0' }, null, { out_ioas_id: 1 }],
  ['IOMMU_TEST_MOCK_DOMAIN', { size: 72, id: 1 }, null, { id: 1, out_stdev_id: 2, out_hwpt_id: 4, out_idev_id: 3 }],
  paging('0x1', 5),
  nested(readOnly, '0000000000000000', null, { out_hwpt_id: 6 }),
];

function paging(flags: string, id: number): Line {
  const input = { size: 48, flags, dev_id: 3, pt_id: 1, data_type: '0x0', data_len: 0, fault_id: 0, ...pointer('data_uptr', nullPointer) };
  return ['IOMMU_HWPT_ALLOC', input, null, { out_hwpt_id: id }];
}

function nested(place: Place, data: string | null, errno: string | null, out: object): Line {
  const input = { size: 48, flags: '0x0', dev_id: 3, pt_id: 5, data_type: '0xdead', data_len: 8, data, fault_id: 0 };
  return ['IOMMU_HWPT_ALLOC', { ...input, ...pointer('data_uptr', place) }, errno, out];
}

/** The first difference after `begin`, as `number of the line: field`, or null. */
function play(...calls: readonly Line[]): string | null {
  const text = [...begin, ...calls].map(([call, input, errno, out = {}], index) =>
    JSON.stringify({ seq: index + 1, call, phase: 'BODY', proc: 1, fd: 'iommu1', in: input, out, ret: errno === null ? 0 : -1, errno }));
  const lines = parseTrace('edge.buffers.jsonl', text.join('\n'));
  const player = new SelftestPlayer(lines);
  for (const line of lines) {
    const played = player.play(line);
    if ('skip' in played || 'differs' in played) return `${line.seq - begin.length}: not played`;
    const found = firstDifference(line, played);
    if (found !== null) return `${line.seq - begin.length}: ${found.field}, ${found.expected} and not ${found.got}`;
  }
  return null;
}

test.each<[string, Place, number, string | null]>([
  ['read-only memory', readOnly, 8, 'EFAULT'], ['nothing', unmapped, 8, 'EFAULT'], ['null', nullPointer, 8, 'EFAULT'],
  ['a buffer that ends early', beforeEnd(7), 8, 'EFAULT'],
  ['a buffer that ends in the zeros behind the data', beforeEnd(8), 16, 'EFAULT'], ['the last bytes of a region', beforeEnd(8), 8, null],
  ['no bytes of read-only memory', readOnly, 0, null], ['no bytes of nothing', unmapped, 0, null], ['the stack', stack, 8, null],
])('GET_HW_INFO into %s', (_, place, length, errno) => {
  const input = { size: 40, flags: '0x0', dev_id: 3, data_len: length, in_or_out_data_type: '0x0', ...pointer('data_uptr', place) };
  const untouched = { data_len: length, in_or_out_data_type: '0x0', out_capabilities: '0x0' };
  const told = errno === null ? { data_len: 8, in_or_out_data_type: '0xfeedbeef' } : untouched;
  expect(play(['IOMMU_GET_HW_INFO', input, errno, told], ['IOMMU_GET_HW_INFO', { ...input, dev_id: 99 }, 'ENOENT'])).toBeNull();
});

test('data of a nested HWPT are read, also where nobody can write', () => {
  expect(play(
    nested(beforeEnd(4), null, 'EFAULT', { out_hwpt_id: 0 }), nested(unmapped, null, 'EFAULT', {}),
    nested(beforeEnd(8), '0000000000000000', null, { out_hwpt_id: 7 }), nested(readOnly, '0000000000000000', null, { out_hwpt_id: 8 }),
  )).toBeNull();
});

test('the data of a vIOMMU are read, then written; one that could not answer is gone', () => {
  const input = { size: 40, flags: '0x0', type: '0xdeadbeef', dev_id: 3, hwpt_id: 5 };
  const zeros = { len: 24, fill: '00' };
  const answer = (place: Place, data: object | null, errno: string | null, out: object, length: number = 24): Line =>
    ['IOMMU_VIOMMU_ALLOC', { ...input, data_len: length, data, ...pointer('data_uptr', place) }, errno, out];
  expect(play(
    answer(readOnly, zeros, 'EFAULT', { out_viommu_id: 0, data: zeros }), answer(beforeEnd(20), null, 'EFAULT', { out_viommu_id: 0 }),
    answer(unmapped, null, 'EFAULT', {}), answer(unmapped, null, 'EINVAL', {}, 7), answer(readOnly, null, 'EINVAL', {}, 25),
    answer(beforeEnd(24), zeros, null, { out_viommu_id: 7 }),
    ['IOMMU_DESTROY', { size: 8, id: 7 }, null], ['IOMMU_DESTROY', { size: 8, id: 6 }, null], ['IOMMU_DESTROY', { size: 8, id: 5 }, null],
  )).toBeNull();
});

test('IOVA_RANGES writes the ranges that there are, and nothing in the struct before they are written', () => {
  const input = { size: 32, ioas_id: 1, num_iovas: 4 };
  const asked = (place: Place, count: number, errno: string | null, out: object): Line =>
    ['IOMMU_IOAS_IOVA_RANGES', { ...input, num_iovas: count, ...pointer('allowed_iovas', place) }, errno, out];
  const unchanged = { num_iovas: 4, out_iova_alignment: '0x0' };
  expect(play(
    asked(readOnly, 4, 'EFAULT', unchanged), asked(unmapped, 4, 'EFAULT', unchanged), asked(beforeEnd(8), 4, 'EFAULT', unchanged),
    asked(beforeEnd(16), 4, null, { num_iovas: 1, ranges: [['0x1000000', '0x7fffffff']] }),
    asked(readOnly, 0, 'EMSGSIZE', { num_iovas: 1, ranges: [] }),
    ['IOMMU_TEST_ADD_RESERVED', { size: 72, id: 1, start: '0x2000000', length: '0x1000' }, null],
    asked(beforeEnd(16), 4, 'EFAULT', unchanged), asked(beforeEnd(16), 1, 'EMSGSIZE', { num_iovas: 2, out_iova_alignment: '0x800' }),
  )).toBeNull();
});

test('ALLOW_IOVAS reads one range after the other: a bad one is found before the array ends', () => {
  const allow = (place: Place, ranges: readonly unknown[], errno: string | null): Line =>
    ['IOMMU_IOAS_ALLOW_IOVAS', { size: 24, ioas_id: 1, num_iovas: ranges.length, ranges, ...pointer('allowed_iovas', place) }, errno];
  const [good, bad] = [['0x2000000', '0x2ffffff'], ['0x2000000', '0x2000000']];
  expect(play(
    allow(nullPointer, [null], 'EFAULT'), allow(nullPointer, [], null), allow(beforeEnd(16), [good, null], 'EFAULT'),
    allow(stack, [good, null], 'EFAULT'), allow(beforeEnd(16), [bad, null], 'EINVAL'),
    allow(beforeEnd(32), [good, good, null], 'EINVAL'), allow(readOnly, [good], null),
  )).toBeNull();
});

test('HWPT_INVALIDATE carries out the entries that can be read; of a vIOMMU all or none', () => {
  const zeros = (bytes: number) => ({ raw: '00'.repeat(bytes) });
  const ask = (hwpt: number, place: Place, length: number, count: number, errno: string | null, handled: number, more: object = {}): Line => {
    const input = { size: 32, hwpt_id: hwpt, data_type: '0xdeadbeef', entry_len: length, entry_num: count, ...pointer('data_uptr', place) };
    return ['IOMMU_HWPT_INVALIDATE', { ...input, ...more }, errno, { entry_num: handled }];
  };
  const viommu = { size: 40, flags: '0x0', type: '0xdeadbeef', dev_id: 3, hwpt_id: 5, data_len: 0, ...pointer('data_uptr', nullPointer) };
  expect(play(
    ask(6, unmapped, 8, 1, 'EFAULT', 0), ask(6, unmapped, 8, 1, 'EINVAL', 0, { data_type: '0x1' }), ask(6, nullPointer, 8, 1, 'EINVAL', 0),
    ask(6, beforeEnd(12), 8, 2, 'EFAULT', 1, { entries: [zeros(8)] }),
    ask(6, beforeEnd(16), 8, 2, null, 2, { entries: [zeros(8), zeros(8)] }),
    ask(6, beforeEnd(8), 8, 2, 'EOPNOTSUPP', 0, { entries: [{ raw: 'ff00000000000000' }, null] }),
    ask(6, readOnly, 8, 1, null, 1, { entries: [zeros(8)] }),
    ['IOMMU_VIOMMU_ALLOC', viommu, null, { out_viommu_id: 7 }],
    ['IOMMU_VDEVICE_ALLOC', { size: 24, viommu_id: 7, dev_id: 3, virt_id: '0x0' }, null, { out_vdevice_id: 8 }],
    ask(7, beforeEnd(12), 12, 2, 'EFAULT', 0, { entries: [zeros(12)] }),
    ask(7, beforeEnd(24), 12, 2, null, 2, { entries: [zeros(12), zeros(12)] }),
  )).toBeNull();
});

test('ACCESS_RW reads and writes what the buffer has; to copy nothing never faults', () => {
  const access = { id: 7, id_name: 'access1', size: 72 };
  const rw = (place: Place, flags: number, length: number, errno: string | null, out: object = {}, more: object = {}): Line => {
    const input = { ...access, iova: '0x1000000', length, flags: `0x${flags}`, ...pointer('uptr', place) };
    return ['IOMMU_TEST_ACCESS_RW', { ...input, ...more }, errno, { id: 7, mem: [], ...out }];
  };
  const opened: readonly Line[] = [
    ['IOMMU_IOAS_MAP', { size: 40, flags: '0x7', ioas_id: 1, user_va: inM1(0x1000).value, length: '0x1000', iova: '0x1000000' }, null],
    ['IOMMU_TEST_CREATE_ACCESS', { size: 72, id: 1, flags: '0x0' }, null, { out_access_fd: 4, out_access_fd_name: 'access1' }],
    rw(stack, 1, 4, null, { mem: [{ region: 'm1', off: '0x1000', data: '01020304' }] }, { data: '01020304' }),
  ];
  expect(play(
    ...opened, rw(readOnly, 0, 4, 'EFAULT'), rw(unmapped, 0, 4, 'EFAULT'), rw(unmapped, 1, 4, 'EFAULT', {}, { data: null }),
    ...[0, 1].flatMap((flags) => [rw(unmapped, flags, 0, 'EINVAL'), rw(readOnly, flags, 0, 'EINVAL')]),
    rw(beforeEnd(2), 0, 4, 'EFAULT', { mem: [{ region: 'm1', off: '0xfffe', data: '0102' }] }),
    rw(inM1(0x20), 0, 4, null, { mem: [{ region: 'm1', off: '0x20', data: '01020304' }] }),
    rw(beforeEnd(2), 1, 4, 'EFAULT', {}, { data: null }),
    rw(readOnly, 1, 4, null, { mem: [{ region: 'm1', off: '0x1000', data: '00000000' }] }, { data: '00000000' }),
    rw(unmapped, 8, 4, 'EOPNOTSUPP'),
  )).toBeNull();
});

test('the bitmap of dirty pages is read, also where nobody can write', () => {
  const dirty = (place: Place, bitmap: string | null, errno: string | null, more: object = {}): Line => {
    const input = { size: 72, id: 7, flags: '0x0', iova: '0x1000000', length: '0x8000', page_size: '0x800', bitmap, ...pointer('uptr', place) };
    return ['IOMMU_TEST_DIRTY', { ...input, ...more }, errno, { id: 7 }];
  };
  expect(play(
    paging('0x2', 7),
    dirty(unmapped, null, 'EINVAL'),
    ['IOMMU_HWPT_SET_DIRTY_TRACKING', { size: 16, flags: '0x1', hwpt_id: 7 }, null],
    dirty(unmapped, null, 'EFAULT'), dirty(nullPointer, null, 'EINVAL'), dirty(stack, null, 'EFAULT'), dirty(beforeEnd(1), null, 'EFAULT'),
    dirty(beforeEnd(2), '0000', null), dirty(readOnly, '0000', null), dirty(unmapped, null, 'EINVAL', { length: '0x0' }),
  )).toBeNull();
});

test('an argument that is not there is EFAULT, whoever\'s command it is for', () => {
  const unknown = (arg: string, errno: string): Line => ['UNKNOWN_IOCTL', { request: '0x3b85ff85', arg }, errno];
  expect(play(
    unknown('0x0', 'EFAULT'), unknown('0x10000', 'EFAULT'), unknown('0x537000', 'ENOTTY'), unknown(readOnly.value, 'ENOTTY'),
    unknown('0x7fffffffe680', 'ENOTTY'),
    ['VFIO_IOMMU_MAP_DMA', { _badptr: '0x0' }, 'EFAULT'],
  )).toBeNull();
});

test('what the struct held before stays in it where a call ends before its answer', () => {
  const held = { num_iovas: 3, out_iova_alignment: '0x1' };
  const device = { out_stdev_id: 7, out_hwpt_id: 8, out_idev_id: 9 };
  expect(play(
    ['IOMMU_IOAS_IOVA_RANGES', { size: 32, ioas_id: 99, ...held, ...pointer('allowed_iovas', nullPointer) }, 'ENOENT', { ...held, ranges: [] }],
    ['IOMMU_TEST_MOCK_DOMAIN', { size: 72, id: 99, ...device }, 'ENOENT', { id: 99, ...device }],
  )).toBeNull();
});

test('a stack ends, and what a program could not show to the recorder the kernel cannot read', () => {
  const info = { size: 40, flags: '0x0', dev_id: 3, data_len: 0xffffffff, in_or_out_data_type: '0x0', ...pointer('data_uptr', stack) };
  expect(play(
    ['IOMMU_GET_HW_INFO', info, 'EFAULT', { data_len: 0xffffffff, in_or_out_data_type: '0x0' }],
    ['IOMMU_FAULT_QUEUE_ALLOC', { size: 16, flags: '0x0' }, null, { out_fault_id: 7, out_fault_fd: 4, out_fault_fd_name: 'fault1' }],
    ['WRITE', { count: 16, data: null }, 'EFAULT'],
  )).toBeNull();
});
