/** The questions there are, found by walking the folder. */
import { loadModule } from '#src/load-module';
import { readdirSync } from 'node:fs';
import type { Question } from './question.ts';

const folder = new URL('./questions/', import.meta.url);

export const questionNames = (): string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.js')).map((name) => name.slice(0, -3)).sort();

/** A question by a name of `questionNames`. */
export async function loadQuestion(name: string): Promise<Question> {
  return (await loadModule<{ default: Question }>(new URL(`${name}.js`, folder).href)).default;
}
