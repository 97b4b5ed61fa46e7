/** A hash of the code that a schedule depends on: a token from other code may replay differently, and says so. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Compiled folders and files that decide what a schedule does, relative to `dist`. */
const parts = [
  'hostmem', 'src/hardware', 'src/drivers', 'src/kernel', 'src/actors', 'src/check', 'src/schedule', 'src/scenarios', 'src/scenario.js',
  'src/world.js', 'src/built-process.js', 'workers',
];

/** Six characters of base64url. */
export function codeHash(): string {
  const hash = createHash('sha256');
  for (const part of parts) add(hash, fileURLToPath(new URL(`../${part}`, import.meta.url)));
  return hash.digest('base64url').replace(/[-_]/g, 'x').slice(0, 6);
}

function add(hash: ReturnType<typeof createHash>, path: string): void {
  if (statSync(path).isDirectory()) {
    for (const name of readdirSync(path).sort()) add(hash, `${path}/${name}`);
  } else if (path.endsWith('.js')) hash.update(readFileSync(path, 'utf8').replace(/\n\/\/# sourceMappingURL.*\s*$/, ''));
}
