/** What the host's own kernel does with one of its functions: resets it, plugs it, switches its ATS, and maps for it as a driver does. */
import { Until } from '#hostmem/atomics';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { finishReset, prepareReset } from '../kernel/device-reset.ts';
import { DmaDomain, dmaMap, dmaUnmap, flushTimeout, iommuMap, iommuUnmap, Timer } from '../kernel/dma-iommu.ts';
import { disableAts, enableAts, probeDevice, releaseDevice } from '../kernel/iommu-probe.ts';
import type { Vm } from './vm.ts';

export class HostDriver {
  readonly #thread: Vm;
  readonly #name: string;

  constructor(thread: Vm, name: string) {
    this.#thread = thread;
    this.#name = name;
  }

  /** Parks the function for a reset (`pci_dev_reset_iommu_prepare`), and lets it back. */
  prepareReset(): void {
    prepareReset(this.#thread.kernel, this.#function);
  }
  finishReset(): void {
    finishReset(this.#thread.kernel, this.#function);
  }

  unplug(): void {
    releaseDevice(this.#thread.kernel, this.#function);
  }
  plug(): void {
    probeDevice(this.#thread.kernel, this.#function);
  }

  enableAts(): void {
    enableAts(this.#thread.kernel, this.#function);
  }
  disableAts(): void {
    disableAts(this.#thread.kernel, this.#function);
  }

  /** `dma_map` of consecutive frames, and its counterpart; the world has said `dmaApi`. */
  dmaMap(first: number, pages: number): number {
    const iova = dmaMap(this.#thread.kernel, this.#dma, first as Frame, pages);
    this.#thread.check(iova !== 0, 'no IOVA is free');
    return iova;
  }
  dmaUnmap(iova: number, pages: number): void {
    dmaUnmap(this.#thread.kernel, this.#dma, iova, pages);
  }

  /** The timer's part: ten virtual milliseconds after a lazy unmap what is queued by then is flushed. */
  flushLate(): void {
    this.#thread.waitIdle(DmaDomain.timer, this.#thread.host.kernel, this.#dma, Until.EQUAL, Timer.ARMED);
    flushTimeout(this.#thread.kernel, this.#dma);
  }

  /** `iommu_map` in the function's default domain, and its counterpart, which says how many pages went. */
  map(iova: number, first: number, pages: number): void {
    this.#thread.check(iommuMap(this.#thread.kernel, this.#domain, iova, first as Frame, pages), 'the map was refused');
  }
  unmap(iova: number, pages: number): number {
    return iommuUnmap(this.#thread.kernel, this.#domain, iova, pages);
  }

  get #function(): Ref<'PciFunction'> {
    return this.#thread.named(this.#name) as Ref<'PciFunction'>;
  }
  get #dma(): Ref<'DmaDomain'> {
    return this.#thread.named(`${this.#name}.dma`) as Ref<'DmaDomain'>;
  }
  get #domain(): Ref<'IommuDomain'> {
    return DmaDomain.domain.peek(this.#thread.host.kernel, this.#dma);
  }
}
