/**
 * What there is, found by walking folders: scenarios, variants of the kernel, invariants, formats, strategies.
 */
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { invariantIds, loadInvariants } from './check/catalogue.ts';
import { InputError } from './input-error.ts';
import { correct, type Variant } from './kernel/variant.ts';
import type { ListResult } from './results.ts';
import type { Scenario } from './scenario.ts';
import { Strategies } from './schedule/strategy.ts';

const scenarioFolder = new URL('./scenarios/', import.meta.url);
const variantFolder = new URL('./kernel/variants/', import.meta.url);
const formatFolder = new URL('../hostmem/formats/', import.meta.url);

export interface Found<T> {
  readonly name: string;
  /** Where workers import it from; null for the correct kernel, which is built in. */
  readonly url: string | null;
  readonly value: T;
}

const namesIn = (folder: URL): string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.js')).map((name) => name.slice(0, -3)).sort();

export const scenarioNames = (): string[] => namesIn(scenarioFolder);

/** The scenario of this name. Throws `InputError`. */
export async function findScenario(name: string): Promise<Found<Scenario> & { readonly url: string }> {
  if (!scenarioNames().includes(name)) throw new InputError(`unknown scenario '${name}'; there are ${scenarioNames().join(', ')}`);
  const url = new URL(`${name}.js`, scenarioFolder).href;
  return { name, url, value: ((await import(url)) as { default: Scenario }).default };
}

/** A variant that the scenario names, or `correct`. Throws `InputError`. */
export async function findVariant(scenario: Found<Scenario>, name: string): Promise<Found<Variant>> {
  if (name === 'correct') return { name, url: null, value: correct };
  if (!scenario.value.variants.includes(name)) {
    const known = ['correct', ...scenario.value.variants].join(', ');
    throw new InputError(`scenario '${scenario.name}' has no variant '${name}'; it has ${known}`);
  }
  const url = new URL(`${name}.js`, variantFolder).href;
  return { name, url, value: ((await import(url)) as { default: Variant }).default };
}

/** Four characters that stand for a variant in a token; null for the correct kernel. */
export function variantTag(name: string): string | null {
  return name === 'correct' ? null : createHash('sha256').update(name).digest('base64url').replace(/[-_]/g, 'x').slice(0, 4);
}

/** The variant of a scenario that a token's tag stands for. Throws `InputError`. */
export function variantOfTag(scenario: Found<Scenario>, tag: string | null): string {
  const found = ['correct', ...scenario.value.variants].find((name) => variantTag(name) === tag);
  if (found === undefined) throw new InputError(`the token names a variant of '${scenario.name}' that does not exist here`);
  return found;
}

/** Everything, for `dmarena list`. */
export async function catalogue(): Promise<ListResult> {
  const scenarios = await Promise.all(scenarioNames().map(listScenario));
  const invariants = await loadInvariants(invariantIds());
  return {
    scenarios,
    formats: namesIn(formatFolder),
    strategies: (await Strategies.load()).names,
    invariants: invariants.map(({ id, claim }) => ({ id, claim })),
  };
}

async function listScenario(name: string): Promise<ListResult['scenarios'][number]> {
  const found = await findScenario(name);
  const variants = await Promise.all(['correct', ...found.value.variants].map((variant) => findVariant(found, variant)));
  return {
    name,
    title: found.value.title,
    seed: found.value.seed,
    variants: variants.map(({ name: variant, value: { mistake, source, caughtBy } }) => ({ name: variant, mistake, source, caughtBy })),
  };
}
