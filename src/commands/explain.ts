/** `dmarena explain`: why a device reaches an address, or where that ends. */
import { Owner } from '#hostmem/frames';
import type { Reach } from '../check/reach.ts';
import { InputError } from '../input-error.ts';
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

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const wide = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;
const rights = (permissions: number): string => ['nothing', 'reading', 'writing', 'reading and writing'][permissions & 3]!;

/** About a dozen lines. */
export function tell(device: string, iova: bigint, reach: Reach): string[] {
  const width = Math.max(0, ...reach.entries.map(({ name }) => name.length));
  return [
    `${device}, requester ${hex(reach.requesterId)}, is in group ${reach.group}, ${reach.pasid === null ? 'which' : `whose PASID ${reach.pasid}`} is on ${reach.domain}; its unit is ${reach.vendor} ${reach.unit}`,
    ...reach.entries.map(({ name, at, value }) => `  ${name.padEnd(width)}  at ${hex(at).padEnd(9)} ${wide(value)}`),
    outcome(iova, reach),
    ...(reach.cached.length === 0 ? ['no cache holds anything of it'] : reach.cached.map(cached(reach))),
  ];
}

function outcome(iova: bigint, { frame, permissions, owner, passesThrough, fault, why }: Reach): string {
  if (frame === null) return `${hex(iova)} is not reached: ${why ?? (fault === 0 ? 'the entry blocks the device' : `the entry says so (fault ${hex(fault)})`)}`;
  const address = hex(BigInt(frame) * 4096n + (iova & 4095n));
  return `${hex(iova)} is ${address}, frame ${hex(frame)} ${ownerText(owner)}, for ${rights(permissions)}${passesThrough ? ', untranslated' : ''}`;
}

function ownerText(owner: number | null): string {
  if (owner === null) return 'beyond memory';
  if (owner === Owner.FREE) return '(free)';
  return owner === Owner.KERNEL ? 'of the kernel' : owner === Owner.TABLE ? 'of page tables' : `of process ${owner - Owner.firstProcess}`;
}

const cached = (reach: Reach) => ({ cache, tag, frame, permissions }: Reach['cached'][number]): string => {
  if (frame === null) return `${cache}: a line of the requester, under number ${tag}`;
  const stale = frame === reach.frame ? '' : ', which the tables do not say';
  return `${cache}: frame ${hex(frame)}${permissions === null ? '' : ` for ${rights(permissions)}`}${cache === 'IOTLB' ? `, under number ${tag}` : ''}${stale}`;
};
