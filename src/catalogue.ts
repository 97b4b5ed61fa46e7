/**
 * What there is, found by walking folders: scenarios, variants of the kernel, invariants, formats, strategies. What is named
 * by a path instead is a file from outside (`outside/`).
 */
import { createHash } from 'node:crypto';
import type { PageTableFormat } from '#hostmem/page-table-format';
import { readdirSync } from 'node:fs';
import { invariantIds, loadInvariants } from './check/catalogue.ts';
import type { AnyInvariant } from './check/invariant.ts';
import { InputError, unknownName } from './input-error.ts';
import { as72, correct, type Variant } from './kernel/variant.ts';
import { isPath, loadOutside, type OutsideFile } from './outside/file.ts';
import { checkFormats } from './outside/format.ts';
import { checkInvariant } from './outside/invariant.ts';
import { checkScenario } from './outside/scenario.ts';
import { checkVariant } from './outside/variant.ts';
import { loadModule } from './load-module.ts';
import type { ListResult } from './results.ts';
import type { Scenario } from './scenario.ts';
import { schedulerClaims } from './scheduler-claims.ts';
import { Strategies } from './schedule/strategy.ts';

const scenarioFolder = new URL('./scenarios/', import.meta.url);
const modelFolder = new URL('./scenarios/models/', import.meta.url);
const variantFolder = new URL('./kernel/variants/', import.meta.url);
const formatFolder = new URL('../hostmem/formats/', import.meta.url);

export interface Found<T> {
  readonly name: string;
  /** Where workers import it from; null for the correct kernel, which is built in. */
  readonly url: string | null;
  readonly value: T;
  /** Where it comes from, if from outside. */
  readonly file: OutsideFile | null;
}

/** What is enough for another process to load the same. */
export type Reference = Pick<Found<unknown>, 'name' | 'url'>;

/** Loads again what was found before, by another process. */
export async function load<T>({ name, url }: { readonly name: string; readonly url: string }): Promise<Found<T> & { readonly url: string }> {
  return { name, url, value: (await loadModule<{ default: T }>(url)).default, file: null };
}

const namesIn = (folder: URL): string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.js')).map((name) => name.slice(0, -3)).sort();

export const scenarioNames = (): string[] => namesIn(scenarioFolder);

/** Scenarios of a few words of memory, some of them wrong on purpose: what strategies are measured by. */
export const modelNames = (): string[] => namesIn(modelFolder);

/** The scenario of this name, or at this path; `vms` is the size that it will have. Throws `InputError`. */
export async function findScenario(name: string, vms: number | null = null): Promise<Found<Scenario> & { readonly url: string }> {
  if (isPath(name)) {
    const { file, value } = await loadOutside('scenario', name);
    return { name: file.name, url: file.url, value: checkScenario(name, value, vms, namesIn(variantFolder)), file };
  }
  const isModel = modelNames().includes(name);
  if (!isModel && !scenarioNames().includes(name)) throw unknownName('scenario', name, scenarioNames());
  return load({ name, url: new URL(`${name}.js`, isModel ? modelFolder : scenarioFolder).href });
}

/** What Linux 7.2 is called in a scenario. */
const linuxIn = ({ value }: Found<Scenario>): string => (value.caught72 === undefined ? 'correct' : 'as-7.2');

/** Variants that can be run with a scenario, Linux 7.2 first: those that it names; with one from outside, all. */
export function variantsOf(scenario: Found<Scenario>): string[] {
  const { race, variants } = scenario.value;
  return [linuxIn(scenario), ...(race === undefined ? [] : ['buggy']), ...(scenario.file === null ? variants : namesIn(variantFolder))];
}

/** A variant that goes with the scenario, the one at this path, or Linux 7.2 under its name there or as `correct`. Throws `InputError`. */
export async function findVariant(scenario: Found<Scenario>, name: string): Promise<Found<Variant>> {
  const linux = linuxIn(scenario);
  if (name === 'correct' || name === linux) {
    const { caught72, correctIs: source = correct.source } = scenario.value;
    return { name: linux, url: null, value: caught72 === undefined ? { ...correct, source } : as72(caught72), file: null };
  }
  if (isPath(name)) {
    const { file, value } = await loadOutside('variant', name);
    return { name: file.name, url: file.url, value: checkVariant(name, value), file };
  }
  if (!variantsOf(scenario).includes(name)) throw unknownName('variant', name, variantsOf(scenario));
  const { race } = scenario.value;
  return load({ name, url: new URL(`${race !== undefined && name === 'buggy' ? race.buggy : name}.js`, variantFolder).href });
}

/** A variant that `findVariant` found before. */
export async function loadVariant({ name, url }: Reference): Promise<Found<Variant>> {
  return url === null ? { name, url, value: correct, file: null } : load({ name, url });
}

/** Ids that exist; with those that the scheduler gives, if asked. */
export const knownInvariants = (how?: 'with the scheduler'): string[] =>
  how === undefined ? invariantIds() : [...new Set([...invariantIds(), ...Object.keys(schedulerClaims)])];

/** The invariant at this path; `taken` are ids of others from outside. Throws `InputError`. */
export async function findInvariant(path: string, taken: readonly string[]): Promise<Found<AnyInvariant>> {
  const { file, value } = await loadOutside('invariant', path);
  return { name: file.name, url: file.url, value: checkInvariant(path, value, [...knownInvariants('with the scheduler'), ...taken]), file };
}

/** The formats of the file of this name, or at this path. Throws `InputError`. */
export async function findFormats(name: string): Promise<PageTableFormat[]> {
  if (isPath(name)) return checkFormats(name, (await loadOutside('format', name)).value);
  if (!namesIn(formatFolder).includes(name)) throw unknownName('format', name, namesIn(formatFolder));
  return (await load<PageTableFormat[]>({ name, url: new URL(`${name}.js`, formatFolder).href })).value;
}

/** Four characters that stand for a variant in a token; null for Linux 7.2. */
export function variantTag(name: string): string | null {
  return name === 'correct' || name === 'as-7.2' ? null : createHash('sha256').update(name).digest('base64url').replace(/[-_]/g, 'x').slice(0, 4);
}

/** The variant of a scenario that a token's tag stands for. Throws `InputError`. */
export function variantOfTag(scenario: Found<Scenario>, tag: string | null): string {
  const found = variantsOf(scenario).find((name) => variantTag(name) === tag);
  if (found === undefined) throw new InputError(`the token names a variant of '${scenario.name}' that does not exist here`);
  return found;
}

/** Everything, for `dmarena list`. */
export async function catalogue(): Promise<ListResult> {
  const scenarios = await Promise.all(scenarioNames().map(listScenario));
  const invariants = await loadInvariants(invariantIds());
  return {
    scenarios,
    models: await Promise.all(modelNames().map(listModel)),
    formats: namesIn(formatFolder),
    strategies: (await Strategies.load()).names,
    invariants: invariants.map(({ id, claim }) => ({ id, claim })),
  };
}

async function listModel(name: string): Promise<ListResult['models'][number]> {
  return { name, title: (await findScenario(name)).value.title };
}

async function listScenario(name: string): Promise<ListResult['scenarios'][number]> {
  const found = await findScenario(name);
  const variants = await Promise.all(variantsOf(found).map((variant) => findVariant(found, variant)));
  return {
    name,
    title: found.value.title,
    seed: found.value.seed,
    race: found.value.race?.number ?? null,
    variants: variants.map(({ name: variant, value: { mistake, source, caughtBy, judgedBy = [] } }) => ({ name: variant, mistake, source, caughtBy, judgedBy })),
  };
}
