/** `dmarena explain`: why a device reaches an address, or where that ends. */
import type { Reach } from '../check/reach.ts';
import { InputError } from '../input-error.ts';
import { domainText, hex, isStale, lineText, outcomeText, wide } from '../reach-words.ts';
import type { Terminal } from '../terminal.ts';

export interface ExplainOptions {
  /** A scenario, by name or path, or a token. */
  readonly state: string;
  readonly device: string;
  readonly pasid: number | null;
  /** Decimal, or hexadecimal with `0x`. */
  readonly iova: string;
  readonly iommu: string | null;
  /** Files that a token needs. */
  readonly scenario?: string;
  readonly variant?: string;
  readonly invariants?: readonly string[];
}

/** 0, whether the address is reached or not. */
export async function explain(options: ExplainOptions, terminal: Terminal): Promise<number> {
  const question = { device: options.device, pasid: options.pasid, iova: parseIova(options.iova) };
  const composition = await import('../explain.ts');
  const isToken = /^v\d+\./.test(options.state);
  if (isToken && options.iommu !== null) throw new InputError('--iommu: the token says whose unit it is; leave it out');
  const { scenario, variant, invariants = [] } = options;
  const reach = isToken
    ? await composition.explainToken(options.state, { scenario, variant, invariants }, question)
    : await composition.explainScenario(options.state, options.iommu, question);
  terminal.say(...tell(options.device, question.iova, reach));
  terminal.answer({ ...reach, device: options.device, iova: hex(question.iova), entries: reach.entries.map(({ name, at, value }) => ({ name, at: hex(at), value: hex(value) })) });
  return 0;
}

function parseIova(text: string): bigint {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : -1n;
  if (value < 0n || value >= 2n ** 64n) throw new InputError(`--iova '${text}' is no address of 64 bits; for example --iova 0x10000000`);
  return value;
}

/** About a dozen lines. */
export function tell(device: string, iova: bigint, reach: Reach): string[] {
  const width = Math.max(0, ...reach.entries.map(({ name }) => name.length));
  return [
    domainText(device, reach),
    ...reach.entries.map(({ name, at, value }) => `  ${name.padEnd(width)}  at ${hex(at).padEnd(9)} ${wide(value)}`),
    outcomeText(iova, reach),
    ...(reach.cached.length === 0 ? ['no cache holds anything of it'] : reach.cached.map((line) => `${lineText(line)}${isStale(reach, line) ? ', which the tables do not say' : ''}`)),
  ];
}
