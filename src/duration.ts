/**
 * Durations as they are written on the command line: `500ms`, `10s`, `2m`, `1h`.
 */
import { InputError } from './input-error.ts';

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** A timer cannot wait longer: 2^31 - 1 ms. */
const longestMs = 2 ** 31 - 1;

/** Whole milliseconds, at least 1. Throws `InputError`, which names the flag. */
export function parseDuration(text: string, flag: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text.trim());
  const ms = match === null ? NaN : Math.round(Number(match[1]) * unitMs[match[2]!]!);
  if (!(ms >= 1)) throw new InputError(`${flag} '${text}' is not a duration above zero; write it as 500ms, 10s or 2m`);
  if (ms > longestMs) throw new InputError(`${flag} '${text}' is longer than a timer can wait; the most is 24 days (576h)`);
  return ms;
}

/** `0.8 s`, `12 s`, `3 min 20 s`: for people. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
