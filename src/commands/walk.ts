/**
 * `dmarena walk`: reads one case a line from stdin (tables, and a request to an IOMMU) and answers a line a case: what came of it.
 */
import { createInterface } from 'node:readline';
import type { RiscvWalker, WalkOutcome } from '../conform/riscv-walk.ts';
import type { WalkCase } from '../conform/walk-case.ts';
import { InputError, unknownName } from '../input-error.ts';
import type { WalkResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';

export interface WalkOptions {
  /** Whose tables: `riscv`. */
  readonly format: string;
}

const vendors = ['riscv'];
/** How many answers are written at once. */
const batch = 500;

/** 0 when every case was answered, right or wrong: what is expected is not looked at. */
export async function walk({ format }: WalkOptions, terminal: Terminal): Promise<number> {
  if (!vendors.includes(format)) throw unknownName('format', format, vendors);
  const { RiscvWalker } = await import('../conform/riscv-walk.ts');
  const { parseWalkCase } = await import('../conform/walk-case.ts');
  const walker = new RiscvWalker();
  let line = 0;
  let cases = 0;
  let answers: WalkResult[] = [];
  try {
    for await (const source of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
      line++;
      if (source.trim() === '') continue;
      answers.push(answer(walker, parseWalkCase(line, source)));
      cases++;
      if (answers.length < batch) continue;
      await terminal.answerEach(answers, describe);
      answers = [];
    }
  } finally {
    await terminal.answerEach(answers, describe);
  }
  if (cases === 0) throw new InputError('there is no case on stdin; give one JSON object a line, for example zcat cases.jsonl.gz | dmarena walk --format riscv --json');
  return 0;
}

function answer(walker: RiscvWalker, given: WalkCase): WalkResult {
  const isPoisoned = given.poison !== undefined && given.poison.length > 0;
  return isPoisoned ? { id: given.id, skipped: 'memory that reports corrupted data is not modelled' } : { id: given.id, got: walker.play(given) };
}

function describe(result: WalkResult): string {
  return 'skipped' in result ? `${result.id}: skipped, ${result.skipped}` : `${result.id}: ${tell(result.got)}`;
}

function tell({ status, pa, size, cause, iotval2, mem }: WalkOutcome): string {
  const updates = mem.length === 0 ? '' : `, ${mem.length} entries marked`;
  if (cause !== null) return `${status}, cause ${cause}${iotval2 === '0x0' ? '' : ` at guest address ${iotval2}`}${updates}`;
  return `${status}${pa === null ? '' : `, ${pa}`}${size === null ? '' : ` in ${size} bytes`}${updates}`;
}
