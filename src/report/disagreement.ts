/**
 * Why two words disagree: who wrote each of them last, and which lock was, or was not, held over both writes.
 */
import { writes, type ConflictingWord, type Failure, type FoundWord, type TraceStep } from './failure.ts';
import { covers, lockSpans, type LockSpan } from './lock-spans.ts';

/** As hexadecimal from 10 on: ids stay readable, addresses too. */
export function formatValue(value: number): string {
  return value >= 0 && value < 10 ? `${value}` : `0x${(value >>> 0).toString(16)}`;
}

export const sameWord = (a: { space: number; at: number }, b: { space: number; at: number }): boolean =>
  a.space === b.space && a.at === b.at;

/** One line a word, then one for the writer whose two writes lie farthest apart: the other's are between them. */
export function explainDisagreement(failure: Failure, spans: readonly LockSpan[]): string[] {
  const { conflicts, found = [] } = failure;
  if (conflicts.length === 0) return explainFound(found, lockSpans(failure.steps));
  const width = Math.max(...conflicts.map((word) => word.label.length));
  const lines = conflicts.map((word) => `  ${word.label.padEnd(width)} = ${describeWord(word, spans)}`);
  if (conflicts.length === 1) return ['The word that is wrong:', ...lines];
  const widest = writers(conflicts).sort((a, b) => reach(failure, b) - reach(failure, a))[0];
  if (widest !== undefined) lines.push(`  ${describeWriter(failure, spans, widest)}`);
  return ['The words that disagree:', ...lines];
}

/** What somebody had read before it broke, who had left it so, and under which locks each of them was. */
function explainFound(found: readonly FoundWord[], spans: readonly LockSpan[]): string[] {
  if (found.length === 0) return [];
  const lines = found.flatMap((word) => {
    const { label, write, read } = word;
    const [writer, reader] = [write, read].map(({ actor, step }) => heldOver(spans, actor, step, step)) as [string[], string[]];
    const shared = writer.filter((lock) => reader.includes(lock));
    const together = shared.length === 0 ? 'no lock of both' : `both under ${shared.join(', ')}`;
    const state = word.freed === true ? `the object of ${label} was given back` : `${label} = ${word.means ?? formatValue(word.value)}`;
    return [
      `  ${state}, by ${write.actor} at step ${write.step}, ${under(writer)};`,
      `  ${read.actor} ${word.freed === true ? 'had used' : 'read'} it at step ${read.step}, ${under(reader)}: ${together}.`,
    ];
  });
  return [`What ${found[0]!.read.actor} went on with, as others had left it:`, ...lines];
}

const under = (locks: readonly string[]): string => (locks.length === 0 ? 'under no lock' : `under ${locks.join(', ')}`);

function describeWord(word: ConflictingWord, spans: readonly LockSpan[]): string {
  const write = word.lastWrite;
  if (write === null) return `${word.means ?? 'its first value'}, as at the start: nobody wrote it`;
  const held = heldOver(spans, write.actor, write.step, write.step);
  return `${word.means ?? formatValue(write.value)}, by ${write.actor} at step ${write.step}, ${under(held)}`;
}

/** Actors that wrote one of the words last, each once. */
export function writers(conflicts: readonly ConflictingWord[]): string[] {
  return [...new Set(conflicts.flatMap((word) => (word.lastWrite === null ? [] : [word.lastWrite.actor])))];
}

function describeWriter(failure: Failure, spans: readonly LockSpan[], actor: string): string {
  const { conflicts } = failure;
  const written = conflicts.map((word) => lastWriteBy(failure.steps, actor, word));
  const missing = conflicts.filter((_, index) => written[index] === undefined);
  if (missing.length > 0) return `${actor} never wrote ${missing.map((word) => word.label).join(', ')}.`;
  const steps = written.map((step) => step!.step);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const held = heldOver(spans, actor, first, last);
  if (held.length > 0) return `${actor} held ${held.join(', ')} from one write to the other (steps ${first} to ${last}).`;
  const dropped = spans.find((span) => span.actor === actor && covers(span, first, first));
  if (dropped === undefined) return `${actor} held no lock at its writes (steps ${first}, ${last}).`;
  return `${actor} let go of ${dropped.label} (step ${dropped.to}) between its writes (${first}, ${last}).`;
}

/** Steps between an actor's last writes of the words. An actor that never wrote one of them explains most. */
function reach({ steps, conflicts }: Failure, actor: string): number {
  const written = conflicts.map((word) => lastWriteBy(steps, actor, word)?.step);
  return written.includes(undefined) ? Infinity : Math.max(...(written as number[])) - Math.min(...(written as number[]));
}

function lastWriteBy(steps: readonly TraceStep[], actor: string, word: ConflictingWord): TraceStep | undefined {
  return steps.findLast((step) => step.actor === actor && writes(step.op) && sameWord(step, word));
}

function heldOver(spans: readonly LockSpan[], actor: string, first: number, last: number): string[] {
  return spans.filter((span) => span.actor === actor && covers(span, first, last)).map((span) => span.label);
}
