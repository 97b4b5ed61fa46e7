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
  const value = `${digits(median).padStart(9)} ${unit === 'ns/op' ? 'ns' : unit === 'op/s' ? '/s' : ' x'}`;
  const spread = `${digits(p10)} to ${digits(p90)}`.padEnd(20);
  const rate = unit === 'ns/op' ? `${short(1e9 / median).padStart(7)}/s  ${bar(median / longest)}` : ''.padStart(11 + barWidth);
  return `${value}  ${spread}${rate}  ${comparisons(row)}`.trimEnd();
}

function comparisons({ unit, against, ratio, overBefore }: Measured): string {
  const beside = against === undefined || ratio === undefined ? [] : [unit === 'ratio' ? `of ${against}` : `${digits(ratio)} x ${against}`];
  return [...beside, ...(overBefore === undefined ? [] : [`${digits(overBefore)} x before`])].join(', ');
}

/** Of the longest time of the table; whatever is measured shows. */
const bar = (share: number): string => '█'.repeat(Math.max(1, Math.round(share * barWidth))).padEnd(barWidth);

/** Three digits that count: below 10 % is noise. */
const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

function short(value: number): string {
  const [unit, divisor] = value >= 1e9 ? ['G', 1e9] : value >= 1e6 ? ['M', 1e6] : value >= 1e3 ? ['k', 1e3] : ['', 1];
  return `${digits(value / (divisor as number))} ${unit}`;
}
