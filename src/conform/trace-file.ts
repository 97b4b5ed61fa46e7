/**
 * A recording: JSON Lines, one call a line, as a real kernel answered it.
 *
 * Every line is checked before any is played. `0x...` strings become BigInt, exact to 2^64-1; all else stays as it was
 * written. Lines are ordered by `seq`, the moment at which the call *started*. This file does not know what a call does.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { InputError } from '../input-error.ts';

/** A value of a recording, numbers written as `0x...` as BigInt. */
export type TraceValue = null | boolean | number | bigint | string | readonly TraceValue[] | { readonly [name: string]: TraceValue };
export type TraceFields = { readonly [name: string]: TraceValue };

/** Pinned and locked memory of the calling process after the call, in KiB. */
export interface Accounting {
  readonly vm_pin_kb?: number | undefined;
  readonly vm_lck_kb?: number | undefined;
}

export interface TraceLine {
  /** Line number in the file, from 1. */
  readonly line: number;
  readonly seq: number;
  readonly call: string;
  readonly phase: string;
  readonly proc: number;
  /** The logical name of the file: `iommu1`. */
  readonly fd?: string | undefined;
  readonly in: TraceFields;
  /** What the call returned; absent where the line is no call (`STEP`, `PROBE`). */
  readonly ret?: number | undefined;
  readonly errno?: string | null | undefined;
  /** What the kernel may write, as found after the call. */
  readonly out?: TraceFields | undefined;
  readonly acct?: Accounting | undefined;
  /** What only some lines have: `dma` and `kernel_log`, `label`, `text`, `A`, `writes` ... */
  readonly rest: TraceFields;
}

const kib = z.number().int().nonnegative();
const fields = z.record(z.string(), z.json());

const envelope = z
  .looseObject({
    seq: z.number().int().positive(),
    call: z.string().min(1),
    phase: z.enum(['LOAD', 'SETUP', 'BODY', 'TEARDOWN']),
    proc: z.number().int().nonnegative(),
    fd: z.string().min(1).optional(),
    rawfd: z.number().int().optional(),
    in: fields.optional(),
    ret: z.number().int().optional(),
    errno: z.string().regex(/^E[A-Z0-9]+$/, 'is no errno name').nullable().optional(),
    out: fields.optional(),
    acct: z.object({ vm_pin_kb: kib.optional(), vm_lck_kb: kib.optional() }).optional(),
    dma: fields.optional(),
    kernel_log: z.array(z.string()).optional(),
  })
  .refine((line) => line.ret === undefined || line.ret === -1 || (line.errno ?? null) === null, 'has an errno but ret is not -1');

/** The lines of a recording, by `seq`. Throws `InputError`: file, line, and what is wrong. */
export function readTrace(file: string): TraceLine[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new InputError(`the trace '${file}' cannot be read (${code}); name a .jsonl file or a folder of them`);
  }
  return parseTrace(file, text);
}

/** As `readTrace`, of a text. `file` is for messages. */
export function parseTrace(file: string, text: string): TraceLine[] {
  const lines: TraceLine[] = [];
  for (const [index, source] of text.split('\n').entries()) {
    if (source.trim() !== '') lines.push(parseLine(file, index + 1, source));
  }
  if (lines.length === 0) throw new InputError(`${file}: no line in it; a trace has one JSON object a line`);
  lines.sort((a, b) => a.seq - b.seq);
  const twice = lines.find((line, index) => index > 0 && lines[index - 1]!.seq === line.seq);
  if (twice !== undefined) throw new InputError(`${file}:${twice.line}: seq ${twice.seq} stands on two lines`);
  return lines;
}

function parseLine(file: string, line: number, source: string): TraceLine {
  let json: unknown;
  try {
    json = JSON.parse(source);
  } catch (error) {
    throw new InputError(`${file}:${line}: not JSON (${oneLine(error instanceof Error ? error.message : String(error))})`);
  }
  const parsed = envelope.safeParse(json);
  if (!parsed.success) throw new InputError(`${file}:${line}: ${describe(parsed.error)}`);
  const { seq, call, phase, proc, fd, rawfd: _, in: input = {}, ret, errno, out, acct, ...rest } = parsed.data;
  const exact = (value: z.core.util.JSONType | undefined, where: string): TraceValue => exactly(value ?? null, `${file}:${line}: ${where}`);
  const exactFields = (value: object, where: string): TraceFields => exact(value as z.core.util.JSONType, where) as TraceFields;
  return {
    line, seq, call, phase, proc, fd, ret, errno, acct,
    in: exactFields(input, 'in'),
    out: out === undefined ? undefined : exactFields(out, 'out'),
    rest: exactFields(rest, call),
  };
}

/** The first thing that is wrong, as one line: `in.iova: expected ...`. */
function describe(error: z.ZodError): string {
  const issue = error.issues[0]!;
  const where = issue.path.join('.');
  return oneLine(where === '' ? `the line ${lowerFirst(issue.message)}` : `'${where}': ${lowerFirst(issue.message)}`);
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').slice(0, 160);

function exactly(value: z.core.util.JSONType, where: string): TraceValue {
  if (typeof value === 'string') return /^0x[0-9a-fA-F]+$/.test(value) ? exactNumber(value, where) : value;
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new InputError(`${where}: the number ${value} is beyond 2^53 and has lost digits; write it as '0x...'`);
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((element, index) => exactly(element, `${where}[${index}]`));
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, exactly(member, `${where}.${name}`)]));
}

function exactNumber(text: string, where: string): bigint {
  const value = BigInt(text);
  if (value >= 1n << 64n) throw new InputError(`${where}: ${text} has more than 64 bits`);
  return value;
}
