/**
 * Many bytes at once, as C's `memcpy` moves them. `TypedArray.set` and `fill` take shared memory a word at a time in V8, two to four times as slow; Node copies the
 * pattern of `Buffer.prototype.fill` by `memcpy`, into whatever bytes it is called on.
 *
 * For memory that nobody else is writing, or that may be seen half written, as data under a device's DMA may.
 */
declare const Buffer: { readonly prototype: { readonly fill: (this: Uint8Array, pattern: Uint8Array, at: number, end: number) => unknown } };

const fillWith = Buffer.prototype.fill;

/** Copies the first `sizeBytes` of `from` to `at`: not more than it has, and not onto itself. */
export function moveBytes(to: Uint8Array, at: number, from: Uint8Array, sizeBytes: number): void {
  fillWith.call(to, from, at, at + sizeBytes);
}
