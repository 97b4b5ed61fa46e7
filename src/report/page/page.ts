/**
 * A failure as one page: the verdict, the drawing, the words that disagree, every step. It is complete in itself: it loads nothing, and its policy
 * lets nothing be loaded.
 */
import { createHash } from 'node:crypto';
import { writes, type Failure, type TraceStep } from '../failure.ts';
import { explainDisagreement, formatValue, sameWord } from '../disagreement.ts';
import { contended, covers, lockSpans } from '../lock-spans.ts';
import { describePause, pauses } from '../pauses.ts';
import { addresses } from './addresses.ts';
import { escapeText } from './escape.ts';
import { script } from './script.ts';
import { style } from './style.ts';
import { drawTimeline, palette, type Timeline } from './timeline.ts';

export function reportPage(failure: Failure): string {
  const { violation, scenario, variant } = failure;
  const timeline = drawTimeline(failure);
  const policy = `default-src 'none'; style-src ${hashOf(style)}; script-src ${hashOf(script)}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${escapeText(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeText(`${violation.invariant} in ${scenario}, ${variant}`)}</title>
<style>${style}</style>
</head>
<body>
<h1><b>${escapeText(violation.invariant)}</b> in ${escapeText(scenario)}, ${escapeText(variant)}: ${escapeText(violation.message)}</h1>
<p class="dim">The claim: ${escapeText(violation.claim)}</p>
${howItHappened(failure)}
<h2>Step by step</h2>
${drawing(timeline)}
<pre id="now" aria-live="polite"></pre>
${disagreement(failure)}
${addresses(failure)}
<h2>Again</h2>
<pre>dmarena replay ${escapeText(failure.token)}${escapeText(failure.replayFlags ?? '')}</pre>
<h2>All ${failure.steps.length} steps</h2>
${table(failure)}
<script type="application/json" id="data">${data(failure)}</script>
<script>${script}</script>
</body>
</html>
`;
}

/** As a policy writes it. */
const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

function howItHappened(failure: Failure): string {
  const held = pauses(failure);
  if (held.length === 0) return '<p>It takes no switch: the actors run one after the other.</p>';
  return `<ul>${held.map((pause) => `<li>${escapeText(`step ${pause.afterStep}: ${describePause(pause)}`)}</li>`).join('')}</ul>`;
}

function drawing({ svg, lanes, locks, owners }: Timeline): string {
  // Heights as attributes: the policy allows no style of an element's own.
  const names = lanes.map(({ name, heightPx }) => `<svg width="1" height="${heightPx}" aria-hidden="true"></svg><span>${escapeText(name)}</span>`);
  const key = (shape: string, text: string): string => `<span><svg width="14" height="12" aria-hidden="true">${shape}</svg>${text}</span>`;
  return `<div class="drawing"><div class="names">${names.map((name) => `<div>${name}</div>`).join('')}</div>
<div class="scroll" tabindex="0" aria-label="The steps; arrow keys move the cursor, Page Up and Page Down go to the next actor">${svg}</div></div>
<div class="legend">
${key('<rect class="run" x="0" y="1" width="14" height="9"/>', 'runs')}
${key('<circle class="event" cx="7" cy="6" r="4"/>', 'event')}
${key('<path class="write" d="M7 0L13 6L7 12L1 6Z"/>', 'writes a word that disagrees')}
${key('<line class="pause" x1="0" x2="14" y1="6" y2="6"/>', 'is held')}
${key('<rect class="window" x="0" y="0" width="14" height="12"/>', 'the words disagree')}
${locks.map((label, colour) => key(`<rect class="lock c${colour % palette}" x="0" y="4" width="14" height="5"/>`, `holds ${escapeText(label)}`)).join('\n')}
${[...owners].map(([owner, colour]) => key(`<circle class="dma c${colour % palette}" cx="7" cy="6" r="4"/>`, `DMA: ${escapeText(owner)}`)).join('\n')}
<span>Arrow keys, hover or a row of the table: one step</span></div>`;
}

function disagreement(failure: Failure): string {
  const lines = explainDisagreement(failure, contended(lockSpans(failure.steps), failure.actors));
  return lines.length === 0 ? '' : `<h2>${escapeText(lines[0]!.replace(/:$/, ''))}</h2><pre>${escapeText(lines.slice(1).join('\n'))}</pre>`;
}

function table(failure: Failure): string {
  const rows = failure.steps.map((step) => {
    const told = failure.conflicts.some((word) => writes(step.op) && sameWord(word, step));
    return `<tr${told ? ' class="told"' : ''}><td>${step.step}</td><td>${escapeText(step.actor)}</td><td class="mono">${escapeText(textOf(step))}</td></tr>`;
  });
  return `<div class="table" tabindex="0"><table><thead><tr><th>step</th><th>actor</th><th>operation</th></tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`;
}

function textOf({ op, label, value, means }: TraceStep): string {
  const shown = means ?? formatValue(value);
  if (op === 'LOAD' || op === 'READ') return `${label} is ${shown}`;
  if (writes(op)) return `${label} := ${shown}`;
  return `${op.toLowerCase()} ${label}`.trim();
}

/** What the page's script reads; `<` is written so that no text can end the element. */
function data(failure: Failure): string {
  const spans = contended(lockSpans(failure.steps), failure.actors);
  const steps = failure.steps.map((step) => [step.step, step.actor, textOf(step)]);
  const held = failure.steps.map(({ step }) => spans.filter((span) => covers(span, step, step)).map((span) => `${span.actor} ${span.label}`).join(', '));
  return JSON.stringify({ steps, held }).replaceAll('<', '\\u003c');
}
