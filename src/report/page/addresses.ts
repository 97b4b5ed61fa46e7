/**
 * Where addresses led when the schedule had failed: for each the entries that hardware reads, in their order, and what caches held of it. An entry that
 * somebody wrote in the schedule leads to the step in which that was done last.
 */
import { Space } from '#hostmem/memory';
import { writes, type AddressState, type Failure } from '../failure.ts';
import { escapeText } from './escape.ts';

export function addresses(failure: Failure): string {
  const states = failure.addresses ?? [];
  if (states.length === 0) return '';
  return `<h2>Where addresses led at that moment</h2>\n${states.map((state) => draw(failure, state)).join('\n')}`;
}

function draw(failure: Failure, { title, domain, entries, outcome, cached }: AddressState): string {
  const lines = cached.map(({ text, stale }) => `<li${stale ? ' class="stale"' : ''}>${escapeText(text)}${stale ? ' <b>stale: the tables do not say so</b>' : ''}</li>`);
  return `<section class="address"><h3>${escapeText(title)}</h3><p class="dim">${escapeText(domain)}</p>
<ol class="way">${entries.map((entry) => drawEntry(failure, entry)).join('')}<li class="end">${escapeText(outcome)}</li></ol>
<ul class="lines">${lines.length === 0 ? '<li>no cache holds anything of it</li>' : lines.join('')}</ul></section>`;
}

function drawEntry({ steps }: Failure, { name, at, value }: AddressState['entries'][number]): string {
  const row = steps.findLastIndex((step) => step.space === Space.RAM && step.at >= at && step.at < at + 8 && writes(step.op));
  const parts = [name, `0x${at.toString(16)}`, value].map((text) => `<span>${escapeText(text)}</span>`).join('');
  if (row < 0) return `<li>${parts}</li>`;
  return `<li tabindex="0" data-row="${row}">${parts}<small>written last at step ${steps[row]!.step}, by ${escapeText(steps[row]!.actor)}</small></li>`;
}
