/**
 * A shrunk failure as text: what broke, what each actor did, who was paused where, and how to see it again.
 *
 * At most 25 lines, readable at 80 columns; only the token may be longer. No colour: who prints it may add some.
 */
import { explainDisagreement } from './disagreement.ts';
import type { Failure } from './failure.ts';
import { contended, lockSpans } from './lock-spans.ts';
import { pauses } from './pauses.ts';
import { actorsThatMatter, rowsThatMatter, type Row } from './rows.ts';
import { wrap } from './wrap.ts';

const columns = 80;
const mostLines = 25;
/** The heading of the table, the line about what was left out, empty lines, the token, the command. */
const fixedLines = 7;

/** The lines of the story. */
export function tellStory(failure: Failure): string[] {
  const { scenario, variant, violation, token } = failure;
  const actors = actorsThatMatter(failure);
  const spans = contended(lockSpans(failure.steps), actors);
  const held = pauses(failure);
  const verdict = [
    ...wrap(`${violation.invariant} in ${scenario}, ${variant}: ${violation.message}`, columns, '  '),
    ...wrap(`The claim: ${violation.claim}`, columns, '  '),
  ];
  const why = explainDisagreement(failure, spans).flatMap((line) => wrap(line, columns, '    '));
  const room = Math.max(4, mostLines - fixedLines - verdict.length - why.length);
  const { rows, leftOut } = rowsThatMatter(failure, spans, held, room);
  return [
    ...verdict,
    '',
    ...table(actors, rows),
    ...(leftOut > 0 ? [`       (${leftOut} more in the trace)`] : []),
    '',
    ...why,
    ...(why.length > 0 ? [''] : []),
    `token   ${token}`,
    `replay  dmarena replay ${token}${failure.replayFlags ?? ''}`,
  ];
}

/** A column for each of up to two actors where all fits into the columns; else the actor's name in each line. */
function table(actors: readonly string[], rows: readonly Row[]): string[] {
  const width = Math.floor((columns - 7) / Math.max(1, actors.length));
  if (actors.length > 2 || rows.some(({ text }) => text.length >= width)) return list(actors, rows);
  const line = (step: string, cells: readonly string[]): string =>
    `${step.padStart(5)}  ${cells.map((cell) => cell.padEnd(width)).join('')}`.trimEnd();
  return [
    line('step', actors),
    ...rows.map((row) => line(`${row.step}`, actors.map((actor) => (actor === row.actor ? row.text : '')))),
  ];
}

function list(actors: readonly string[], rows: readonly Row[]): string[] {
  const width = Math.min(16, Math.max(5, ...actors.map((actor) => actor.length)));
  const line = (step: string, actor: string, text: string): string =>
    fit(`${step.padStart(5)}  ${fit(actor, width).padEnd(width)}  ${text}`, columns).trimEnd();
  return [line('step', 'actor', ''), ...rows.map((row) => line(`${row.step}`, row.actor, row.text))];
}

const fit = (text: string, width: number): string => (text.length <= width ? text : `${text.slice(0, width - 3)}...`);
