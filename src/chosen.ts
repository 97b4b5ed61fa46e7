/**
 * What a command line chose: a scenario, a variant and further invariants, by name or as files from outside; and how a
 * token names those files, so that whoever replays it is told which ones are needed.
 *
 * The token's scenario word is `<scenario>[--<hash>](--<invariant file>--<hash>)*`, a variant file's tag `<name>--<hash>`:
 * names of files carry no `--`.
 */
import { findInvariant, findScenario, findVariant, knownInvariants, variantOfTag, variantTag, type Found } from './catalogue.ts';
import type { AnyInvariant } from './check/invariant.ts';
import { InputError, unknownName } from './input-error.ts';
import type { Variant } from './kernel/variant.ts';
import { checkCaughtBy } from './outside/variant.ts';
import { isPath, type OutsideFile } from './outside/file.ts';
import type { Scenario } from './scenario.ts';
import type { Token } from './schedule/token.ts';
import { iommus, type Iommu } from './built-units.ts';
import type { WorldOptions } from './world.ts';

export interface Choice {
  /** A name, or a path. */
  readonly scenario: string;
  readonly variant: string;
  /** Paths. */
  readonly invariants?: readonly string[];
  /** The size that a scenario from outside is tried at; null: its own. */
  readonly vms?: number | null;
  /** Whose unit stands before the functions, by name; null: the scenario's own. */
  readonly iommu?: string | null;
}

export interface Chosen {
  readonly scenario: Found<Scenario> & { readonly url: string };
  readonly variant: Found<Variant>;
  readonly invariants: readonly Found<AnyInvariant>[];
  readonly iommu: Iommu | null;
  /** Of every invariant that is judged: its id, or the URL of one from outside. */
  readonly holds: readonly string[];
}

/** Throws `InputError` for the first thing that is not there, or is not as it should be. */
export async function choose({ scenario: scenarioName, variant: variantName, invariants: paths = [], vms = null, iommu = null }: Choice): Promise<Chosen> {
  const scenario = await findScenario(scenarioName, vms);
  const invariants: Found<AnyInvariant>[] = [];
  for (const path of paths) invariants.push(await findInvariant(path, invariants.map(({ value }) => value.id)));
  const own = invariants.map(({ value }) => value.id);
  const unknown = scenario.value.holds.find((id) => ![...knownInvariants(), ...own].includes(id));
  if (unknown !== undefined) throw unknownInvariant(scenario, unknown);
  const variant = await findVariant(scenario, variantName);
  if (variant.file !== null) checkCaughtBy(variant.file.path, variant.value, [...knownInvariants('with the scheduler'), ...own]);
  const named = [...(variant.value.judgedBy ?? []), ...scenario.value.holds];
  const holds = [...named.filter((id, index) => !own.includes(id) && named.indexOf(id) === index), ...invariants.map(({ url }) => url!)];
  return { scenario, variant, invariants, iommu: iommu === null ? null : iommuFor(scenario, iommu), holds };
}

/** Throws `InputError` for a unit that does not exist, and for a scenario whose devices have none. */
function iommuFor({ name: scenario, value: { host } }: Found<Scenario>, name: string): Iommu {
  const found = iommus.find((one) => one === name);
  if (found === undefined) throw unknownName('IOMMU', name, iommus);
  if (host?.iommu?.includes('mock') === true) throw new InputError(`--iommu '${name}': '${scenario}' is about the mock IOMMU of the kernel's selftest; leave it out`);
  const missing = found.startsWith('vtd') ? [] : ofSomeAlone.filter((option) => host?.[option] !== undefined && !(found === 'riscv' && ofRiscvToo.includes(option)));
  if (missing.length > 0) throw new InputError(`--iommu '${name}': '${scenario}' needs ${missing.join(' and ')}, which such a unit does not have here`);
  return found;
}

/** What a host may have with units of RISC-V, and else only with units of VT-d. */
const ofRiscvToo: readonly (keyof WorldOptions)[] = ['ats', 'pageRequests'];
const ofSomeAlone = ['ats', 'pasids', 'pageRequests', 'confidential'] as const satisfies readonly (keyof WorldOptions)[];

/** The numbers of VMs and IOMMU in one, for a token: 0 where the scenario decides. A host has far fewer VMs. */
const vmLimit = 128;
export const sizeWord = (vms: number | null, iommu: Iommu | null): number => (vms ?? 0) + (iommu === null ? 0 : vmLimit * (1 + iommus.indexOf(iommu)));
export function sizeOf({ parameters: [word = 0] }: Token): { readonly vms: number | null; readonly iommu: Iommu | null } {
  return { vms: word % vmLimit === 0 ? null : word % vmLimit, iommu: iommus[Math.floor(word / vmLimit) - 1] ?? null };
}

function unknownInvariant({ file }: Found<Scenario>, id: string): InputError {
  const { message } = unknownName('invariant', id, knownInvariants());
  return new InputError(`${file?.path ?? 'the scenario'}: ${message}; one of your own is given by --invariant <path>`);
}

/** The token's words for a choice. */
export function tokenWords({ scenario, variant, invariants }: Chosen): Pick<Token, 'scenario' | 'variantTag'> {
  const files = invariants.map(({ file }) => `--${word(file!)}`).join('');
  return {
    scenario: `${scenario.file === null ? scenario.name : word(scenario.file)}${files}`,
    variantTag: variant.file === null ? variantTag(variant.name) : word(variant.file),
  };
}

/** The flags that `replay` needs beside the token; empty, or beginning with a space. */
export function replayFlags({ scenario, variant, invariants }: Chosen): string {
  const flag = (name: string, file: OutsideFile | null): string => (file === null ? '' : ` --${name} ${quoted(file.path)}`);
  return flag('scenario', scenario.file) + flag('variant', variant.file) + invariants.map(({ file }) => flag('invariant', file)).join('');
}

/** Files that go with a token. */
export interface TokenFiles {
  readonly scenario?: string | undefined;
  readonly variant?: string | undefined;
  readonly invariants?: readonly string[];
}

/**
 * The choice that a token was made with. Throws `InputError` when a file is missing, or given for what is no file. `changed`
 * names files that are not as they were: the schedule may mean something else with them.
 */
export async function chooseAgain(token: Token, files: TokenFiles): Promise<Chosen & { readonly changed: readonly string[] }> {
  const wanted = parseWord(token.scenario);
  const scenario = fileOrName('scenario', wanted.scenario, files.scenario);
  const wantedVariant = token.variantTag?.includes('--') === true ? parsePair(token.variantTag.split('--')) : null;
  const variant = wantedVariant === null ? await builtInVariant(scenario, token, files) : fileOrName('variant', wantedVariant, files.variant);
  const given = files.invariants ?? [];
  const missing = wanted.invariants[given.length];
  if (missing !== undefined) throw new InputError(`the token needs the invariant file '${missing.name}' too; give it with --invariant <path>, files in their order`);
  const chosen = await choose({ scenario, variant, invariants: given, ...sizeOf(token) });
  const pairs: [FileWord | undefined, OutsideFile | null][] = [
    [wanted.scenario, chosen.scenario.file],
    [wantedVariant ?? undefined, chosen.variant.file],
    ...chosen.invariants.map(({ file }, index): [FileWord | undefined, OutsideFile | null] => [wanted.invariants[index], file]),
  ];
  const changed = pairs.flatMap(([was, file]) => (was === undefined || file === null || was.hash === file.hash ? [] : [file.path]));
  return { ...chosen, changed };
}

async function builtInVariant(scenario: string, token: Token, { variant }: TokenFiles): Promise<string> {
  const name = variantOfTag(await findScenario(scenario), token.variantTag);
  if (variant !== undefined) throw new InputError(`the token's variant is '${name}', which needs no file; leave out --variant`);
  return name;
}

/** A file that a token names; `hash` is null for a name that needs no file. */
interface FileWord {
  readonly name: string;
  readonly hash: string | null;
}

function fileOrName(kind: 'scenario' | 'variant', { name, hash }: FileWord, given: string | undefined): string {
  const flag = `--${kind}`;
  if (hash === null) {
    if (given !== undefined) throw new InputError(`the token's ${kind} is '${name}', which needs no file; leave out ${flag}`);
    return name;
  }
  if (given === undefined) throw new InputError(`the token needs the ${kind} file '${name}'; give it with ${flag} <path>`);
  if (!isPath(given)) throw new InputError(`${flag} '${given}' is not a path; give that of the ${kind} file '${name}', as in ${flag} ./${name}.mjs`);
  return given;
}

const word = ({ name, hash }: OutsideFile): string => `${name}--${hash}`;

function parseWord(text: string): { readonly scenario: FileWord; readonly invariants: readonly FileWord[] } {
  const parts = text.split('--');
  const isFile = parts.length % 2 === 0;
  const scenario = isFile ? parsePair(parts) : { name: parts[0]!, hash: null };
  const rest = parts.slice(isFile ? 2 : 1);
  return { scenario, invariants: Array.from({ length: rest.length / 2 }, (_, index) => parsePair(rest.slice(index * 2))) };
}

const parsePair = ([name, hash]: readonly string[]): FileWord => ({ name: name!, hash: hash ?? null });

/** As a shell reads it. */
const quoted = (path: string): string => (/^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`);
