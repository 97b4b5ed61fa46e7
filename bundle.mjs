// Bundles what every thread and every exploring process loads: hundreds of small files cost a quarter of a second of CPU each time, one large file a
// fifth of that. A bundle brings along whatever is found by walking folders; its modules still say the places of the files that they are made of.
// Not esbuild: it makes variables of a module's constants, and hot walks then cost up to twice as much.
// What workers load is a script, beside which lies what V8 has compiled of it: that saves each of them two thirds of what loading costs.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';

const walked = ['src/scenarios', 'src/scenarios/models', 'src/kernel/variants', 'src/check/invariants', 'src/schedule/strategies'];
const everything = `import './brought.js';`;
/** The benches ask of what runs run: of bundled code. But `point`, which looks at one module as it is. */
const questions = `import './questions.js';`;
const roles = ['vm', 'device', 'viommu', 'race'];
const entries = {
  worker: [everything, ...roles.map((role) => `export { default as ${role} } from './workers/${role}.js';`)].join('\n'),
  cell: [everything, `import './src/cell.js';`].join('\n'),
  // Of devices there are 64: each loads what a device needs, and not all questions.
  device: [`import './device.js';`, `import './bench/team-member.js';`].join('\n'),
  bench: [questions, `import './bench/thread.js';`].join('\n'),
  member: [questions, `import './bench/team-member.js';`].join('\n'),
  crew: [`import './strategies.js';`, `import './bench/crew.worker.js';`].join('\n'),
};

export async function bundle(dist) {
  rmSync(join(dist, 'bundle'), { recursive: true, force: true });
  mkdirSync(join(dist, 'bundle'));
  await Promise.all(Object.entries(entries).map(([name, entry]) => write(dist, name, entry)));
  const starter = join(dist, 'bundle', 'worker.js');
  writeFileSync(starter, start);
  const { compiled } = await import(pathToFileURL(starter).href);
  writeFileSync(join(dist, 'bundle', 'worker.compiled'), compiled());
}

/** The module that a worker names: it runs the script. V8 of another version or with other flags refuses what was compiled, and compiles anew. */
const start = `import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import { tuneJit } from '../src/jit.js';

tuneJit();
const place = (name) => fileURLToPath(new URL(name, import.meta.url));
const filename = place('./worker.cjs');
const before = place('./worker.compiled');
const cachedData = existsSync(before) ? readFileSync(before) : undefined;
const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData });
const exported = {};
script.runInThisContext()(exported, createRequire(import.meta.url), import.meta.url, (url) => import(url));
export const { ${roles.join(', ')} } = exported;
export const compiled = () => script.createCachedData();
`;

async function write(dist, name, entry) {
  const texts = {
    [join(dist, 'entry.js')]: entry,
    [join(dist, 'brought.js')]: brought(found(dist, walked)),
    [join(dist, 'device.js')]: brought(['bench/device.js']),
    [join(dist, 'strategies.js')]: brought(found(dist, ['src/schedule/strategies'])),
    [join(dist, 'questions.js')]: brought(found(dist, ['bench/questions']).filter((path) => !path.endsWith('/point.js'))),
  };
  const made = await rolldown({
    input: join(dist, 'entry.js'),
    platform: 'node',
    external: /^(node:|piscina$|esbuild$|zod$|commander$)/,
    plugins: [virtual(texts), places(dist, name === 'worker')],
    logLevel: 'warn',
  });
  if (name !== 'worker') {
    await made.write({ file: join(dist, 'bundle', `${name}.js`), format: 'esm', codeSplitting: false });
    return;
  }
  const { output } = await made.generate({ format: 'cjs', codeSplitting: false, comments: false });
  writeFileSync(join(dist, 'bundle', 'worker.cjs'), `(function (exports, require, bundleUrl, bundleImport) { 'use strict';\n${asciiOf(output[0].code)}\n})`);
}

/** Every thread has the text for itself, at a byte a character if all are of ASCII; what is not stands in strings. */
const asciiOf = (code) => code.replaceAll(/[^\0-\x7f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

const found = (dist, folders) => folders.flatMap((folder) => readdirSync(join(dist, folder)).filter((name) => name.endsWith('.js')).map((name) => `${folder}/${name}`));

/** The text of a module that hands over others. */
const brought = (paths) => [
  `import { bring } from './src/load-module.js';`,
  ...paths.map((path, index) => `import * as m${index} from './${path}';`),
  `bring(new URL('./', import.meta.url).href, { ${paths.map((path, index) => `'${path}': m${index}`).join(', ')} });`,
].join('\n');

/** Modules that are no files. */
const virtual = (texts) => ({
  name: 'virtual',
  resolveId: (id, from) => {
    const path = from === undefined ? id : join(from, '..', id);
    return path in texts ? path : null;
  },
  load: (id) => texts[id] ?? null,
});

/** `import.meta.url` stays that of the file, seen from `dist/bundle`; a script is handed its own place, and how to import (Node 20 lets it not, where it was compiled before). */
const places = (dist, isScript) => ({
  name: 'places',
  transform(code, id) {
    const place = JSON.stringify(`../${relative(dist, id).split(sep).join('/')}`);
    const placed = code.replaceAll('import.meta.url', `new URL(${place}, ${isScript ? 'bundleUrl' : 'import.meta.url'}).href`);
    return { code: isScript ? placed.replaceAll('await import(', 'await bundleImport(') : placed, map: null };
  },
});
