/** All sequences, found by walking `sequences/`: a new file is a new topic. */
import { readdirSync } from 'node:fs';
import type { Sequence } from './sequence.ts';

const folder = new URL('./sequences/', import.meta.url);

export async function loadSequences(): Promise<Sequence[]> {
  const names = readdirSync(folder).filter((name) => name.endsWith('.js')).sort();
  const topics = await Promise.all(names.map((name) => import(new URL(name, folder).href) as Promise<{ default: Sequence[] }>));
  return topics.flatMap((topic) => topic.default);
}
