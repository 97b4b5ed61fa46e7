/** What a DMA engine asks of the unit before its function, whichever vendor's it is. */
import type { Frame } from '#hostmem/memory';
import type { IotlbView } from './iotlb.ts';

export interface Translator {
  /** Of the last translation: the frame that the page is at, which may lie outside RAM; the root table it came from, 0 for none; whether it was cached. */
  readonly frame: Frame;
  readonly root: Frame;
  readonly hit: boolean;
  readonly iotlb: IotlbView;
  /**
   * Translates one page for a request. `access` is one `Access` bit; `epoch` is `iotlb.epoch()`, taken once the transaction was
   * published as in flight; `pasid` is what the request carries, if it does. Returns the vendor's fault reason, having recorded the fault; 0 for none.
   */
  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, pasid?: number): number;
}

/** What it asks for a function with a cache of its own (ATS). */
export interface AtsTranslator extends Translator {
  /** `Access` bits that the last translation grants. */
  readonly permissions: number;
  /** Answers a translation request: as `translate`, but a page that cannot be reached is an answer without permissions and no fault. */
  request(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, pasid: number): number;
  /** Whether a request with an address that the function was told may pass. 0, or the reason of the fault. */
  passTranslated(sourceId: number, hpaHigh: number, hpaLow: number, access: number, pasid: number): number;
}
