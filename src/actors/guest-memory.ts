/** Guest physical addresses as the CPU's second stage resolves them: no system call, no lock, no point. */
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import type { Actor } from './actor.ts';

/** The host physical address of a guest's gpa. */
export function guestAddress(actor: Actor, guest: string, gpa: number): number {
  const frames = actor.named(`${guest}.frames`) as Ref<'Run'>;
  return hpaOf(runGet(actor.host.kernel, frames, Math.floor(gpa / pageBytes)) as Frame) + (gpa % pageBytes);
}
