/**
 * `dmarena replay`: runs the schedule of a token again, as often as asked, and compares the trace hashes.
 */
import { InputError } from '../input-error.ts';
import { wrap } from '../report/wrap.ts';
import { writeReport } from '../report/write-report.ts';
import type { TokenFiles } from '../chosen.ts';
import type { ReplayResult } from '../results.ts';
import type { Terminal } from '../terminal.ts';
import type { Told } from './explore.ts';

export interface ReplayOptions extends TokenFiles {
  readonly token: string | undefined;
  readonly times: number;
  readonly out: string | null;
}

/** 0 when the replay holds, 1 when it breaks an invariant again. Throws when two replays differ: that is our bug. */
export async function replay({ token, times, out, ...files }: ReplayOptions, terminal: Terminal): Promise<number> {
  if (token === undefined || token.trim() === '') {
    throw new InputError(`replay needs a token; 'dmarena explore <scenario>' prints one when it finds a violation`);
  }
  const { story, failure = null, note = null, ...result } = await replayOf(token.trim(), times, files);
  if (note !== null) terminal.say(terminal.style('yellow', note));
  terminal.say(...summary(result, terminal), ...(story.length > 0 ? ['', ...story] : []));
  if (out !== null) terminal.say('', `written: ${writeReport(out, result, story, failure).join(', ')}`);
  terminal.answer(result);
  if (result.hashes.length > 1) throw new Error(`${times} replays gave ${result.hashes.length} hashes; please report this token`);
  return result.violation === null ? 0 : 1;
}

/** `note` says what to know before believing the answer: the token comes from other code. */
export async function replayOf(token: string, times: number, files: TokenFiles = {}): Promise<Told<ReplayResult> & { readonly note?: string | null }> {
  const composition = await import('../explore.ts');
  return composition.replay({ token, times, ...files });
}

/** How many hashes the replays gave, and whether they broke anything. */
export function summary({ times, hashes, violation }: ReplayResult, terminal: Terminal): string[] {
  const one = hashes.length === 1;
  const count = `${times} ${times === 1 ? 'replay' : 'replays'}, ${hashes.length} ${one ? 'hash' : 'different hashes'}`;
  const verdict =
    violation === null
      ? [terminal.style('green', 'no violation')]
      : wrap(`violation ${violation.invariant}: ${violation.message}`, 80, '  ');
  return [terminal.style(one ? 'green' : 'red', `${count}: ${hashes.slice(0, 4).join(', ')}`), ...verdict];
}
