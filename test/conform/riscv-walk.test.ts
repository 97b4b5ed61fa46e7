/**
 * Cases of a reference model of the RISC-V IOMMU (`dmarena walk`): random tables with structured damage, one request each, and what has
 * to come of it. The unit answers every compared field of each.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { RiscvWalker, type WalkOutcome } from '#src/conform/riscv-walk';
import { parseWalkCase } from '#src/conform/walk-case';
import { expect, test } from 'vitest';

const lines = gunzipSync(readFileSync('test/vectors/riscv-walk.jsonl.gz')).toString().trim().split('\n');
const walker = new RiscvWalker();

interface Vector {
  readonly id: string;
  readonly napot?: boolean;
  readonly want: WalkOutcome;
}

/** What is compared: all that is wanted, but a size where no table was walked, and 4 KiB as well as 64 of a leaf of 64 KiB. */
function compared(got: WalkOutcome, { want, napot }: Vector): WalkOutcome {
  const anySize = want.size === null || (napot === true && (got.size === '0x1000' || got.size === '0x10000'));
  return anySize ? { ...got, size: want.size } : got;
}

test('every case is answered as the reference model answers it', () => {
  expect(lines.length).toBeGreaterThan(200);
  const wrong = lines.flatMap((line, index) => {
    const vector = JSON.parse(line) as Vector;
    const got = walker.play(parseWalkCase(index + 1, line));
    try {
      expect(compared(got, vector)).toEqual(vector.want);
      return [];
    } catch (error) {
      return [`${vector.id}: ${String(error)}`];
    }
  });
  expect(wrong).toEqual([]);
});

test('the cases have every kind of request, answer and cause that needs no corrupted memory', () => {
  const vectors = lines.map((line) => JSON.parse(line) as Vector & { req: { at: string; rw: string } });
  const seen = (of: (vector: (typeof vectors)[number]) => unknown): unknown[] => [...new Set(vectors.map(of))].sort();
  expect(seen(({ want }) => want.status)).toEqual(['ca', 'fault', 'no_access', 'success', 'ur']);
  expect(seen(({ req }) => `${req.at} ${req.rw}`)).toHaveLength(8);
  const causes = seen(({ want }) => want.cause).filter((cause) => cause !== null) as number[];
  expect(causes.sort((a, b) => a - b)).toEqual([1, 5, 7, 12, 13, 15, 20, 21, 23, 256, 257, 258, 259, 260, 265, 266, 267]);
});

test('no case leaves anything behind for the next', () => {
  const [line] = lines as [string];
  const first = walker.play(parseWalkCase(1, line));
  for (const other of lines.slice(0, 20)) walker.play(parseWalkCase(1, other));
  expect(walker.play(parseWalkCase(1, line))).toEqual(first);
});

function walk(input: string, ...words: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, ['dist/src/cli.js', 'walk', '--format', 'riscv', ...words], { encoding: 'utf8', input, timeout: 60_000 });
}

test('the command answers a line a case, in order, and says what it does not play', () => {
  const corrupt = { ...(JSON.parse(lines[1]!) as object), poison: ['0x1000'] };
  const { status, stdout, stderr } = walk([lines[0], JSON.stringify(corrupt), '', lines[2]].join('\n'), '--json');
  expect([status, stderr]).toEqual([0, '']);
  const answers = stdout.trim().split('\n').map((line) => JSON.parse(line) as { id: string; got?: object; skipped?: string });
  expect(answers.map(({ id }) => id)).toEqual([0, 1, 2].map((index) => (JSON.parse(lines[index]!) as Vector).id));
  expect(answers[0]!.got).toEqual((JSON.parse(lines[0]!) as Vector).want);
  expect(answers[1]).toEqual({ id: answers[1]!.id, skipped: 'memory that reports corrupted data is not modelled' });
});

const broken = (change: object): string => JSON.stringify({ ...(JSON.parse(lines[0]!) as object), ...change });
test.each([
  ['{"id":', /line 2: not JSON/],
  ['{}', /line 2: 'id' /],
  [broken({ vendor: 'amd' }), /line 2: 'vendor' is not 'riscv'/],
  [broken({ mem: [['0x100000000', '0x1']] }), /line 2: 'mem\.0\.0' is no address below 4 GiB/],
  [broken({ mem: [['0x1004', '0x1']] }), /line 2: 'mem\.0\.0' is no multiple of 8/],
  [broken({ mem: [['0x1008', '0x1'], ['0x1000', '0x1']] }), /line 2: 'mem' is not ascending/],
  [broken({ mem: [['0x1000', '1']] }), /line 2: 'mem\.0\.1' is no number of 64 bits/],
])('a bad line is one line on stderr with its number, and exit 2: %s', (line, message) => {
  const { status, stdout, stderr } = walk(`${lines[0]}\n${line}\n`, '--json');
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^dmarena: [^\n]+\n$/);
  expect(stdout.trim().split('\n')).toHaveLength(1);
  expect(status).toBe(2);
});

test('no case at all is bad input too', () => {
  const { status, stderr } = walk('\n');
  expect([status, stderr]).toEqual([2, expect.stringMatching(/there is no case on stdin/)]);
});
