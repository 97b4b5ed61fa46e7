/**
 * Where text goes: with `--json` stdout carries one object (or one a line) and nothing else, so text goes to stderr; progress always does.
 */
import { once } from 'node:events';
import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** How often a progress line appears where it cannot be rewritten in place. */
const pipedProgressMs = 5_000;

export class Terminal {
  readonly #json: boolean;
  readonly #stream: NodeJS.WriteStream;
  #progressShown = false;
  #progressAt = 0;

  constructor(json: boolean) {
    this.#json = json;
    this.#stream = json ? process.stderr : process.stdout;
  }

  /** Prints lines of text. */
  say(...lines: readonly string[]): void {
    this.#clearProgress();
    for (const line of lines.length === 0 ? [''] : lines) this.#stream.write(`${line}\n`);
  }

  /** A heading, with an empty line before it. */
  heading(text: string): void {
    this.say('', this.style('bold', text));
  }

  /** Text in colour, where the reader's terminal shows colours. */
  style(style: Style, text: string): string {
    return styleText(style, text, { stream: this.#stream });
  }

  /** One line that says how far it is: rewritten in place on a terminal, seldom repeated on a pipe. */
  progress(line: string): void {
    const now = Date.now();
    if (process.stderr.isTTY) {
      process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
      this.#progressShown = true;
    } else if (now - this.#progressAt >= pipedProgressMs) {
      if (this.#progressAt !== 0) process.stderr.write(`${line}\n`);
      this.#progressAt = now;
    }
  }

  /** Prints the answer as one object, if `--json` asked for it. */
  answer(result: object): void {
    this.#clearProgress();
    if (this.#json) process.stdout.write(`${JSON.stringify(result)}\n`);
  }

  /** Answers that are a line each: objects if `--json` asked for them, else as `describe` tells them. Waits until the reader has kept up. */
  async answerEach<R extends object>(results: readonly R[], describe: (result: R) => string): Promise<void> {
    const text = results.map((result) => `${this.#json ? JSON.stringify(result) : describe(result)}\n`).join('');
    if (!process.stdout.write(text)) await once(process.stdout, 'drain');
  }

  #clearProgress(): void {
    if (this.#progressShown) process.stderr.write('\r\x1b[K');
    this.#progressShown = false;
    this.#progressAt = 0;
  }
}
