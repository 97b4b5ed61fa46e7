/**
 * The driver of a device in a confidential guest: it maps pages for the device, gives it work, unmaps them, and has the device go to T = 1
 * and back. Errors are what the guest's kernel says.
 */
import { Until } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import { Request, RequestScope } from '../drivers/tsm/link-tsm.ts';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import { bindDriver, GuestDma, leaveTrusted, mapForDevice, QueueState, unmapForDevice } from '../kernel/guest-dma.ts';
import { tsmOf } from '../kernel/tsm.ts';
import type { Vm } from './vm.ts';

/** Bytes that a command moves. */
const lineBytes = 64;

export class GuestDriver {
  readonly #thread: Vm;
  readonly #device: string;
  readonly #function: Ref<'PciFunction'>;
  readonly #dma: Ref<'GuestDma'>;

  constructor(thread: Vm, device: string) {
    this.#thread = thread;
    this.#device = device;
    this.#function = thread.named(device) as Ref<'PciFunction'>;
    this.#dma = thread.named(`${device}.driver`) as Ref<'GuestDma'>;
  }

  /** `dma_map`: an address for the device, or the errno. */
  map(page: number): number | ErrnoName {
    let address = 0;
    const errno = errnoOf(() => void (address = mapForDevice(this.#thread.kernel, this.#dma, page)));
    if (errno === null) this.#thread.counters.add('maps', 1);
    return errno ?? address;
  }

  /** `dma_unmap`; EINVAL where Linux warns. */
  unmap(address: number): ErrnoName | null {
    const errno = errnoOf(() => unmapForDevice(this.#thread.kernel, this.#dma, address));
    if (errno === null) this.#thread.counters.add('unmaps', 1);
    return errno;
  }

  /** Has the device read or write a line at an address: 0, or the reason why it could not. */
  dma(op: 'read' | 'write', address: number): number {
    return this.#thread.dma(this.#device, op, address, lineBytes);
  }

  /** The driver has looked at its device, and lets another thread use its second queue. */
  openQueue(): void {
    this.#queueTo(QueueState.OPEN);
  }
  /** Returns when the other thread has let go of the queue. */
  closeQueue(): void {
    this.#queueTo(QueueState.CLOSING);
    this.#awaitQueue(Until.EQUAL, QueueState.CLOSED);
  }

  /** The other thread's part: has a page mapped from some moment on after the queue was opened, until it is closed. */
  useQueue(page: number): void {
    this.#awaitQueue(Until.DIFFERENT, QueueState.CLOSED);
    const address = this.map(page);
    this.#awaitQueue(Until.EQUAL, QueueState.CLOSING);
    if (typeof address === 'number') this.unmap(address);
    this.#queueTo(QueueState.CLOSED);
  }

  #queueTo(state: number): void {
    GuestDma.queue.store(this.#thread.kernel.memory, this.#dma, state);
  }
  #awaitQueue(until: Until, state: number): void {
    this.#thread.waitIdle(GuestDma.queue, this.#thread.kernel.memory, this.#dma, until, state);
  }

  isTrusted(): boolean {
    return tsmOf(this.#thread.kernel).isRunning(this.#function);
  }

  /** Bus master off, then T = 1, then on again, whether it is T = 1 now or not. */
  enterTrusted(): ErrnoName | null {
    const tsm = tsmOf(this.#thread.kernel);
    tsm.setBusMaster(this.#function, false);
    const errno = errnoOf(() => this.#thread.kernel.operations.confidential.enterTrusted(this.#thread.kernel, this.#dma));
    tsm.setBusMaster(this.#function, true);
    return errno;
  }
  leaveTrusted(): ErrnoName | null {
    return errnoOf(() => leaveTrusted(this.#thread.kernel, this.#dma));
  }

  /** Asks for the interface's report, which a guest believes or not. */
  attest(): ErrnoName | null {
    const { kernel } = this.#thread;
    const device = this.#thread.named(`${this.#device}.pci`) as Ref<'PciDevice'>;
    return errnoOf(() => kernel.operations.tsm.guestRequest(kernel, device, RequestScope.INFO, Request.REPORT));
  }

  /** The driver lets the device go, or is bound again. EBUSY with something mapped. */
  bind(): ErrnoName | null {
    return errnoOf(() => bindDriver(this.#thread.kernel, this.#dma, true));
  }
  unbind(): ErrnoName | null {
    return errnoOf(() => bindDriver(this.#thread.kernel, this.#dma, false));
  }
}
