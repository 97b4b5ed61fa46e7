/**
 * The flushes of a page conversion (SEMANTICS f.3 X2): what caches of either context may have of a page that changes its role.
 *
 * The host does not know under which addresses its tables name the page, so that whole domains are flushed (as RMPUPDATE makes a host do);
 * the trusted side is told by the guest whose page it is.
 */
import { NULL, type Ref } from '#hostmem/object';
import { CachesFlushed } from './events.ts';
import { IommuGroup } from './iommu-group.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import { tsmOf } from './tsm.ts';
import { guestFrame, Tvm } from './tvm.ts';

/** More pages than any unit invalidates by address. */
const everything = 2 ** 27;

export function flushConverted(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void {
  flushUntrusted(kernel, tvm, page);
  flushTrusted(kernel, tvm, page);
}

/** Caches of the host's tables, device TLBs too, of every group that a user owns. */
function flushUntrusted(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void {
  const memory = kernel.memory;
  for (let group = KernelRoot.groups.peek(memory, kernel.root); group !== NULL; group = IommuGroup.next.peek(memory, group)) {
    IommuGroup.mutex.acquire(memory, group);
    if (IommuGroup.owner.read(memory, group) !== 0) kernel.driver.sync(IommuGroup.domain.read(memory, group), 0, 0, everything, true);
    IommuGroup.mutex.release(memory, group);
  }
  CachesFlushed.emit(memory, guestFrame(kernel, tvm, page), Tvm.guest.peek(memory, tvm), 0);
}

/** Caches of the trusted tables of every interface that is bound to the guest. */
export function flushTrusted(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void {
  const guest = Tvm.guest.peek(kernel.memory, tvm);
  tsmOf(kernel).flushGuest(guest);
  CachesFlushed.emit(kernel.memory, guestFrame(kernel, tvm, page), guest, 1);
}
