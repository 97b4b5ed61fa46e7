/**
 * The memory of the recorded program, page by page, and what is known of what the program wrote there.
 *
 * A recording tells the contents of the pages that an IOAS_LABEL speaks of, not those of others. Every page is filled with a
 * mark of its own when it is mapped; the first read that reaches an unnamed page gives it the name that the recording reads
 * there, and from then on the page has to be that one and no other.
 */
import { fill, peek, poke } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';

interface Page {
  readonly at: number;
  /** What a read of its start shows, in the recording's words; null before anything is known. */
  name: string | null;
}

/** The high byte of a mark; the number of the page is below. */
const mark = 0xa5000000 | 0;
const lineBytes = 64;
const pageBytes = 4096;

/** What a read of 64 bytes or less brought: a name, or the number of a page that has none. */
export type Contents = { readonly name: string } | { readonly unnamed: number };

export class ProgramPages {
  readonly #ram: Memory;
  readonly #pages: Page[] = [];

  constructor(ram: Memory) {
    this.#ram = ram;
  }

  /** A page that the program just mapped, at an address in RAM. */
  add(at: number): void {
    // The frame may have been another page's before.
    const gone = this.#pages.find((page) => page.at === at);
    if (gone !== undefined) this.#pages[this.#pages.indexOf(gone)] = { at: -1, name: gone.name };
    fill(this.#ram, at, pageBytes, mark | this.#pages.length);
    this.#pages.push({ at, name: null });
  }

  /** The program fills the page with lines that begin with a tag and tell their offset. */
  writeTag(at: number, tag: string): void {
    const page = this.#pages.find((one) => one.at === at);
    if (page !== undefined) page.name = tag;
    for (let offset = 0; offset < pageBytes; offset += lineBytes) {
      this.#writeLine(at + offset, `${tag} off=${offset.toString(16).padStart(4, '0')} `);
    }
  }

  /** From now on the page reads as the recording says. False when another page is that one. */
  learn(unnamed: number, name: string): boolean {
    const page = this.#pages[unnamed]!;
    const isTag = name.startsWith('TAG-');
    if (isTag && this.#pages.some((other) => other.name === name)) return false;
    page.name = name;
    if (isTag) this.#writeLine(page.at, `${name} `);
    else if (name === 'zeros') fill(this.#ram, page.at, pageBytes, 0);
    return true;
  }

  /** What the words that a read brought from an IOVA are. */
  recognise(words: readonly number[], iova: bigint): Contents {
    const tag = /^TAG-[A-Z0-9-]+/.exec(textOf(words));
    if (tag !== null) return { name: tag[0] };
    if (words.every((word) => word === 0)) return { name: 'zeros' };
    const number = words[0]! & 0xffffff;
    const isUnnamed = (words[0]! & 0xff000000) === mark && this.#pages[number]?.name === null && iova % 4096n === 0n;
    return isUnnamed ? { unnamed: number } : { name: 'other' };
  }

  /** Whether a page that begins so is still as it was; where none is known by that name, whether all unnamed pages are. */
  isIntact(head: string): boolean {
    const named = this.#pages.filter(({ at, name }) => at >= 0 && name !== null && head.startsWith(name));
    if (named.length > 0) return named.some(({ at }) => textOf(this.#words(at, head.length)).startsWith(head));
    return this.#pages.every(({ at, name }, number) => at < 0 || name !== null || this.#words(at, pageBytes).every((word) => word === (mark | number)));
  }

  #words(at: number, bytes: number): number[] {
    return Array.from({ length: Math.ceil(bytes / 4) }, (_, i) => peek(this.#ram, at + i * 4));
  }

  #writeLine(at: number, text: string): void {
    const line = text.padEnd(lineBytes, '.');
    for (let i = 0; i < lineBytes; i += 4) poke(this.#ram, at + i, wordOf(line, i));
  }
}

/** Four characters as a little-endian word. */
const wordOf = (text: string, at: number): number =>
  text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8) | (text.charCodeAt(at + 2) << 16) | (text.charCodeAt(at + 3) << 24);

const textOf = (words: readonly number[]): string =>
  words.map((word) => String.fromCharCode(word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, word >>> 24)).join('');
