/**
 * The driver of a link TSM and the firmware behind it: Linux's `pci_tsm_link_ops` (`include/linux/pci-tsm.h`), bind and guest requests too,
 * which no driver of 7.2 has. Forward-looking: SEV-TIO of 7.2 only connects.
 *
 * The TSM alone writes trusted contexts. Its caller serialises the calls of one device (`pf0->lock`); a mapping of the guest's trusted table
 * (what its vIOMMU has) is serialised by the guest.
 */
import type { Host } from '#hostmem/host';
import type { Frame, Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import { WalkResult } from '#hostmem/page-walk';
import { PciFunction } from '../../hardware/function.ts';
import { lockInterface, setBusMaster, startInterface, stopInterface, Tdi, TdiState } from '../../hardware/tdisp.ts';
import { trustedFormat, TrustedContext, TrustedRoot, type TBitPolicy } from '../../hardware/trusted-context.ts';
import { TrustedUnit } from '../../hardware/trusted-unit.ts';
import { trustedRootOf } from '../../hardware/machine.ts';
import { fail } from '../../kernel/errno.ts';
import { GuestRequested, TdiBound, TdiUnbound } from './events.ts';

// What the kernel needs to know of the hardware's policies.
export { privatePage, splitAt, TBitPolicy } from '../../hardware/trusted-context.ts';

/** `enum pci_tsm_req_scope`: the first two are about TDISP, and pass. */
export const RequestScope = { INFO: 0, STATE_CHANGE: 1, DEBUG_READ: 2, DEBUG_WRITE: 3 } as const;
export type RequestScope = (typeof RequestScope)[keyof typeof RequestScope];

/** What a guest asks for. */
export const Request = { REPORT: 0, LOCK: 1, START: 2, STOP: 3 } as const;
export type Request = (typeof Request)[keyof typeof Request];

export class LinkTsm {
  readonly #kernel: Memory;
  readonly #root: Ref<'TrustedRoot'>;
  readonly #unit: TrustedUnit;
  readonly #tables: PageTable;
  readonly #walk = new WalkResult();

  private constructor(host: Host, root: Ref<'TrustedRoot'>) {
    this.#kernel = host.kernel;
    this.#root = root;
    this.#unit = new TrustedUnit(host, root);
    this.#tables = new PageTable(host.ram, host.frames, trustedFormat);
  }

  /** That of a host, null where it has none. */
  static of(host: Host): LinkTsm | null {
    const root = trustedRootOf(host);
    return root === NULL ? null : new LinkTsm(host, root);
  }

  /** Writes the function's trusted context for a guest; the interface stays as it is. ENOMEM. */
  bind(pciFunction: Ref<'PciFunction'>, guest: number, policy: TBitPolicy): void {
    const kernel = this.#kernel;
    const context = this.#context(pciFunction);
    const root = this.#tables.create();
    if (root === 0) fail('ENOMEM', 'no frame for a trusted table');
    const before = TrustedContext.guest.peek(kernel, context);
    TrustedContext.root.poke(kernel, context, root);
    TrustedContext.policy.poke(kernel, context, policy);
    TrustedContext.guest.store(kernel, context, guest);
    TdiBound.emit(kernel, PciFunction.rid.peek(kernel, pciFunction), guest, before);
  }

  /** Stops the interface and takes its context away; nothing of it is in flight or cached when the tables are freed (X6). */
  unbind(pciFunction: Ref<'PciFunction'>): void {
    const kernel = this.#kernel;
    const context = this.#context(pciFunction);
    const guest = TrustedContext.guest.peek(kernel, context);
    stopInterface(kernel, PciFunction.tdi.peek(kernel, pciFunction));
    TrustedContext.guest.store(kernel, context, 0);
    this.flush(pciFunction);
    this.#tables.destroy(TrustedContext.root.peek(kernel, context));
    TdiUnbound.emit(kernel, PciFunction.rid.peek(kernel, pciFunction), guest);
  }

  /** Carries a guest's request out, for whoever the interface is bound to. EIO when it is not in the state for it. */
  request(pciFunction: Ref<'PciFunction'>, scope: RequestScope, what: Request): void {
    const kernel = this.#kernel;
    const tdi = PciFunction.tdi.peek(kernel, pciFunction);
    const guest = TrustedContext.guest.peek(kernel, this.#context(pciFunction));
    GuestRequested.emit(kernel, PciFunction.rid.peek(kernel, pciFunction), scope, what, guest);
    if (what === Request.STOP) stopInterface(kernel, tdi);
    const isDone =
      what === Request.LOCK ? lockInterface(kernel, tdi) !== 0 : what !== Request.START || startInterface(kernel, tdi, Tdi.nonce.peek(kernel, tdi));
    if (!isDone) fail('EIO', 'the device interface is not in the state for it');
  }

  /** Drops what the IOMMU has cached of the trusted context, and waits for what is in flight. */
  flush(pciFunction: Ref<'PciFunction'>): void {
    this.#unit.invalidate(PciFunction.tdi.peek(this.#kernel, pciFunction));
  }

  /** The same for every function that is bound to the guest. */
  flushGuest(guest: number): void {
    const kernel = this.#kernel;
    for (let tdi = TrustedRoot.firstTdi.peek(kernel, this.#root); tdi !== NULL; tdi = Tdi.next.peek(kernel, tdi)) {
      if (TrustedContext.guest.load(kernel, Tdi.context.peek(kernel, tdi)) === guest) this.#unit.invalidate(tdi);
    }
  }

  /** The guest maps a page in its trusted table. `permissions` may have `privatePage`. */
  map(pciFunction: Ref<'PciFunction'>, iova: number, frame: Frame, permissions: number): void {
    const problem = this.#tables.mapPage(this.#tableOf(pciFunction), 0, iova, frame, permissions);
    if (problem !== 0) fail(problem, `iova 0x${iova.toString(16)} cannot be mapped`);
  }

  /** Takes a page out and flushes. Returns the frame that it led to, 0 when nothing was there. */
  unmap(pciFunction: Ref<'PciFunction'>, iova: number): Frame {
    const root = this.#tableOf(pciFunction);
    const frame = this.#tables.translate(root, 0, iova, this.#walk) === 0 ? this.#walk.frame : (0 as Frame);
    if (frame === 0 || this.#tables.unmap(root, 0, iova, 1) === 0) return 0 as Frame;
    this.flush(pciFunction);
    return frame;
  }

  isRunning(pciFunction: Ref<'PciFunction'>): boolean {
    return Tdi.state.load(this.#kernel, PciFunction.tdi.peek(this.#kernel, pciFunction)) === TdiState.RUN;
  }
  isBusMaster(pciFunction: Ref<'PciFunction'>): boolean {
    return Tdi.busMaster.load(this.#kernel, PciFunction.tdi.peek(this.#kernel, pciFunction)) !== 0;
  }
  setBusMaster(pciFunction: Ref<'PciFunction'>, on: boolean): void {
    setBusMaster(this.#kernel, PciFunction.tdi.peek(this.#kernel, pciFunction), on);
  }

  #context(pciFunction: Ref<'PciFunction'>): Ref<'TrustedContext'> {
    return Tdi.context.peek(this.#kernel, PciFunction.tdi.peek(this.#kernel, pciFunction));
  }

  #tableOf(pciFunction: Ref<'PciFunction'>): Frame {
    return TrustedContext.root.peek(this.#kernel, this.#context(pciFunction));
  }
}
