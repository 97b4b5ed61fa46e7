/** File descriptors of a process, and what the last close of a file releases, on the closer's own thread. */
import { NULL, type Ref } from '#hostmem/object';
import { allocated, fail } from './errno.ts';
import type { Kernel } from './kernel.ts';
import { releaseDmabuf } from './dmabuf.ts';
import { fileOf, Iommufd, releaseIommufd } from './objects.ts';
import { dropFile, File, FileKind, holdFile, holdFound, initialiseFile, tryHoldFile } from './open-file.ts';
import { Process } from './process.ts';
import { releaseEventQueueFile } from './event-queue.ts';
import { releaseFaultQueueFile } from './fault-queue.ts';
import { releaseMemfd } from './memfd.ts';
import { releaseTestAccess } from './selftest/test-access.ts';
import { releaseVfioFile } from './vfio.ts';
import { putVfioGroup } from './vfio-group.ts';

/** Descriptors 0 to 2 are the process's own. */
const firstFd = 3;

/** Opens `/dev/iommu`; returns the descriptor. ENOMEM. */
export function openIommufd(kernel: Kernel): number {
  const memory = kernel.memory;
  const iommufd = allocated(Iommufd.tryCreate(memory));
  const file = fileOf(iommufd);
  initialiseFile(memory, file, FileKind.IOMMUFD, iommufd);
  Iommufd.process.poke(memory, iommufd, kernel.process);
  const fd = tryGiveDescriptor(kernel, file);
  if (fd < 0) Iommufd.free(memory, iommufd);
  return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
}

/** Gives the calling process a descriptor for a new file; -1 without memory, and the body stays the caller's. */
export function tryInstallFile(kernel: Kernel, kind: number, body: number): number {
  const file = tryCreateFile(kernel, kind, body);
  const fd = file === NULL ? -1 : tryGiveDescriptor(kernel, file);
  if (fd < 0 && file !== NULL) File.free(kernel.memory, file);
  return fd;
}

/** A file without a descriptor, whose one reference is the caller's; `NULL` without memory. */
export function tryCreateFile(kernel: Kernel, kind: number, body: number): Ref<'File'> {
  const memory = kernel.memory;
  const file = File.tryCreate(memory);
  if (file !== NULL) initialiseFile(memory, file, kind, body);
  return file;
}

/** The caller's reference becomes the descriptor's; -1 without memory. */
export function tryGiveDescriptor(kernel: Kernel, file: Ref<'File'>): number {
  const id = Process.files.reserve(kernel.memory, kernel.process);
  if (id === 0) return -1;
  Process.files.publish(kernel.memory, kernel.process, id, file);
  return id - 1 + firstFd;
}

/** The file behind a descriptor, held until `putFile`; EBADF. */
export function getFile(kernel: Kernel, fd: number): Ref<'File'> {
  const file = kernel.memory.control === null ? tryGetFile(kernel, fd) : NULL;
  return file === NULL ? getFileLocked(kernel, fd) : file;
}

/**
 * The fast path: without the table's lock, which others write. `NULL` where there is nothing, or something was changing. Of a file that is held later than it was
 * found, the descriptor may be closed by then: it was open when it was found, and has not been released since.
 */
function tryGetFile(kernel: Kernel, fd: number): Ref<'File'> {
  const memory = kernel.memory;
  const file = fd < firstFd ? NULL : (Process.files.getUnlocked(memory, kernel.process, fd - firstFd + 1) as Ref<'File'>);
  return file !== NULL && tryHoldFile(memory, file) ? file : NULL;
}

function getFileLocked(kernel: Kernel, fd: number): Ref<'File'> {
  const memory = kernel.memory;
  Process.files.acquire(memory, kernel.process);
  const file = fd < firstFd ? NULL : (Process.files.getLocked(memory, kernel.process, fd - firstFd + 1) as Ref<'File'>);
  if (file !== NULL) holdFound(memory, file);
  Process.files.release(memory, kernel.process);
  if (file === NULL) fail('EBADF', `${fd} is no open descriptor`);
  return file;
}

/** The last reference releases what is behind the file. */
export function putFile(kernel: Kernel, file: Ref<'File'>): void {
  const memory = kernel.memory;
  if (!dropFile(kernel, file)) return;
  const body = File.body.peek(memory, file);
  release(kernel, File.kind.peek(memory, file), body);
  File.free(memory, file);
}

function release(kernel: Kernel, kind: number, body: number): void {
  if (kind === FileKind.IOMMUFD) releaseIommufd(kernel, body as Ref<'Iommufd'>);
  else if (kind === FileKind.VFIO) releaseVfioFile(kernel, body as Ref<'VfioFile'>);
  else if (kind === FileKind.TEST_ACCESS) releaseTestAccess(kernel, body as Ref<'TestAccess'>);
  else if (kind === FileKind.DMABUF) releaseDmabuf(kernel, body as Ref<'Dmabuf'>);
  else if (kind === FileKind.MEMFD) releaseMemfd(kernel, body as Ref<'Memfd'>);
  else if (kind === FileKind.EVENT_QUEUE) releaseEventQueueFile(kernel, body as Ref<'EventQueue'>);
  else if (kind === FileKind.FAULT_QUEUE) releaseFaultQueueFile(kernel, body as Ref<'FaultQueue'>);
  else putVfioGroup(kernel, body as Ref<'VfioGroup'>);
}

/** close(2). EBADF. */
export function closeFd(kernel: Kernel, fd: number): void {
  const memory = kernel.memory;
  const id = fd - firstFd + 1;
  Process.files.acquire(memory, kernel.process);
  const file = fd < firstFd ? NULL : (Process.files.getLocked(memory, kernel.process, id) as Ref<'File'>);
  if (file !== NULL) Process.files.eraseLocked(memory, kernel.process, id);
  Process.files.release(memory, kernel.process);
  if (file === NULL) fail('EBADF', `${fd} is no open descriptor`);
  putFile(kernel, file);
}

/** Gives a new process all descriptors of another, under the same numbers (fork(2)). ENOMEM. */
export function shareFiles(kernel: Kernel, from: Ref<'Process'>, to: Ref<'Process'>): void {
  const memory = kernel.memory;
  const holes: number[] = [];
  for (let id = Process.files.next(memory, from, 0), reserved = 0; id !== 0; id = Process.files.next(memory, from, id)) {
    const file = Process.files.get(memory, from, id) as Ref<'File'>;
    for (reserved = Process.files.reserve(memory, to); reserved !== id; reserved = Process.files.reserve(memory, to)) {
      if (reserved === 0) fail('ENOMEM', 'no descriptor is left');
      holes.push(reserved);
    }
    holdFile(kernel, file);
    Process.files.publish(memory, to, id, file);
  }
  for (const hole of holes) Process.files.erase(memory, to, hole);
}

/** Closes every descriptor of a process that ends. */
export function closeAll(kernel: Kernel, process: Ref<'Process'>): void {
  for (let id = Process.files.next(kernel.memory, process, 0); id !== 0; id = Process.files.next(kernel.memory, process, 0)) {
    closeFd(kernel, id - 1 + firstFd);
  }
}
