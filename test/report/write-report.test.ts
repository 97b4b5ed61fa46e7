import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InputError } from '#src/input-error';
import { writeReport } from '#src/report/write-report';
import { afterEach, expect, test } from 'vitest';
import { interleaved } from './failures.ts';

const folder = mkdtempSync(join(tmpdir(), 'dmarena-'));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('a report is the result, the story and the trace, and replaces the one before', () => {
  const place = join(folder, 'deep', 'report');
  writeReport(place, { old: true }, ['old'], null);
  const paths = writeReport(place, { violation: 'G2' }, ['one', 'two'], interleaved);
  expect(paths).toEqual(['result.json', 'story.txt', 'trace.json', 'report.html'].map((name) => join(place, name)));
  expect(readdirSync(place).sort()).toEqual(['report.html', 'result.json', 'story.txt', 'trace.json']);
  expect(JSON.parse(readFileSync(join(place, 'result.json'), 'utf8'))).toEqual({ violation: 'G2' });
  expect(readFileSync(join(place, 'story.txt'), 'utf8')).toBe('one\ntwo\n');
  expect(JSON.parse(readFileSync(join(place, 'trace.json'), 'utf8'))).toHaveProperty('traceEvents');
});

test('a folder that cannot be written is one line, and leaves nothing half-written', () => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'taken'), 'a file');
  expect(() => writeReport(join(folder, 'taken'), {}, [], null)).toThrow(InputError);
  expect(() => writeReport(join(folder, 'taken', 'below'), {}, [], null)).toThrow(/cannot be written to .*ENOTDIR.*--out$/);
  expect(() => writeReport('/proc/dmarena/report', {}, [], null)).toThrow(/cannot be written to/);
  mkdirSync(join(folder, 'report', 'result.json'), { recursive: true });
  expect(() => writeReport(join(folder, 'report'), {}, ['a'], null)).toThrow(/cannot be written/);
  expect(readdirSync(join(folder, 'report'))).toEqual(['result.json']);
});
