/**
 * Descriptors on their way into a unit's invalidation queue (the kernel's `qi_desc_*` and `qi_batch`). A thread's own.
 */
import {
  Bits,
  Descriptor,
  descriptorWords,
  deviceTlbSize,
  Granularity,
  PageAnswerBits,
  PageBits,
  pasidDeviceTlbSize,
  PasidCacheGranularity,
  PasidIotlbGranularity,
} from '../../hardware/vtd/descriptors.ts';
import { alignedHigh, alignedLow, namedHigh, namedLow } from '../page-block.ts';
import { ridPasid } from './pasid-entry.ts';

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
    return this.push(first, 0, alignedLow(iovaLow, order) | (leafOnly ? PageBits.leafOnly : 0) | order, alignedHigh(iovaHigh, order));
  }

  /** As `iotlbPages`, of what the first stage translated for a PASID; all of it when `order` is negative. */
  pasidIotlb(domainId: number, pasid: number, iovaHigh: number, iovaLow: number, order: number, leafOnly: boolean): this {
    const granularity = order < 0 ? PasidIotlbGranularity.PASID : PasidIotlbGranularity.SELECTED;
    const first = Descriptor.PASID_IOTLB | (granularity << Bits.granularityShift) | (domainId << Bits.domainShift);
    if (order < 0) return this.push(first, pasid, 0, 0);
    return this.push(first, pasid, alignedLow(iovaLow, order) | (leafOnly ? PageBits.leafOnly : 0) | order, alignedHigh(iovaHigh, order));
  }

  /** Drops the cached entries of a PASID under a domain id. */
  pasidCache(domainId: number, pasid: number): this {
    return this.push(Descriptor.PASID_CACHE | (PasidCacheGranularity.PASID << Bits.granularityShift) | (domainId << Bits.domainShift), pasid, 0, 0);
  }

  pasidCacheAll(): this {
    return this.push(Descriptor.PASID_CACHE | (PasidCacheGranularity.GLOBAL << Bits.granularityShift), 0, 0, 0);
  }

  /** `1 << order` pages, aligned, around the IOVA in a function's device TLB, of requests without PASID or with one; all of it for an order of 52. */
  deviceTlb(sourceId: number, iovaHigh: number, iovaLow: number, order: number, pasid: number = ridPasid): this {
    const first = pasid === ridPasid ? Descriptor.DEVICE_TLB : Descriptor.PASID_DEVICE_TLB | (sourceId << 16);
    const second = pasid === ridPasid ? sourceId : pasid;
    if (order === 0) return this.push(first, second, iovaLow & ~4095, iovaHigh);
    return this.push(first, second, namedLow(iovaLow, order) | (pasid === ridPasid ? deviceTlbSize : pasidDeviceTlbSize), namedHigh(iovaHigh, order));
  }

  /** A wait that tells nobody: what is behind it is carried out when all before it is over (FN). */
  fence(): this {
    return this.push(Descriptor.WAIT | Bits.waitFence, 0, 0, 0);
  }

  /** The answer to a group of page requests. */
  pageAnswer(sourceId: number, group: number, code: number, pasid: number | null): this {
    const first = Descriptor.PAGE_ANSWER | (pasid === null ? 0 : PageAnswerBits.hasPasid) | (code << PageAnswerBits.codeShift) | (sourceId << PageAnswerBits.sourceShift);
    return this.push(first, pasid ?? 0, group << PageAnswerBits.groupShift, 0);
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
