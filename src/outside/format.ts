/** A page-table format from outside: what `hostmem/page-table.ts` asks for, in numbers that it can work with. */
import type { PageTableFormat } from '#hostmem/page-table-format';
import { InputError } from '../input-error.ts';
import { checkMembers, plainFunction, wholeNumber, type Member } from './shape.ts';

const bitOrNone: Member = { needs: 'the bit of an entry\'s low word, or 0', fits: (value) => Number.isInteger(value) };

const yesOrNo: Member = { needs: 'true or false', fits: (value) => typeof value === 'boolean' };

/** Without `plain`, which is for formats whose speed matters. */
const members: Readonly<Record<Exclude<keyof PageTableFormat, 'plain'>, Member>> = {
  name: { needs: 'a name of letters, digits and -', fits: (value) => typeof value === 'string' && /^[A-Za-z][\w-]*$/.test(value) },
  levels: wholeNumber(3, 6),
  inputBits: wholeNumber(33, 64),
  outputBits: wholeNumber(33, 56),
  signExtended: yesOrNo,
  largestLeaf: wholeNumber(1, 5),
  accessedBit: bitOrNone,
  marksTables: yesOrNo,
  dirtyBit: bitOrNone,
  cleanBit: bitOrNone,
  needsMarks: yesOrNo,
  labels: { needs: 'a list of labels by level (index 0 is unused), made by label()', fits: (value) => Array.isArray(value) && value.every(Number.isInteger) },
  inspect: plainFunction,
  frameOf: plainFunction,
  leafHigh: plainFunction,
  leafLow: plainFunction,
  tableHigh: plainFunction,
  tableLow: plainFunction,
};

/** A file holds one format or a list of them. Throws `InputError`. */
export function checkFormats(path: string, value: unknown): PageTableFormat[] {
  const formats = Array.isArray(value) ? value : [value];
  if (formats.length === 0) throw new InputError(`${path}: the list of formats is empty; return one format, or a list of them`);
  for (const one of formats) checkFormat(path, one);
  return formats as PageTableFormat[];
}

function checkFormat(path: string, value: unknown): void {
  checkMembers(path, 'a format', value, members);
  const { name, levels, inputBits, labels } = value as PageTableFormat;
  const widest = 12 + 9 * levels;
  if (inputBits > widest || inputBits <= widest - 9) {
    throw new InputError(`${path}: format '${name}' has ${levels} levels of 512 entries, which are ${widest - 8} to ${widest} bits of IOVA, not ${inputBits}`);
  }
  if (labels.length !== levels + 1) {
    throw new InputError(`${path}: format '${name}' has ${labels.length} labels; ${levels} levels need ${levels + 1} (index 0 is unused)`);
  }
}
