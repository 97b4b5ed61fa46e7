/**
 * Whether the model answered as the recorded kernel did: the first field that differs, or nothing.
 *
 * All of `ret`, `errno`, `out` and `acct` is compared, but for the values of pointers into the caller's private memory
 * (`<field>_at` is "private"). Of a DMA, where it ended is compared: whose page, or a fault.
 */
import type { Accounting, TraceFields, TraceLine, TraceValue } from './trace-file.ts';

/** Where a device's DMA ended, in the recording's words: `TAG-IOAS1`, `ioas1`, `fault`, `ok` ... */
export interface Probe {
  /** PROBE: what the read returned, and whose result page the write reached. */
  readonly read?: string;
  readonly write?: string;
  /** DMA, one direction: how it ended, and where it landed (`ioas1.dst+0x0`). */
  readonly result?: string;
  readonly landed_in?: readonly string[];
  /** The fault reasons that the hardware logged, in order. Compared with the kernel's log when given. */
  readonly reasons?: readonly number[];
}

/** What the model answered to one line. */
export interface Outcome {
  readonly ret: number;
  readonly errno: string | null;
  readonly out: Readonly<Record<string, unknown>>;
  readonly acct?: Accounting;
  readonly probe?: Probe;
}

/** The model behind a recording: one player plays one file, line by line, by `seq`. */
export interface Player {
  play(line: TraceLine): Played | Promise<Played>;
}

/**
 * `skip` ends the file as "not played", with the reason. `differs` is what the player itself found, where a line says less than
 * what has to hold. A line that is no call (`STEP`) is played too.
 */
export type Played = Outcome | { readonly skip: string } | { readonly differs: FieldDifference };

export interface FieldDifference {
  /** `errno`, `out.pt_id`, `acct.vm_pin_kb`, `dma.read`. */
  readonly field: string;
  readonly expected: string;
  readonly got: string;
}

/** The first field in which the outcome is not what was recorded; null when all agree. */
export function firstDifference(line: TraceLine, got: Outcome): FieldDifference | null {
  const answer = compareResult(line, got) ?? compareFields('out', comparable(line), got.out);
  return answer ?? compareAccounting(line, got) ?? compareDma(line, got);
}

function compareResult(line: TraceLine, got: Outcome): FieldDifference | null {
  if (line.ret === undefined) return null;
  const expectedErrno = line.errno ?? null;
  if (expectedErrno !== got.errno) return differ('errno', expectedErrno ?? 'success', got.errno ?? 'success');
  return line.ret === got.ret ? null : differ('ret', line.ret, got.ret);
}

/** What the kernel wrote, without pointers into memory that only the recorded program had. */
function comparable(line: TraceLine): TraceFields {
  const { out = {}, in: input } = line;
  return Object.fromEntries(
    Object.entries(out).filter(([name]) => input[`${name}_at`] !== 'private' && out[`${name}_at`] !== 'private'),
  );
}

function compareFields(where: string, expected: TraceFields, got: Readonly<Record<string, unknown>>): FieldDifference | null {
  for (const [name, value] of Object.entries(expected)) {
    const found = compareValue(`${where}.${name}`, value, got[name]);
    if (found !== null) return found;
  }
  return null;
}

function compareValue(where: string, expected: TraceValue, got: unknown): FieldDifference | null {
  if (Array.isArray(expected)) return compareLists(where, expected, got);
  if (isFields(expected)) {
    return isFields(got) ? compareFields(where, expected, got) : differ(where, expected, got);
  }
  return sameScalar(expected, got) ? null : differ(where, expected, got);
}

function compareLists(where: string, expected: readonly TraceValue[], got: unknown): FieldDifference | null {
  if (!Array.isArray(got) || got.length !== expected.length) return differ(where, expected, got);
  for (const [index, value] of expected.entries()) {
    const found = compareValue(`${where}[${index}]`, value, got[index]);
    if (found !== null) return found;
  }
  return null;
}

const isFields = (value: unknown): value is TraceFields => typeof value === 'object' && value !== null && !Array.isArray(value);

/** A number is the same number as Number and as BigInt. */
function sameScalar(expected: TraceValue, got: unknown): boolean {
  if (typeof expected === 'bigint' && typeof got === 'number') return Number.isSafeInteger(got) && BigInt(got) === expected;
  if (typeof expected === 'number' && typeof got === 'bigint') return Number(got) === expected;
  return expected === got;
}

function compareAccounting({ acct }: TraceLine, got: Outcome): FieldDifference | null {
  for (const name of ['vm_pin_kb', 'vm_lck_kb'] as const) {
    const expected = acct?.[name];
    if (expected !== undefined && expected !== got.acct?.[name]) return differ(`acct.${name}`, expected, got.acct?.[name]);
  }
  return null;
}

/**
 * Silence in a recording is weak: the recorded IOMMU drops a refused access without a fault record while its IOTLB is warm.
 * Each weak word, and what it may have been.
 */
const weak: Readonly<Record<string, readonly string[]>> = {
  zeros: ['fault'],
  lost: ['fault'],
  'nothing-written': ['fault', 'lost'],
  'no-fault-logged': ['ok', 'fault'],
};

const directions = ['read', 'write', 'result'] as const;

function compareDma(line: TraceLine, { probe = {} }: Outcome): FieldDifference | null {
  const dma = line.rest['dma'];
  if (!isFields(dma)) return null;
  for (const name of directions) {
    const expected = dma[name];
    const got = probe[name];
    if (typeof expected !== 'string' || expected === got || (got !== undefined && weak[expected]?.includes(got))) continue;
    return differ(`dma.${name}`, expected, got);
  }
  const landed = dma['landed_in'];
  const missed = landed === undefined ? null : compareValue('dma.landed_in', landed, probe.landed_in);
  return missed ?? compareReasons(line, dma, probe);
}

function compareReasons(line: TraceLine, dma: TraceFields, { reasons }: Probe): FieldDifference | null {
  const expected = loggedReasons(line.rest['kernel_log']);
  const silent = directions.some((name) => Object.hasOwn(weak, String(dma[name])));
  if (reasons === undefined || silent) return null;
  const same = expected.length === reasons.length && expected.every((reason, index) => reason === reasons[index]);
  return same ? null : differ('dma.reasons', expected.map(hex), reasons.map(hex));
}

const hex = (value: number): string => `0x${value.toString(16).padStart(2, '0')}`;

/** The fault reasons in the kernel's log, in order: "... [fault reason 0x02] Present bit in context entry is clear". */
function loggedReasons(log: TraceValue | undefined): number[] {
  if (!Array.isArray(log)) return [];
  return log.flatMap((entry: TraceValue) => {
    const match = typeof entry === 'string' ? /\[fault reason (0x[0-9a-f]+)\]/.exec(entry) : null;
    return match === null ? [] : [Number(match[1])];
  });
}

function differ(field: string, expected: unknown, got: unknown): FieldDifference {
  return { field, expected: show(expected), got: show(got) };
}

/** A value as it stands in a recording; what is absent is "nothing". */
function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (typeof value !== 'object' || value === null) return String(value);
  return JSON.stringify(value, (_, member: unknown) => (typeof member === 'bigint' ? `0x${member.toString(16)}` : member));
}
