/** The answer to a question as a person reads it: a row a line, with median, spread, throughput and a bar. */
import type { Measured } from './result.ts';

const barWidth = 12;

export function table(asks: string, rows: readonly Measured[]): string {
  const width = Math.max(...rows.map((row) => row.case.length));
  const longest = Math.max(...rows.map(({ unit, median }) => (unit === 'ns/op' ? median : 0)));
  return [`${rows[0]?.name ?? ''}: ${asks}`, ...rows.map((row) => `  ${row.case.padEnd(width)}  ${figures(row, longest)}`)].join('\n');
}

function figures(row: Measured, longest: number): string {
  const { unit, median, p10, p90 } = row;
  const [suffix, divisor] = unit === 'ns/op' ? timeUnit(median) : [unit === 'op/s' ? '/s' : ' x', 1];
  const value = `${digits(median / divisor).padStart(9)} ${suffix}`;
  const spread = `${digits(p10 / divisor)} to ${digits(p90 / divisor)}`.padEnd(20);
  const rate = unit === 'ns/op' ? `${short(1e9 / median).padStart(7)}/s  ${bar(median / longest)}` : ''.padStart(11 + barWidth);
  return `${value}  ${spread}${rate}  ${comparisons(row)}`.trimEnd();
}

function comparisons({ unit, against, ratio, mib, overBefore }: Measured): string {
  const memory = mib === undefined ? [] : [`${digits(mib)} MiB a thread`];
  const beside = against === undefined || ratio === undefined ? [] : [unit === 'ratio' ? `of ${against}` : `${digits(ratio)} x ${against}`];
  return [...memory, ...beside, ...(overBefore === undefined ? [] : [`${digits(overBefore)} x before`])].join(', ');
}

/** Of the longest time of the table; whatever is measured shows. */
const bar = (share: number): string => '█'.repeat(Math.max(1, Math.round(share * barWidth))).padEnd(barWidth);

const timeUnit = (ns: number): readonly [string, number] => (ns < 1e5 ? ['ns', 1] : ns < 1e8 ? ['us', 1e3] : ['ms', 1e6]);

/** Three digits that count: below 10 % is noise. */
const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

function short(value: number): string {
  const [unit, divisor] = value >= 1e9 ? ['G', 1e9] : value >= 1e6 ? ['M', 1e6] : value >= 1e3 ? ['k', 1e3] : ['', 1];
  return `${digits(value / (divisor as number))} ${unit}`;
}
