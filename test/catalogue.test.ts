/** What `dmarena list` says of scenarios, against the page of races and against what may be said of Linux. */
import { catalogue } from '#src/catalogue';
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const { scenarios } = await catalogue();
const races = scenarios.filter(({ race }) => race !== null);

/** Rows of the table: link or plain name of a scenario or variant, and the last column. */
const rows = readFileSync('docs/races.md', 'utf8')
  .split('\n')
  .filter((line) => /^\| *\d* *\| [[`]/.test(line))
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .map(([, number, name, , , catcher]) => ({ number, name: /^[[`]([\w-]+)[\]`]/.exec(name!)![1]!, link: /\((.*)\)$/.exec(name!)?.[1] ?? null, catcher }));

test('there are twelve groups of races, and each of them is correct, or buggy and caught', () => {
  expect(new Set(races.map(({ race }) => race))).toEqual(new Set(Array.from({ length: 12 }, (_, index) => index + 1)));
  for (const { name, variants } of races) {
    expect(variants.slice(0, 2).map((variant) => variant.name), name).toEqual(['correct', 'buggy']);
    expect(variants[0]!.caughtBy).toBeNull();
    expect(variants[1]!.caughtBy).not.toBeNull();
  }
});

test('the page of races has every race and every mistake of its, with the catcher that the catalogue has', () => {
  const told = rows.map(({ name, catcher }) => `${name}: ${catcher}`);
  const listed = races.flatMap(({ name, variants }) =>
    variants.filter(({ caughtBy }) => caughtBy !== null).map((variant) => `${variant.name === 'buggy' ? name : variant.name}: ${variant.caughtBy}`),
  );
  expect(told.toSorted()).toEqual(listed.toSorted());
});

test('a race of the page is in the group that the page says, in a file that exists', () => {
  let group = '';
  for (const { number, name, link } of rows) {
    group = number === '' ? group : number!;
    if (link === null) continue;
    expect(races.find((race) => race.name === name)?.race, name).toBe(Number(group));
    expect(readFileSync(`docs/${link}`, 'utf8')).toContain('race: {');
  }
});

test('what Linux 7.2 does not have is not said to be its bug: mistakes about T = 1 say that they look forward', () => {
  const forward = scenarios.filter(({ seed }) => seed === '003');
  expect(forward.length).toBeGreaterThan(3);
  for (const { name, title, variants } of forward) {
    expect(title, name).toContain('forward-looking');
    for (const { source } of variants) expect(source, name).toMatch(/forward-looking|no caller in 7\.2/);
  }
});

test('a scenario is a page', () => {
  for (const name of readdirSync('src/scenarios').filter((file) => file.endsWith('.ts')))
    expect(readFileSync(`src/scenarios/${name}`, 'utf8').split('\n').length, name).toBeLessThanOrEqual(120);
});
