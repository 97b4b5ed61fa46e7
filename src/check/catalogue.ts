/** The invariants of this room, found by walking `invariants/`: a new file is a new invariant. */
import { readdirSync } from 'node:fs';
import { loadModule } from '../load-module.ts';
import type { AnyInvariant } from './invariant.ts';

const folder = new URL('./invariants/', import.meta.url);

/** No id has a colon. */
const isUrl = (id: string): boolean => id.includes(':');

/** The ids that exist, in order. */
export function invariantIds(): string[] {
  return readdirSync(folder).filter((name) => name.endsWith('.js')).map((name) => name.slice(0, -3)).sort();
}

/** The invariants with these ids, or at these URLs. Throws one line when there is none of a name. */
export async function loadInvariants(ids: readonly string[]): Promise<AnyInvariant[]> {
  const known = invariantIds();
  const unknown = ids.find((id) => !isUrl(id) && !known.includes(id));
  if (unknown !== undefined) throw new Error(`no invariant is called '${unknown}'; there are ${known.join(', ')}`);
  return Promise.all(ids.map(async (id) => (await loadModule<{ default: AnyInvariant }>(isUrl(id) ? id : new URL(`${id}.js`, folder).href)).default));
}
