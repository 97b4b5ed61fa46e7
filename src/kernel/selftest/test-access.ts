/**
 * The selftest's owner of an access (`struct selftest_access`): a descriptor, and a list of what it has pinned.
 */
import { mutex } from '#hostmem/locks';
import { frameOf, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { Access, attachAccess, createAccess, removeAccess, replaceAccess } from '../access.ts';
import { copyThroughAccess, unpinThroughAccess } from '../access-pin.ts';
import { checkReadable, checkWritable, type UserBuffer } from '../argument.ts';
import { allocated, fail } from '../errno.ts';
import { getFile, putFile, tryInstallFile } from '../file.ts';
import { File, FileKind } from '../open-file.ts';
import type { Kernel } from '../kernel.ts';
import { userAddress } from '../process.ts';
import { PAGE } from '../u64.ts';

export const TestAccess = object('TestAccess', {
  access: ref('Access'),
  lock: mutex,
  nextId: u32.under('lock'),
  items: ref('TestPin').under('lock'),
});

/** One ACCESS_PAGES that is still pinned. */
export const TestPin = object('TestPin', { id: u32, iova: u64, length: u64, next: ref('TestPin') });

export interface CreateAccess { id: number; flags: number; outAccessFd: number }
export interface AccessPages { fd: number; flags: number; iova: bigint; length: bigint; userVa: bigint; outAccessPagesId: number }
export interface DestroyAccessPages { fd: number; accessPagesId: number }
/** `buffer` is the user's memory. */
export interface AccessRw extends UserBuffer { fd: number; flags: number; iova: bigint; length: bigint; buffer: Uint8Array }
export interface AccessReplaceIoas { fd: number; ioasId: number }

/** Flags of CREATE_ACCESS. */
export const CreateFlag = { NEEDS_PIN_PAGES: 1 } as const;
const AccessFlag = { WRITE: 1, SLOW_PATH: 4 } as const;
/** The most bytes of one call. */
const mostBytes = 16n << 20n;

/** CREATE_ACCESS: an access attached to an IOAS, and its descriptor. EOPNOTSUPP, ENOENT, EADDRINUSE, ENOMEM. */
export function createTestAccess(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: CreateAccess): void {
  const memory = kernel.memory;
  if ((arg.flags & ~CreateFlag.NEEDS_PIN_PAGES) !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  const owner = allocated(TestAccess.tryCreate(memory));
  let access: Ref<'Access'> = NULL;
  try {
    access = createAccess(kernel, iommufd, (arg.flags & CreateFlag.NEEDS_PIN_PAGES) !== 0, owner);
    TestAccess.access.poke(memory, owner, access);
    attachAccess(kernel, access, arg.id);
    arg.outAccessFd = tryInstallFile(kernel, FileKind.TEST_ACCESS, owner);
    if (arg.outAccessFd < 0) fail('ENOMEM', 'no descriptor is left');
  } catch (error) {
    if (access !== NULL) removeAccess(kernel, access);
    TestAccess.free(memory, owner);
    throw error;
  }
}

/** The last close of its descriptor: unpins and goes. */
export function releaseTestAccess(kernel: Kernel, owner: Ref<'TestAccess'>): void {
  unmapTestAccess(kernel, owner, 0n, (1n << 64n) - 1n);
  removeAccess(kernel, TestAccess.access.peek(kernel.memory, owner));
  TestAccess.free(kernel.memory, owner);
}

/** The owner's callback: lets go of every pin that meets the range (`iommufd_test_access_unmap`). */
export function unmapTestAccess(kernel: Kernel, owner: Ref<'TestAccess'>, iova: bigint, length: bigint): void {
  const memory = kernel.memory;
  const last = iova + length - 1n;
  TestAccess.lock.acquire(memory, owner);
  let before: Ref<'TestPin'> = NULL;
  let at: Ref<'TestPin'> = TestAccess.items.read(memory, owner);
  while (at !== NULL) {
    const next = TestPin.next.peek(memory, at);
    const start = TestPin.iova.peekBig(memory, at);
    const meets = iova <= start + TestPin.length.peekBig(memory, at) - 1n && start <= last;
    if (meets) unpinItem(kernel, owner, before, at);
    else before = at;
    at = next;
  }
  TestAccess.lock.release(memory, owner);
}

/** Takes an item out of the list, behind `before`, and unpins. Under the lock. */
function unpinItem(kernel: Kernel, owner: Ref<'TestAccess'>, before: Ref<'TestPin'>, item: Ref<'TestPin'>): void {
  const memory = kernel.memory;
  const next = TestPin.next.peek(memory, item);
  if (before === NULL) TestAccess.items.write(memory, owner, next);
  else TestPin.next.poke(memory, before, next);
  unpinThroughAccess(kernel, TestAccess.access.peek(memory, owner), TestPin.iova.peekBig(memory, item), TestPin.length.peekBig(memory, item));
  TestPin.free(memory, item);
}

/** ACCESS_PAGES: pins, and compares with the caller's own pages. ENOMEM, EOPNOTSUPP, EBADFD, as a pin, EFAULT, EBADE. */
export function accessPages(kernel: Kernel, _iommufd: Ref<'Iommufd'>, arg: AccessPages): void {
  const memory = kernel.memory;
  if (arg.length > mostBytes) fail('ENOMEM', 'too many pages');
  if ((arg.flags & ~AccessFlag.WRITE) !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  const file = getAccessFile(kernel, arg.fd);
  try {
    const owner = File.body.peek(memory, file) as Ref<'TestAccess'>;
    const access = TestAccess.access.peek(memory, owner);
    if (Access.pins.peek(memory, access) === 0) fail('EOPNOTSUPP', 'the access does not pin');
    TestAccess.lock.acquire(memory, owner);
    try {
      arg.outAccessPagesId = pinItem(kernel, owner, access, arg);
    } finally {
      TestAccess.lock.release(memory, owner);
    }
  } finally {
    putFile(kernel, file);
  }
}

function pinItem(kernel: Kernel, owner: Ref<'TestAccess'>, access: Ref<'Access'>, { iova, length, flags, userVa }: AccessPages): number {
  const memory = kernel.memory;
  const item = allocated(TestPin.tryCreate(memory));
  let pinned = false;
  try {
    const frames = kernel.operations.access.pin(kernel, access, iova, length, { write: (flags & AccessFlag.WRITE) !== 0 });
    pinned = true;
    if (userVa !== 0n) comparePages(kernel, userVa - (iova % PAGE), frames);
  } catch (error) {
    if (pinned) unpinThroughAccess(kernel, access, iova, length);
    TestPin.free(memory, item);
    throw error;
  }
  const id = TestAccess.nextId.read(memory, owner);
  TestAccess.nextId.write(memory, owner, id + 1);
  TestPin.id.poke(memory, item, id);
  TestPin.iova.pokeBig(memory, item, iova);
  TestPin.length.pokeBig(memory, item, length);
  TestPin.next.poke(memory, item, TestAccess.items.read(memory, owner));
  TestAccess.items.write(memory, owner, item);
  return id;
}

/** EFAULT, EBADE. */
function comparePages(kernel: Kernel, userVa: bigint, frames: readonly Frame[]): void {
  for (const [index, frame] of frames.entries()) {
    const own = frameOf(userAddress(kernel, kernel.process, userVa + BigInt(index) * PAGE));
    if (own !== frame) fail('EBADE', `page ${index} is not the caller's`);
  }
}

/** DESTROY_ACCESS_PAGES. EBADFD, ENOENT. */
export function destroyAccessPages(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { fd, accessPagesId }: DestroyAccessPages): void {
  const memory = kernel.memory;
  const file = getAccessFile(kernel, fd);
  const owner = File.body.peek(memory, file) as Ref<'TestAccess'>;
  TestAccess.lock.acquire(memory, owner);
  try {
    let before: Ref<'TestPin'> = NULL;
    let at: Ref<'TestPin'> = TestAccess.items.read(memory, owner);
    while (at !== NULL && TestPin.id.peek(memory, at) !== accessPagesId) {
      before = at;
      at = TestPin.next.peek(memory, at);
    }
    if (at === NULL) fail('ENOENT', `nothing is pinned under ${accessPagesId}`);
    unpinItem(kernel, owner, before, at);
  } finally {
    TestAccess.lock.release(memory, owner);
    putFile(kernel, file);
  }
}

/**
 * ACCESS_RW, by way of a buffer of the kernel's. ENOMEM, EOPNOTSUPP, EBADFD, EFAULT, and as a copy; a write that fails has written what came
 * before.
 */
export function accessRw(kernel: Kernel, _iommufd: Ref<'Iommufd'>, arg: AccessRw): void {
  const { fd, flags, iova, length, buffer } = arg;
  if (length > mostBytes) fail('ENOMEM', 'too many bytes');
  if ((flags & ~(AccessFlag.WRITE | AccessFlag.SLOW_PATH)) !== 0) fail('EOPNOTSUPP', `unknown flags 0x${flags.toString(16)}`);
  const file = getAccessFile(kernel, fd);
  try {
    const owner = File.body.peek(kernel.memory, file) as Ref<'TestAccess'>;
    const write = (flags & AccessFlag.WRITE) !== 0;
    const slow = (flags & AccessFlag.SLOW_PATH) !== 0;
    if (write) checkReadable(arg, Number(length));
    const copied = write ? buffer : new Uint8Array(Number(length));
    copyThroughAccess(kernel, TestAccess.access.peek(kernel.memory, owner), iova, copied, { write, slow });
    if (write) return;
    buffer.set(copied.subarray(0, arg.writableBytes));
    checkWritable(arg, Number(length));
  } finally {
    putFile(kernel, file);
  }
}

/** ACCESS_REPLACE_IOAS. EBADFD, ENOENT, EADDRINUSE. */
export function accessReplaceIoas(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { fd, ioasId }: AccessReplaceIoas): void {
  const file = getAccessFile(kernel, fd);
  try {
    const owner = File.body.peek(kernel.memory, file) as Ref<'TestAccess'>;
    replaceAccess(kernel, TestAccess.access.peek(kernel.memory, owner), ioasId);
  } finally {
    putFile(kernel, file);
  }
}

/** EBADFD, also for no descriptor at all. */
function getAccessFile(kernel: Kernel, fd: number): Ref<'File'> {
  let file: Ref<'File'>;
  try {
    file = getFile(kernel, fd);
  } catch {
    return fail('EBADFD', `${fd} is no open descriptor`);
  }
  if (File.kind.peek(kernel.memory, file) === FileKind.TEST_ACCESS) return file;
  putFile(kernel, file);
  return fail('EBADFD', `descriptor ${fd} is no access`);
}
