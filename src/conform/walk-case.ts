/**
 * A walk vector: one request to an IOMMU with the tables that it meets, one JSON object a line. Every line is checked before it is
 * walked; what is expected (`want`) is not looked at. 64-bit numbers are written as `0x...`.
 */
import { z } from 'zod';
import { InputError } from '../input-error.ts';

/** A 64-bit number in two words. */
export interface Word64 {
  readonly high: number;
  readonly low: number;
}

const word64 = z
  .string()
  .regex(/^0x[0-9a-fA-F]{1,16}$/, 'is no number of 64 bits written as 0x...')
  .transform((text): Word64 => ({ high: Number.parseInt(text.slice(2, -8) || '0', 16) | 0, low: Number.parseInt(text.slice(2).slice(-8), 16) | 0 }));

const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{1,8}$/, 'is no address below 4 GiB written as 0x...')
  .transform((text) => Number.parseInt(text, 16))
  .refine((at) => at % 8 === 0, 'is no multiple of 8');

const caps = z.looseObject({
  sv39: z.boolean(), sv48: z.boolean(), sv57: z.boolean(), sv39x4: z.boolean(), sv48x4: z.boolean(), sv57x4: z.boolean(),
  svnapot: z.literal(true, 'has to be true: this unit has Svnapot'),
  svpbmt: z.boolean(), svrsw60t59b: z.boolean(), amo_hwad: z.boolean(), ats: z.boolean(), t2gpa: z.boolean(),
  pd8: z.boolean(), pd17: z.boolean(), pd20: z.boolean(), extended_dc: z.boolean(),
});

const request = z.looseObject({
  did: z.int().min(0).max(0xffffff),
  pid: z.int().min(0).max(0xfffff).nullable(),
  priv: z.boolean(),
  exec: z.boolean(),
  at: z.enum(['untranslated', 'translated', 'translation_request']),
  rw: z.enum(['read', 'write', 'execute']),
  iova: word64,
});

const walkCase = z.looseObject({
  id: z.string().min(1),
  vendor: z.literal('riscv', "is not 'riscv', the only vendor whose walks are played"),
  caps,
  ddtp: z.looseObject({ mode: z.enum(['off', 'bare', '1lvl', '2lvl', '3lvl']), ppn: word64 }),
  mem: z.array(z.tuple([address, word64])).refine((mem) => mem.every(([at], index) => index === 0 || mem[index - 1]![0] < at), 'is not ascending'),
  poison: z.array(address).optional(),
  req: request,
});

export type WalkCase = z.output<typeof walkCase>;

/** The case on a line. Throws `InputError`: the line's number, and what is wrong. */
export function parseWalkCase(line: number, source: string): WalkCase {
  let json: unknown;
  try {
    json = JSON.parse(source);
  } catch (error) {
    throw new InputError(`line ${line}: not JSON (${oneLine(error instanceof Error ? error.message : String(error))}); give one case a line`);
  }
  const parsed = walkCase.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const where = issue.path.join('.');
  throw new InputError(`line ${line}: ${where === '' ? 'the case' : `'${where}'`} ${oneLine(issue.message)}`);
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').slice(0, 160);
