/**
 * Labels name the places where threads touch shared memory: `Group.domain`, `Igroup.lock`.
 *
 * A label travels through shared memory as a number. The number is a hash of the text, never the order of loading:
 * workers load different modules and still have to agree.
 */

const texts = new Map<number, string>();

/** The number of a label (31 bits, not 0). Throws when two texts share one: rename the younger. */
export function label(text: string): number {
  const number = hashText(text) >>> 1 || 1;
  const known = texts.get(number);
  if (known !== undefined && known !== text) throw new Error(`labels '${known}' and '${text}' have the same number; rename one`);
  texts.set(number, text);
  return number;
}

/** The label of a block that is given back to the heap, in a trace. */
export const freedText = 'free';

const marked = new Set<string>();

/** The label of words that are plain on purpose, such as a cache's, which hardware reads and writes beside whoever invalidates it. */
export function markedLabel(text: string): number {
  marked.add(text);
  return label(text);
}

export const isMarkedLabel = (text: string): boolean => marked.has(text);

/** The text of a label's number, or its hex form when this thread never loaded the module that made it. */
export function labelText(number: number): string {
  return texts.get(number) ?? `label 0x${number.toString(16)}`;
}

/** FNV-1a with a finishing mix, 32 bits. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return mix32(hash);
}

/** A bijective 32-bit mix (the finaliser of MurmurHash3). */
export const mix32 = (value: number): number => mixSigned(value) >>> 0;

/** The same 32 bits as a signed number: one of 2^31 and more is an object on the heap, unless the compiler sees it used at once. */
export function mixSigned(value: number): number {
  let v = value;
  v = Math.imul(v ^ (v >>> 16), 0x85ebca6b);
  v = Math.imul(v ^ (v >>> 13), 0xc2b2ae35);
  return v ^ (v >>> 16);
}
