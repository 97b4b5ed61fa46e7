/**
 * What may befall a device while a thread goes about its business: that thread, in user mode, resets it (`VFIO_DEVICE_RESET`) or unplugs it and plugs it
 * in again, before a system call that a strategy picks. Once at most in a body.
 */
import { choose } from '#hostmem/atomics';
import { resetLabel, unplugLabel } from '#hostmem/fault-injection';
import type { Ref } from '#hostmem/object';
import { finishReset, prepareReset } from '../kernel/device-reset.ts';
import { probeDevice, releaseDevice } from '../kernel/iommu-probe.ts';
import type { Kernel } from '../kernel/kernel.ts';

export const MishapKind = { RESET: 0, UNPLUG: 1 } as const;
type MishapKind = (typeof MishapKind)[keyof typeof MishapKind];

export class Mishap {
  readonly #kernel: Kernel;
  readonly #kind: MishapKind;
  readonly #pciFunction: Ref<'PciFunction'>;
  #hasHappened = false;

  constructor(kernel: Kernel, kind: MishapKind, pciFunction: Ref<'PciFunction'>) {
    this.#kernel = kernel;
    this.#kind = kind;
    this.#pciFunction = pciFunction;
  }

  /** The thread is in user mode. */
  atUserMode(): void {
    if (this.#hasHappened || choose(this.#kernel.memory, 2, this.#kind === MishapKind.RESET ? resetLabel : unplugLabel) === 0) return;
    this.#hasHappened = true;
    if (this.#kind === MishapKind.RESET) {
      prepareReset(this.#kernel, this.#pciFunction);
      finishReset(this.#kernel, this.#pciFunction);
    } else {
      releaseDevice(this.#kernel, this.#pciFunction);
      probeDevice(this.#kernel, this.#pciFunction);
    }
  }
}
