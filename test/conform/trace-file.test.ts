import { InputError } from '#src/input-error';
import { parseTrace, readTrace } from '#src/conform/trace-file';
import { expect, test } from 'vitest';

const line = (members: object): string => JSON.stringify({ seq: 1, call: 'IOMMU_IOAS_MAP', phase: 'BODY', proc: 1, ...members });
const refusal = (text: string): string => {
  try {
    parseTrace('a.jsonl', text);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as InputError).message).not.toContain('\n');
    return (error as InputError).message;
  }
  return 'accepted';
};

test('64-bit values are exact to the last bit', () => {
  const [read] = parseTrace('a.jsonl', line({ in: { iova: '0xffffffffffffffff', length: '0x20000000000001' }, out: { ranges: [['0x0', '0xfedfffff']] } }));
  expect(read!.in).toEqual({ iova: 0xffff_ffff_ffff_ffffn, length: 0x20_0000_0000_0001n });
  expect(read!.out).toEqual({ ranges: [[0n, 0xfedfffffn]] });
});

test('byte strings, names and numbers stay as they are', () => {
  const [read] = parseTrace('a.jsonl', line({ in: { data: '0123abcd', fd: null, num: 7 }, fd: 'iommu1' }));
  expect(read).toMatchObject({ in: { data: '0123abcd', fd: null, num: 7 }, fd: 'iommu1', line: 1 });
});

test('lines are ordered by seq, and know their place in the file', () => {
  const lines = parseTrace('a.jsonl', `${line({ seq: 2 })}\n\n${line({ seq: 1 })}\n`);
  expect(lines.map(({ seq, line: number }) => [seq, number])).toEqual([[1, 3], [2, 1]]);
});

test('what only some lines have is kept', () => {
  const [read] = parseTrace('a.jsonl', line({ call: 'PROBE', dma: { dev: 'g1d1', read_iova: '0x10' }, kernel_log: ['DMAR'] }));
  expect(read!.rest).toEqual({ dma: { dev: 'g1d1', read_iova: 16n }, kernel_log: ['DMAR'] });
  expect(read!.ret).toBeUndefined();
});

test.each([
  ['not JSON', `${line({})}\n{"seq":2,`, /^a\.jsonl:2: not JSON \(/],
  ['no object', '[1]', /^a\.jsonl:1: the line /],
  ['no call', JSON.stringify({ seq: 1, phase: 'BODY', proc: 1 }), /^a\.jsonl:1: 'call': /],
  ['a strange phase', line({ phase: 'AFTER' }), /^a\.jsonl:1: 'phase': /],
  ['a seq that is text', line({ seq: 'one' }), /^a\.jsonl:1: 'seq': /],
  ['a strange errno', line({ ret: -1, errno: 'oops' }), /^a\.jsonl:1: 'errno': is no errno name$/],
  ['success with an errno', line({ ret: 0, errno: 'EINVAL' }), /errno but ret is not -1$/],
  ['more than 64 bits', line({ in: { iova: '0x10000000000000000' } }), /^a\.jsonl:1: in\.iova: 0x10000000000000000 has more than 64 bits$/],
  ['a number that lost digits', line({ in: { iova: 2 ** 60 } }), /^a\.jsonl:1: in\.iova: .*lost digits/],
  ['the same seq twice', `${line({})}\n${line({})}`, /^a\.jsonl:2: seq 1 stands on two lines$/],
  ['an empty file', '\n', /^a\.jsonl: no line in it/],
])('%s is refused in one line that says where', (_, text, message) => {
  expect(refusal(text)).toMatch(message);
});

test('a file that is not there is refused in one line', () => {
  expect(() => readTrace('test/traces/none.jsonl')).toThrow(/^the trace 'test\/traces\/none\.jsonl' cannot be read \(ENOENT\)/);
});
