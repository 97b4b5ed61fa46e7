/** What threads of a VMM ask of the PCI core about device security: 7.2's `pci_tsm_*`, for which it has no user interface. */
import type { Ref } from '#hostmem/object';
import { Request, RequestScope } from '../drivers/tsm/link-tsm.ts';
import { PciFunction } from '../hardware/function.ts';
import { changeConfiguration, Register } from '../hardware/tdisp.ts';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import { PciDevice } from '../kernel/iommu-group.ts';
import { connect, disconnect, unbindInterface } from '../kernel/tsm.ts';
import type { Vm } from './vm.ts';

export class SecurityManager {
  readonly #thread: Vm;
  readonly #device: Ref<'PciDevice'>;

  /** For one device. */
  constructor(thread: Vm, device: string) {
    this.#thread = thread;
    this.#device = thread.named(`${device}.pci`) as Ref<'PciDevice'>;
  }

  connect(): ErrnoName | null {
    return errnoOf(() => connect(this.#thread.kernel, this.#device));
  }
  disconnect(): ErrnoName | null {
    return errnoOf(() => disconnect(this.#thread.kernel, this.#device));
  }

  /** Binds the device's interface to a confidential guest. */
  bind(guest: string): ErrnoName | null {
    const { kernel } = this.#thread;
    return errnoOf(() => kernel.operations.tsm.bind(kernel, this.#device, this.#thread.named(`${guest}.tvm`) as Ref<'Tvm'>, 0));
  }
  unbind(): ErrnoName | null {
    return errnoOf(() => unbindInterface(this.#thread.kernel, this.#device));
  }

  /** The host writes a BAR of the device, which a locked interface does not forgive. */
  writeBar(): void {
    const memory = this.#thread.kernel.memory;
    changeConfiguration(memory, PciFunction.tdi.peek(memory, PciDevice.function.peek(memory, this.#device)), Register.BAR);
  }

  /** Carries a request of the guest to the security manager. */
  request(scope: RequestScope, what: Request): ErrnoName | null {
    const { kernel } = this.#thread;
    return errnoOf(() => kernel.operations.tsm.guestRequest(kernel, this.#device, scope, what));
  }
  /** A guest asks for T = 1, whoever takes the interface away meanwhile. */
  lockAndStart(): void {
    for (const what of [Request.LOCK, Request.START]) this.#thread.expect('a request', this.request(RequestScope.STATE_CHANGE, what), null, 'ENXIO', 'EIO');
  }
}
