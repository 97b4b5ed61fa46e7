/** The questions there are, found by walking the folder. */
import { existsSync, readdirSync } from 'node:fs';
import type { Question } from './question.ts';

const folder = new URL('./questions/', import.meta.url);
const bundles = new URL('../bundle/', import.meta.url);

export const questionNames = (): string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.js')).map((name) => name.slice(0, -3)).sort();

/** The module of a question by a name of `questionNames`: the bundle, of one that has one (`bundle.mjs`). */
export function moduleOf(name: string): string {
  const bundle = new URL(`${name}.js`, bundles);
  return existsSync(bundle) ? bundle.href : new URL(`${name}.js`, folder).href;
}

export async function loadQuestion(name: string): Promise<Question> {
  return ((await import(moduleOf(name))) as { default: Question }).default;
}
