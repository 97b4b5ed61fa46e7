/** Lines of a recording that are more than calls: what the player judges itself, and that it can find a difference. */
import { fill } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { makePlayer } from '#src/conform/player';
import { ProgramPages } from '#src/conform/program-pages';
import { setupOf } from '#src/conform/recorded-machine';
import { SelftestPlayer } from '#src/conform/selftest-player';
import { readTrace, type TraceFields, type TraceLine } from '#src/conform/trace-file';
import { firstDifference, type Played } from '#src/conform/compare';
import { expect, test } from 'vitest';

const traces = 'test/traces';

/** Plays a recording with some of its lines changed; the first difference, as `line seq: field`, or null. */
async function play(file: string, change: (line: TraceLine) => TraceLine = (line) => line, calledOtherwise: string = file): Promise<string | null> {
  const lines = readTrace(`${traces}/${file}`);
  const player = await makePlayer(calledOtherwise, lines);
  for (const line of lines) {
    const changed = change(line);
    const played: Played = await player.play(changed);
    if ('skip' in played) return `line ${line.seq}: ${played.skip}`;
    const found = 'differs' in played ? played.differs : firstDifference(changed, played);
    if (found !== null) return `line ${line.seq}: ${found.field}`;
  }
  return null;
}

const withRest = (line: TraceLine, rest: TraceFields): TraceLine => ({ ...line, rest: { ...line.rest, ...rest } });
const withDma = (line: TraceLine, dma: TraceFields): TraceLine => withRest(line, { dma: { ...(line.rest['dma'] as TraceFields), ...dma } });
const at = (seq: number, change: (line: TraceLine) => TraceLine) => (line: TraceLine) => (line.seq === seq ? change(line) : line);

const permissions = 'vfio_group.bridge.dma_permissions.jsonl';

test.each<[string, string, number, (line: TraceLine) => TraceLine, string]>([
  ['another page where one was learnt', permissions, 65, (line) => withDma(line, { read: 'TAG-IOAS1' }), 'dma.read'],
  ['a page that was never there', permissions, 65, (line) => withDma(line, { read: 'TAG-OTHER' }), 'dma.read'],
  ['a write that landed elsewhere', permissions, 58, (line) => withDma(line, { landed_in: ['ioas1.dst+0x0'] }), 'dma.landed_in[0]'],
  ['a write that did not fault', permissions, 36, (line) => withDma(line, { result: 'ok' }), 'dma.result'],
  ['a page that looks different', permissions, 29, (line) => withRest(line, { ro_page_head: 'TAG-RO-PAGE !' }), 'ro_page_head'],
  ['other registers', 'vfio_group.bridge.hwpt_explicit.jsonl', 36, (line) => withRest(line, { cap: 0xd2008c22260207n }), 'data'],
  ['another descriptor', 'vfio_group.bridge.legacy_group_file.jsonl', 28, (line) => ({ ...line, ret: 7 }), 'ret'],
  ['another group', 'vfio_group.bridge.legacy_group_file.jsonl', 22, (line) => ({ ...line, in: { path: '/dev/vfio/9' } }), 'errno'],
])('%s is a difference', async (_, file, seq, change, field) => {
  expect(await play(file, at(seq, change))).toBe(`line ${seq}: ${field}`);
});

test.each<[string, TraceFields, string]>([
  ['bytes behind the struct', { argsz: 32, _extra: '0000000000000001' }, 'E2BIG'],
  ['no struct at all', { _badptr: 0n }, 'EFAULT'],
  ['a token at no address', { flags: 1n, token_uuid_ptr: 0n }, 'EFAULT'],
])('a BIND with %s fails as recorded, and the next call finds the device unbound', async (_, input, errno) => {
  const failed = at(17, (line) => ({ ...line, in: { ...line.in, ...input }, out: { out_devid: 0 }, ret: -1, errno }));
  expect(await play('vfio_group.bridge.hwpt_explicit.jsonl', failed)).toBe('line 18: errno');
});

test('after a race the members have to agree, whatever they see; a call says again what they see', async () => {
  const file = 'vfio_group.bridge.race.jsonl';
  // Where the recorded group ended is chance: the words of the recording do not matter.
  expect(await play(file, at(38, (line) => withDma(line, { read: 'TAG-NOBODY', write: 'nobody' })))).toBe(null);
  // A probe of a device that was in no race cannot see the same.
  expect(await play(file, at(39, (line) => withDma(line, { dev: 'lone1' })))).toBe('line 39: dma after the race');
});

test('a replace that fails in a race as none did in the recording is a difference', async () => {
  const file = 'vfio_group.bridge.race.jsonl';
  const misled = (line: TraceLine) => (line.rest['label'] === 'ioas3' ? withRest(line, { ioas_id: 99 }) : line);
  expect(await play(file, misled)).toBe('line 37: errno in the race');
});

test('DMA while the group is replaced meets pages of the two IOASes alone', async () => {
  const file = 'vfio_group.bridge.dma_during_replace.jsonl';
  expect(await play(file)).toBe(null);
  // The program maps a third page where the first IOAS had its own.
  const unmap = { call: 'IOMMU_IOAS_UNMAP', in: { ioas_id: 1, iova: 0x10000000n, length: 0x1000n }, out: { length: 0x1000n }, acct: undefined };
  const unmapped = at(31, (line) => ({ ...line, ...unmap }));
  const remapped = at(32, (line) => ({ ...line, in: { ...line.in, ioas_id: 1, iova: 0x10000000n }, out: { iova: 0x10000000n }, acct: undefined }));
  expect(await play(file, (line) => remapped(unmapped(line)))).toBe('line 34: reads.other');
});

test('a recording says by its name which machine it needs, or by what it asks for', async () => {
  expect(setupOf('/x/vfio_group.mf.partial.jsonl')).toEqual({ iommu: 'vtd-legacy', unsafeInterrupts: false });
  expect(setupOf('scalable.vfio_group.mf.race.jsonl').iommu).toBe('vtd-scalable');
  expect(setupOf('K8_attach_and_probe.vtd-scalable.mf.jsonl').iommu).toBe('vtd-scalable');
  expect(setupOf('nointremap.vfio_group.mf.attach_both.jsonl').unsafeInterrupts).toBe(true);
  for (const name of ['K6_enable_twice.mock.jsonl', 'iommufd.cmd_fail.jsonl', 'edge.copy.jsonl']) expect(setupOf(name).iommu).toBe('mock');
  for (const name of ['amd.vfio_group.mf.race.jsonl', 'K5_pasid_zero.amd.mf.jsonl']) expect(setupOf(name).iommu).toBe('amd');
  expect(await makePlayer('x.jsonl', readTrace(`${traces}/K6_enable_twice.mock.jsonl`))).toBeInstanceOf(SelftestPlayer);
  expect(await makePlayer('x.jsonl', readTrace(`${traces}/${permissions}`))).not.toBeInstanceOf(SelftestPlayer);
});

test('on an AMD machine a group answers as on VT-d, but for what is reserved in its IOAS', async () => {
  for (const file of ['vfio_group.bridge.detach_one.jsonl', 'vfio_group.bridge.unbind_while_attached.jsonl', 'vfio_group.bridge.race.jsonl']) {
    expect(await play(file, undefined, `amd.${file}`)).toBeNull();
  }
  const moves = 'vfio_group.mf.replace_moves_group.jsonl';
  expect(await play(moves, undefined, `amd.${moves}`)).toBe('line 47: out.num_iovas');
  const holes = [[0n, 0xfedfffffn], [0xfef00000n, 0xfcffffffffn], [0x10000000000n, 0xffffffffffffffffn]];
  const reserved = at(47, (line) => ({ ...line, out: { ...line.out, num_iovas: 3, ranges: holes } }));
  expect(await play(moves, reserved, `amd.${moves}`)).toBeNull();
});

test('with interrupts that are not remapped every BIND is EPERM', async () => {
  const lines = readTrace(`${traces}/vfio_group.mf.attach_both.jsonl`);
  const player = await makePlayer('intremap-off.vfio_group.mf.attach_both.jsonl', lines);
  for (const line of lines) {
    const played = await player.play(line);
    if (line.call !== 'VFIO_DEVICE_BIND_IOMMUFD') continue;
    expect(played).toMatchObject({ errno: 'EPERM' });
    return;
  }
});

test('pages: a mark until the first read, then one name that no other page can have', () => {
  const { ram } = Host.create(1 << 20, 1 << 20);
  const pages = new ProgramPages(ram);
  const words = (at: number) => Array.from({ length: 16 }, (_, i) => ram.words[at / 4 + i]!);
  for (const page of [0x2000, 0x3000, 0x4000]) pages.add(page);
  pages.writeTag(0x4000, 'TAG-IOAS1');
  expect(pages.recognise(words(0x2000), 0x7000n)).toEqual({ unnamed: 0 });
  expect(pages.recognise(words(0x2040), 0x7040n)).toEqual({ name: 'other' });
  expect(pages.recognise(words(0x4040), 0x7040n)).toEqual({ name: 'TAG-IOAS1' });
  expect(pages.recognise(words(0x8000), 0n)).toEqual({ name: 'zeros' });
  expect(pages.isIntact('TAG-MSIWINDOW...')).toBe(true);
  expect([pages.learn(0, 'TAG-RO-PAGE'), pages.learn(1, 'TAG-RO-PAGE'), pages.learn(1, 'TAG-IOAS1')]).toEqual([true, false, false]);
  expect(pages.recognise(words(0x2000), 0x7000n)).toEqual({ name: 'TAG-RO-PAGE' });
  expect([pages.isIntact('TAG-RO-PAGE ....'), pages.isIntact('TAG-RO-PAGE !')]).toEqual([true, false]);
  fill(ram, 0x3000, 64, 0);
  expect(pages.isIntact('TAG-MSIWINDOW...')).toBe(false);
});
