// Compiles the five projects, removes what a deleted source left behind in dist (folders are walked at run time), and bundles what threads load.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, 'dist');

function sweep(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) sweep(path);
    else if (/\.(js|js\.map|d\.ts)$/.test(name)) {
      const source = join(root, relative(dist, path)).replace(/\.(js\.map|js|d\.ts)$/, '.ts');
      if (!existsSync(source)) rmSync(path);
    }
  }
}

let tsc;
try {
  tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
} catch {
  console.error('build: typescript is not installed; run npm ci first');
  process.exit(2);
}
if (existsSync(dist)) sweep(dist);
const { status } = spawnSync(process.execPath, [tsc, '-b'], { cwd: root, stdio: 'inherit' });
if (status === 0) await bundle(dist);
process.exit(status ?? 1);
