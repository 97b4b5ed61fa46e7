import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Outcome, Player, Probe } from '#src/conform/compare';
import { conform, traceFiles } from '#src/conform/conform';
import type { TraceLine } from '#src/conform/trace-file';
import { InputError } from '#src/input-error';
import { expect, test } from 'vitest';

const recordings = ['test/traces/vfio_group.mf.attach_both.jsonl', 'test/traces/vfio_group.mf.replace_moves_group.jsonl'];

/** Answers with what was recorded, but for what `change` says: the recordings themselves are the model here. */
function echo(change: (line: TraceLine, outcome: Outcome) => Outcome | { skip: string } = (_, outcome) => outcome): () => Player {
  return () => ({
    play(line) {
      const { read, write, result, landed_in: landed } = (line.rest['dma'] ?? {}) as Probe;
      const all = Object.entries({ read, write, result, landed_in: landed });
      const probe = Object.fromEntries(all.filter(([, value]) => value !== undefined));
      return change(line, { ret: line.ret ?? 0, errno: line.errno ?? null, out: line.out ?? {}, acct: line.acct ?? {}, probe });
    },
  });
}

const changeAt = (seq: number, change: (outcome: Outcome) => Outcome) =>
  echo((line, outcome) => (line.seq === seq ? change(outcome) : outcome));

test('a model that answers as recorded passes, and every file gets a player of its own', async () => {
  let players = 0;
  const result = await conform(['test/traces'], () => {
    players++;
    return echo()();
  });
  const files = traceFiles(['test/traces']).length;
  expect(result).toEqual({ files, passed: files, failed: [], skipped: [] });
  expect(players).toBe(files);
  expect(traceFiles(['test/traces'])).toEqual(expect.arrayContaining(recordings));
});

test('a model that breaks at a line differs there, and the other files are played all the same', async () => {
  const breaks = (line: TraceLine, outcome: Outcome): Outcome => {
    if (line.seq === 44) throw new TypeError('no such thing');
    return outcome;
  };
  const { files, passed, failed } = await conform(recordings, (file) => echo(file === recordings[1] ? breaks : undefined)());
  expect([files, passed, failed]).toEqual([2, 1, [expect.objectContaining({ file: recordings[1], line: 44, expected: 'the model to answer', got: 'the model broken: no such thing' })]]);
});

const attach = 'VFIO_DEVICE_ATTACH_IOMMUFD_PT';
const reads = (o: Outcome, read: string): Outcome => ({ ...o, probe: { ...o.probe, read } });
const reaches = (o: Outcome, write: string): Outcome => ({ ...o, probe: { ...o.probe, write } });
const pins = (o: Outcome, pinned: number): Outcome => ({ ...o, acct: { vm_pin_kb: pinned, vm_lck_kb: 0 } });

test.each<[string, number, (outcome: Outcome) => Outcome, object]>([
  ['an id', 40, (o) => ({ ...o, out: { pt_id: 8 } }), { expected: 'out.pt_id 7', got: 'out.pt_id 8', call: attach }],
  ['a missing field', 40, (o) => ({ ...o, out: {} }), { expected: 'out.pt_id 7', got: 'out.pt_id nothing' }],
  ['an errno', 44, (o) => ({ ...o, errno: 'EBUSY' }), { expected: 'errno ENOENT', got: 'errno EBUSY' }],
  ['success instead of an errno', 44, (o) => ({ ...o, ret: 0, errno: null }), { got: 'errno success' }],
  ['a return value', 40, (o) => ({ ...o, ret: 1 }), { expected: 'ret 0', got: 'ret 1' }],
  ['the accounting', 35, (o) => pins(o, 4), { expected: 'acct.vm_pin_kb 8', got: 'acct.vm_pin_kb 4' }],
  ['accounting that is not kept', 35, (o) => ({ ...o, acct: {} }), { got: 'acct.vm_pin_kb nothing' }],
  [
    'the end of a range',
    47,
    (o) => ({ ...o, out: { num_iovas: 2, out_iova_alignment: 4096, ranges: [[0, 0xfedfffff], [0xfef00000n, 0x7ffffffffen]] } }),
    { expected: 'out.ranges[1][1] 0x7fffffffff', got: 'out.ranges[1][1] 0x7ffffffffe' },
  ],
  ['whose page a device reads', 42, (o) => reads(o, 'TAG-IOAS1'), { expected: 'dma.read TAG-IOAS2', got: 'dma.read TAG-IOAS1' }],
  ['whose page a device writes', 42, (o) => reaches(o, 'fault'), { expected: 'dma.write ioas2', got: 'dma.write fault' }],
])('%s that differs is the difference', async (_, seq, change, difference) => {
  const result = await conform([recordings[1]!], changeAt(seq, change));
  expect(result).toMatchObject({ files: 1, passed: 0, failed: [{ file: recordings[1], line: seq, ...difference }] });
});

test('the same number is the same as Number and as BigInt', async () => {
  const out = { num_iovas: 2n, out_iova_alignment: 4096, ranges: [[0, 0xfedfffffn], [0xfef00000, 0x7fffffffff]] };
  expect((await conform([recordings[1]!], changeAt(47, (o) => ({ ...o, out })))).passed).toBe(1);
});

test('only the first difference of a file is told', async () => {
  const result = await conform(recordings, echo((_, outcome) => ({ ...outcome, out: {} })));
  expect(result.failed.map(({ line, call }) => [line, call])).toEqual([[3, 'OPEN'], [3, 'OPEN']]);
});

test('a fault reason that the hardware logs is compared with the kernel log', async () => {
  const judge = async (seq: number, ...reasons: number[]) =>
    (await conform([recordings[0]!], changeAt(seq, (o) => ({ ...o, probe: { ...o.probe, reasons } })))).failed;
  expect(await judge(24, 2, 2)).toEqual([]);
  expect(await judge(24, 2, 5)).toMatchObject([{ expected: 'dma.reasons ["0x02","0x02"]', got: 'dma.reasons ["0x02","0x05"]' }]);
  expect(await judge(31, 6)).toMatchObject([{ line: 31, expected: 'dma.reasons []' }]);
});

test('silence of the recorded hardware is no proof of access, but a page reached is', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dmarena-'));
  const file = join(folder, 'weak.jsonl');
  const dma = { dev: 'g1d1', read: 'zeros', write: 'lost' };
  writeFileSync(file, JSON.stringify({ seq: 1, call: 'PROBE', phase: 'BODY', proc: 1, dma, kernel_log: [] }));
  const judge = async (probe: Probe) => (await conform([file], echo((_, outcome) => ({ ...outcome, probe })))).failed;
  expect(await judge({ read: 'fault', write: 'fault', reasons: [6, 5] })).toEqual([]);
  expect(await judge({ read: 'TAG-IOAS1', write: 'fault' })).toMatchObject([{ got: 'dma.read TAG-IOAS1' }]);
  expect(await judge({ read: 'fault', write: 'ioas1' })).toMatchObject([{ expected: 'dma.write lost' }]);
  expect(await judge({})).toMatchObject([{ got: 'dma.read nothing' }]);
  rmSync(folder, { recursive: true });
});

test('a value of a pointer into private memory is not compared', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dmarena-'));
  const file = join(folder, 'private.jsonl');
  const call = { seq: 1, call: 'IOMMU_GET_HW_INFO', phase: 'BODY', proc: 1, ret: 0, errno: null };
  const input = { data_uptr: '0x7ffe1000', data_uptr_at: 'private' };
  writeFileSync(file, JSON.stringify({ ...call, in: input, out: { data_uptr: '0x7ffe1000', data_len: 4 } }));
  const judge = async (out: object) => (await conform([file], echo((_, outcome) => ({ ...outcome, out: { ...out } })))).failed;
  expect(await judge({ data_uptr: 0n, data_len: 4 })).toEqual([]);
  expect(await judge({ data_uptr: 0n, data_len: 8 })).toMatchObject([{ expected: 'out.data_len 4', got: 'out.data_len 8' }]);
  rmSync(folder, { recursive: true });
});

test('a file that the player cannot play is skipped with the reason, and is not passed', async () => {
  const player = echo((line, outcome) => (line.call === 'IOMMU_DESTROY' ? { skip: 'not modelled' } : outcome));
  const skipped = [{ file: recordings[1], why: 'line 44, IOMMU_DESTROY: not modelled' }];
  expect(await conform(recordings, player)).toEqual({ files: 2, passed: 1, failed: [], skipped });
});

test('a path that is not there, a folder without recordings and a broken recording are bad input', async () => {
  await expect(conform(['test/nowhere'], echo())).rejects.toThrow(/^no trace at 'test\/nowhere'/);
  await expect(conform(['test/conform'], echo())).rejects.toThrow(/^no \.jsonl file below 'test\/conform'/);
  await expect(conform(['package.json'], echo())).rejects.toThrow(InputError);
});
