/**
 * Text within a width.
 */

/** Breaks a line between words; the lines after the first are indented. */
export function wrap(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const [index, word] of text.split(' ').entries()) {
    if (index > 0 && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent + word;
    } else {
      line = index === 0 ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
