/**
 * `dmarena bench`: speed, one question after the other. The benches are a program of their own, which reads and checks the words; here it
 * is started, so that what is measured shares a process with nothing else.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { InputError } from '../input-error.ts';

const program = fileURLToPath(new URL('../../bench/run.js', import.meta.url));

/** The exit status of the benches. */
export function bench(words: readonly string[]): Promise<number> {
  if (!existsSync(program)) throw new InputError(`the benches are not built: there is no ${program}; run npm run build`);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...words], { stdio: 'inherit' });
    child.once('error', reject);
    child.once('exit', (code, signal) => (code === null ? reject(new Error(`the benches ended by ${signal}`)) : resolve(code)));
  });
}
