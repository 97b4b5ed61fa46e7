import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Failure } from '#src/report/failure';
import { reportPage } from '#src/report/page/page';
import { describe, expect, test } from 'vitest';
import { crowded, interleaved } from './failures.ts';

const chromium = ['chromium', 'chromium-browser', 'google-chrome'].find((name) => spawnSync(name, ['--version']).status === 0);

/** The document once its script has run, and what the browser had to say. */
function open(page: string, ...flags: string[]): { dom: string; console: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'dmarena-page-'));
  try {
    writeFileSync(join(folder, 'report.html'), page);
    const args = ['--headless=new', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', `--user-data-dir=${folder}`, ...flags, '--dump-dom'];
    const { stdout, stderr } = spawnSync(chromium!, [...args, `file://${folder}/report.html`], { encoding: 'utf8', timeout: 60_000 });
    return { dom: stdout, console: stderr.split('\n').filter((line) => line.includes(':CONSOLE')) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('the page loads nothing, and its policy allows only the style and the script that it has', () => {
  const page = reportPage(interleaved);
  expect(page).not.toMatch(/\b(src|href)=|url\(|@import|https?:/);
  const policy = /Content-Security-Policy" content="([^"]*)"/.exec(page)![1]!.replaceAll('&#39;', "'");
  for (const [element, directive] of [['style', 'style-src'], ['script', 'script-src']] as const) {
    const text = new RegExp(`<${element}>([^]*?)</${element}>`).exec(page)![1]!;
    expect(policy).toContain(`${directive} 'sha256-${createHash('sha256').update(text).digest('base64')}'`);
  }
  expect(policy).toContain("default-src 'none'");
  expect(page).not.toMatch(/ style=| on[a-z]+="/);
});

test('a name with markup in it is text', () => {
  const name = '</script><b onclick=x>&';
  const page = reportPage({ ...interleaved, scenario: name, actors: [name], steps: interleaved.steps.map((step) => ({ ...step, actor: name })) });
  expect(page).not.toContain(name);
  expect(page.match(/<\/script>/g)).toHaveLength(2);
});

test('only who did anything has a lane; each contended lock has a colour of its own', () => {
  const page = reportPage(crowded);
  const lanes = page.match(/<div class="names">.*?<\/div><\/div>/s)![0].match(/<span>/g)!.length;
  expect(lanes).toBe(new Set([...crowded.steps, ...crowded.events].map(({ actor }) => actor)).size);
  expect(lanes).toBeLessThan(crowded.actors.length + 1);
});

/** An address whose last entry is the word that a step of the failure wrote, were it in RAM. */
const withAddresses: Failure = {
  ...interleaved,
  steps: interleaved.steps.map((step) => (step.label === 'Igroup.hwpt' ? { ...step, space: 0, at: 0x2004 } : step)),
  addresses: [
    {
      title: 'edu1, 0x4000', domain: 'edu1 is in group 1, which is on HWPT 6 of IOAS 2', outcome: '0x4000 is not reached: not present at <level> 1',
      entries: [{ name: 'ContextEntry.low', at: 0x1000, value: '0x0000000000001001' }, { name: 'Level1', at: 0x2000, value: '0x0000000000000000' }],
      cached: [{ text: 'IOTLB: frame 0x9', stale: true }, { text: 'entry cache: a line of the requester', stale: false }],
    },
    { title: 'edu2, 0x4000', domain: 'blocked', outcome: 'the entry blocks the device', entries: [], cached: [] },
  ],
};

test('of every address the entries are there, those of the schedule with their step; and what is stale in a cache is marked', () => {
  const page = reportPage(withAddresses);
  expect(page.match(/<section class="address">/g)).toHaveLength(2);
  expect(page.match(/<li class="stale">[^]*?<\/li>/g)).toEqual(['<li class="stale">IOTLB: frame 0x9 <b>stale: the tables do not say so</b></li>']);
  expect(page.match(/data-row="(\d+)"/g)).toEqual(['data-row="13"']);
  expect(page).toContain('written last at step 14, by vmm-a');
  expect(page).toContain('no cache holds anything of it');
  expect(page).not.toContain('<level>');
  expect(reportPage(interleaved)).not.toContain('class="address"');
});

describe.skipIf(chromium === undefined)('in a browser (needs Debian\'s chromium; skipped where there is none)', () => {
  test('the script runs under the policy, the cursor stands at the first write that matters, and nothing is said', () => {
    const { dom, console } = open(reportPage(interleaved));
    expect(console).toEqual([]);
    expect(dom).toMatch(/<pre id="now"[^>]*>step 3, vmm-a: Group\.domain/);
    expect(dom).toMatch(/<tr class="told at">/);
  });

  test('an entry of a page table leads to the step that wrote it, by the keyboard too, and nothing is said', () => {
    const entry = "document.querySelector('[data-row]')";
    for (const act of [`${entry}.focus()`, `${entry}.dispatchEvent(new PointerEvent('pointerenter'))`, `${entry}.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }))`]) {
      const page = reportPage(withAddresses).replace(/<meta http-equiv[^>]*>/, '').replace('</body>', `<script>${act}</script></body>`);
      const { dom, console } = open(page);
      expect(console).toEqual([]);
      expect(dom).toMatch(/<pre id="now"[^>]*>step 14, vmm-a: Igroup\.hwpt/);
    }
  });

  test('the page is no wider than a small screen', () => {
    const probe = '<script>document.title = String(document.documentElement.scrollWidth)</script>';
    const page = reportPage({ ...crowded, addresses: withAddresses.addresses! }).replace(/<meta http-equiv[^>]*>/, '').replace('</body>', `${probe}</body>`);
    const { dom } = open(page, '--window-size=500,900');
    expect(Number(/<title>(\d+)<\/title>/.exec(dom)![1])).toBeLessThanOrEqual(500);
  });
});
