/**
 * Descriptors of the VT-d invalidation queue (VT-d specification 6.5.2; SEMANTICS d.2): 128 bits, four words; or 256 bits, of which
 * the second half is 0 in all that are modelled.
 */
export const descriptorBytes = 16;
export const wideDescriptorBytes = 32;
export const descriptorWords = 4;

export const Descriptor = { CONTEXT_CACHE: 1, IOTLB: 2, DEVICE_TLB: 3, WAIT: 5, PASID_IOTLB: 6, PASID_CACHE: 7, PASID_DEVICE_TLB: 8, PAGE_ANSWER: 9 } as const;

/** Bits [5:4] of an invalidation: what it covers. For the context cache, `SELECTED` is one requester. */
export const Granularity = { GLOBAL: 1, DOMAIN: 2, SELECTED: 3 } as const;

/** Bits [5:4] of a PASID-IOTLB invalidation, and of one of the PASID cache. */
export const PasidIotlbGranularity = { PASID: 2, SELECTED: 3 } as const;
export const PasidCacheGranularity = { DOMAIN: 0, PASID: 1, GLOBAL: 3 } as const;

/** Bits of the first word. */
export const Bits = {
  typeMask: 0xf,
  granularityShift: 4,
  granularityMask: 3,
  drainWrites: 1 << 6,
  drainReads: 1 << 7,
  domainShift: 16,
  waitInterrupt: 1 << 4,
  waitStatusWrite: 1 << 5,
  waitFence: 1 << 6,
  waitPageRequests: 1 << 7,
} as const;

/** The PASID in the second word of a descriptor that has one. */
export const pasidMask = 0xfffff;

/** A page-group response: the requester in bits [31:16] of the first word, its code in [15:12], and whether the second word's PASID counts; the group is in bits [11:3] of the third word. */
export const PageAnswerBits = { hasPasid: 1 << 4, codeShift: 12, codeMask: 0xf, sourceShift: 16, groupShift: 3 } as const;

/** Bits of the third word of an IOTLB descriptor. */
export const PageBits = { orderMask: 0x3f, leafOnly: 1 << 6 } as const;

/**
 * S of a device-TLB invalidation, which says that its address names more than one page (`orderOfBlock`): bit 0 of the third word, with a PASID bit 11.
 */
export const deviceTlbSize = 1;
export const pasidDeviceTlbSize = 1 << 11;

/** Bits that must be 0 in the first word, by type. Bits [11:9] extend the type and are 0 in all of these. */
const reserved: Readonly<Record<number, number>> = {
  [Descriptor.CONTEXT_CACHE]: 0xffc0,
  [Descriptor.IOTLB]: 0xff00,
  [Descriptor.DEVICE_TLB]: 0xffe0fff0 | 0,
  [Descriptor.WAIT]: 0xff00,
  [Descriptor.PASID_IOTLB]: 0xffc0,
  [Descriptor.PASID_CACHE]: 0xffc0,
  [Descriptor.PASID_DEVICE_TLB]: 0xe00,
  [Descriptor.PAGE_ANSWER]: 0xfe0,
};

/** What a unit's capabilities let its queue do. */
export interface QueueAbilities {
  readonly largestOrder: number;
  /** Scalable mode: it knows PASIDs. */
  readonly scalable: boolean;
  readonly deviceTlbs: boolean;
  readonly pageRequests: boolean;
}

/** Whether a queue of such a unit can carry it out: known type, granularity and order, reserved bits clear, aligned status address. */
export function isWellFormed(first: number, third: number, { largestOrder, scalable, deviceTlbs, pageRequests }: QueueAbilities): boolean {
  const type = first & Bits.typeMask;
  const reservedBits = reserved[type];
  if (reservedBits === undefined || (first & reservedBits) !== 0) return false;
  if (type === Descriptor.WAIT) return (third & 3) === 0 && (pageRequests || (first & Bits.waitPageRequests) === 0);
  if (type === Descriptor.PAGE_ANSWER) return pageRequests;
  if (type === Descriptor.DEVICE_TLB) return deviceTlbs && (third & 0xffe) === 0;
  if (type === Descriptor.PASID_DEVICE_TLB) return scalable && deviceTlbs && (third & 0x7fe) === 0;
  const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
  if (type === Descriptor.PASID_CACHE) return scalable && granularity !== 2;
  if (type === Descriptor.PASID_IOTLB && (!scalable || granularity < PasidIotlbGranularity.PASID)) return false;
  if (granularity === 0) return false;
  return type === Descriptor.CONTEXT_CACHE || granularity !== Granularity.SELECTED || (third & PageBits.orderMask) <= largestOrder;
}
