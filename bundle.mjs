// Bundles what every thread and every exploring process loads: hundreds of small files cost a quarter of a second of CPU each time, one large file a
// fifth of that. A bundle brings along whatever is found by walking folders; its modules still say the places of the files that they are made of.
// Not esbuild: it makes variables of a module's constants, and hot walks then cost up to twice as much.
import { readdirSync, rmSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { rolldown } from 'rolldown';

const walked = ['src/scenarios', 'src/scenarios/models', 'src/kernel/variants', 'src/check/invariants', 'src/schedule/strategies'];
const everything = `import './brought.js';`;
const entries = {
  worker: [everything, ...['vm', 'device', 'viommu', 'race'].map((role) => `export { default as ${role} } from './workers/${role}.js';`)].join('\n'),
  cell: [everything, `import './src/cell.js';`].join('\n'),
  device: `export { work } from './bench/device.js';`,
};

export async function bundle(dist) {
  rmSync(join(dist, 'bundle'), { recursive: true, force: true });
  await Promise.all(Object.entries(entries).map(([name, entry]) => write(dist, name, entry)));
}

async function write(dist, name, entry) {
  const texts = { [join(dist, 'entry.js')]: entry, [join(dist, 'brought.js')]: brought(dist) };
  const made = await rolldown({
    input: join(dist, 'entry.js'),
    platform: 'node',
    external: /^(node:|piscina$|esbuild$|zod$|commander$)/,
    plugins: [virtual(texts), places(dist)],
    logLevel: 'warn',
  });
  await made.write({ file: join(dist, 'bundle', `${name}.js`), format: 'esm', codeSplitting: false });
}

/** The text of a module that hands over all that is found by walking folders. */
function brought(dist) {
  const found = walked.flatMap((folder) => readdirSync(join(dist, folder)).filter((name) => name.endsWith('.js')).map((name) => `${folder}/${name}`));
  return [
    `import { bring } from './src/load-module.js';`,
    ...found.map((path, index) => `import * as m${index} from './${path}';`),
    `bring(new URL('./', import.meta.url).href, { ${found.map((path, index) => `'${path}': m${index}`).join(', ')} });`,
  ].join('\n');
}

/** Modules that are no files. */
const virtual = (texts) => ({
  name: 'virtual',
  resolveId: (id, from) => {
    const path = from === undefined ? id : join(from, '..', id);
    return path in texts ? path : null;
  },
  load: (id) => texts[id] ?? null,
});

/** `import.meta.url` stays that of the file, seen from `dist/bundle`. */
const places = (dist) => ({
  name: 'places',
  transform(code, id) {
    if (!code.includes('import.meta.url')) return null;
    const place = JSON.stringify(`../${relative(dist, id).split(sep).join('/')}`);
    return { code: code.replaceAll('import.meta.url', `new URL(${place}, import.meta.url).href`), map: null };
  },
});
