/** An answer as a person reads it. */
import type { Answer, Figure } from './question.ts';

export function table({ name, asks, checksum, figures }: Answer): string {
  const width = Math.max(...figures.map((figure) => figure.name.length));
  const lines = figures.map((figure) => `  ${figure.name.padEnd(width)}  ${digits(figure.nsPerOperation).padStart(9)} ns${ratio(figure)}`);
  return [`${name}: ${asks}`, ...lines, `  checksum ${checksum.toString(16).padStart(8, '0')}`].join('\n');
}

function ratio(figure: Figure): string {
  return figure.ratio === null ? '' : `  ${digits(figure.ratio).padStart(7)} x ${figure.against}`;
}

/** Three digits that count: below 10 % is noise. */
function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
