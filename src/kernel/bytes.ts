/** Bytes of owned RAM, at any address: for what a system call copies between a user's buffer and memory. */
import { peek, poke } from '#hostmem/atomics';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';

export function readBytes(ram: Memory, at: number, into: Uint8Array): void {
  for (let i = 0; i < into.length; i++) into[i] = peek(ram, (at + i) & ~3) >>> (((at + i) & 3) * 8);
}

export function writeBytes(ram: Memory, at: number, from: Uint8Array): void {
  for (let i = 0; i < from.length; i++) {
    const word = (at + i) & ~3;
    const shift = ((at + i) & 3) * 8;
    poke(ram, word, (peek(ram, word) & ~(0xff << shift)) | (from[i]! << shift));
  }
}

/** A page's contents. */
export function copyFrame(ram: Memory, from: Frame, to: Frame): void {
  for (let offset = 0; offset < pageBytes; offset += 4) poke(ram, hpaOf(to) + offset, peek(ram, hpaOf(from) + offset));
}
