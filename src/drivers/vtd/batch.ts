/**
 * Descriptors on their way into a unit's invalidation queue (the kernel's `qi_desc_*` and `qi_batch`). A thread's own.
 */
import { Bits, Descriptor, descriptorWords, Granularity, PageBits } from '../../hardware/vtd/descriptors.ts';

const mostDescriptors = 16;
const drain = Bits.drainReads | Bits.drainWrites;

export class Batch {
  readonly #words = new Int32Array(mostDescriptors * descriptorWords);
  length = 0;

  clear(): this {
    this.length = 0;
    return this;
  }

  /** A word of a descriptor. */
  word(index: number, word: number): number {
    return this.#words[index * descriptorWords + word]!;
  }

  /** Drops the cached context entry of one requester. */
  contextCacheOfRequester(domainId: number, sourceId: number): this {
    return this.push(Descriptor.CONTEXT_CACHE | (Granularity.SELECTED << Bits.granularityShift) | (domainId << Bits.domainShift), sourceId, 0, 0);
  }

  contextCacheOfDomain(domainId: number): this {
    return this.push(Descriptor.CONTEXT_CACHE | (Granularity.DOMAIN << Bits.granularityShift) | (domainId << Bits.domainShift), 0, 0, 0);
  }

  iotlbAll(): this {
    return this.push(Descriptor.IOTLB | (Granularity.GLOBAL << Bits.granularityShift) | drain, 0, 0, 0);
  }

  iotlbOfDomain(domainId: number): this {
    return this.push(Descriptor.IOTLB | (Granularity.DOMAIN << Bits.granularityShift) | drain | (domainId << Bits.domainShift), 0, 0, 0);
  }

  /** `1 << order` pages, aligned, around the IOVA; `leafOnly` says that no table was removed. */
  iotlbPages(domainId: number, iovaHigh: number, iovaLow: number, order: number, leafOnly: boolean): this {
    const first = Descriptor.IOTLB | (Granularity.SELECTED << Bits.granularityShift) | drain | (domainId << Bits.domainShift);
    const low = order < 20 ? iovaLow & (-1 << (12 + order)) : 0;
    const high = order < 20 ? iovaHigh : iovaHigh & (-1 << (order - 20));
    return this.push(first, 0, low | (leafOnly ? PageBits.leafOnly : 0) | order, high);
  }

  /** A descriptor as it is. */
  push(first: number, second: number, third: number, fourth: number): this {
    if (this.length === mostDescriptors) throw new RangeError(`a batch holds ${mostDescriptors} descriptors`);
    const at = this.length++ * descriptorWords;
    this.#words[at] = first;
    this.#words[at + 1] = second;
    this.#words[at + 2] = third;
    this.#words[at + 3] = fourth;
    return this;
  }
}
