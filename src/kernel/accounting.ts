/**
 * Who pays for pinned pages (`iopt_pages_update_pinned`, pages.c). The process that maps always has them in its VmPin; without CAP_IPC_LOCK
 * they also count against its RLIMIT_MEMLOCK, together with those of its user, or with what the process itself has locked (VmLck).
 */
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { fail } from './errno.ts';
import type { Kernel } from './kernel.ts';
import { Process } from './process.ts';

/** Whose count of locked pages is held against the limit. */
export const Payer = { NOBODY: 0, USER: 1, PROCESS: 2 } as const;
export type Payer = (typeof Payer)[keyof typeof Payer];

/** `struct user_struct`: what all processes of a user have locked together, in pages. */
export const User = object('User', { lockedPages: u32 });

/** Numbers of capabilities, as in capabilities(7). */
export const Capability = { IPC_LOCK: 14, SYS_RESOURCE: 24 } as const;
export type Capability = (typeof Capability)[keyof typeof Capability];

/** Whether the calling process has a capability in its effective set. */
export const capable = (kernel: Kernel, capability: Capability): boolean =>
  (Process.capabilities.peek(kernel.memory, kernel.process) & (1 << capability)) !== 0;

/** Accounts `pages` more. ENOMEM over the limit; EINVAL when the process that would pay is gone. */
export function charge(kernel: Kernel, process: Ref<'Process'>, payer: number, pages: number): void {
  if (payer === Payer.USER) chargeUser(kernel, process, pages);
  else if (payer === Payer.PROCESS) chargeProcess(kernel, process, pages);
  Process.pinnedPages.add(kernel.memory, process, pages);
}

/** Undoes `charge`. */
export function uncharge(kernel: Kernel, process: Ref<'Process'>, payer: number, pages: number): void {
  const memory = kernel.memory;
  if (payer === Payer.USER) User.lockedPages.add(memory, Process.user.peek(memory, process), -pages);
  else if (payer === Payer.PROCESS) {
    Process.mmapLock.acquireWrite(memory, process);
    Process.lockedPages.write(memory, process, Process.lockedPages.read(memory, process) - pages);
    Process.mmapLock.releaseWrite(memory, process);
  }
  Process.pinnedPages.add(memory, process, -pages);
}

/** `incr_user_locked_vm`. */
function chargeUser(kernel: Kernel, process: Ref<'Process'>, pages: number): void {
  const memory = kernel.memory;
  const user = Process.user.peek(memory, process);
  for (let now = User.lockedPages.load(memory, user); ; ) {
    checkLimit(kernel, process, now + pages);
    const found = User.lockedPages.compareExchange(memory, user, now, now + pages);
    if (found === now) return;
    now = found;
  }
}

/** `__account_locked_vm`. */
function chargeProcess(kernel: Kernel, process: Ref<'Process'>, pages: number): void {
  const memory = kernel.memory;
  Process.mmapLock.acquireWrite(memory, process);
  try {
    if (Process.gone.read(memory, process) !== 0) fail('EINVAL', 'the process that would pay is gone');
    const locked = Process.lockedPages.read(memory, process) + pages;
    checkLimit(kernel, process, locked);
    Process.lockedPages.write(memory, process, locked);
  } finally {
    Process.mmapLock.releaseWrite(memory, process);
  }
}

function checkLimit(kernel: Kernel, process: Ref<'Process'>, pages: number): void {
  const limit = Process.lockLimitPages.peek(kernel.memory, process);
  if (pages > limit) fail('ENOMEM', `${pages} pages locked, RLIMIT_MEMLOCK allows ${limit}`);
}
