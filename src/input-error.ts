/**
 * What the user can mend: the message is the one line that is printed, saying what, where and what to do. Exit 2.
 */
export class InputError extends Error {
  override readonly name = 'InputError';
}

/** For a name that is not among the known ones: names the nearest, or all of them. */
export function unknownName(kind: string, given: string, known: readonly string[]): InputError {
  const near = nearest(given, known);
  const hint = near === null ? `known: ${known.join(', ')}` : `did you mean '${near}'? Known: ${known.join(', ')}`;
  return new InputError(`unknown ${kind} '${given}'; ${known.length === 0 ? 'there is none' : hint}`);
}

/** The known name that is fewest edits away, if that is at most a third of the letters. */
function nearest(given: string, known: readonly string[]): string | null {
  let best: string | null = null;
  let fewest = Math.max(2, Math.floor(given.length / 3)) + 1;
  for (const name of known) {
    const edits = distance(given.toLowerCase(), name.toLowerCase());
    if (edits < fewest) {
      fewest = edits;
      best = name;
    }
  }
  return best;
}

/** How many letters to insert, drop or change to come from one word to the other (Levenshtein). */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const change = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[to.length]!;
}
