/** What a device reaches, in words: for the terminal and for reports. */
import { Owner } from '#hostmem/frames';
import type { CachedLine, Reach } from './check/reach.ts';

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
/** A quadword in full. */
export const wide = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;
const rights = (permissions: number): string => ['nothing', 'reading', 'writing', 'reading and writing'][permissions & 3]!;

/** Which domain answers for the device. */
export const domainText = (device: string, { requesterId, group, pasid, domain, vendor, unit }: Reach): string =>
  `${device}, requester ${hex(requesterId)}, is in group ${group}, ${pasid === null ? 'which' : `whose PASID ${pasid}`} is on ${domain}; its unit is ${vendor} ${unit}`;

/** Where tables lead. */
export function outcomeText(iova: bigint, { frame, permissions, owner, passesThrough, fault, why }: Reach): string {
  if (frame === null) return `${hex(iova)} is not reached: ${why ?? (fault === 0 ? 'the entry blocks the device' : `the entry says so (fault ${hex(fault)})`)}`;
  const address = hex(BigInt(frame) * 4096n + (iova & 4095n));
  return `${hex(iova)} is ${address}, frame ${hex(frame)} ${ownerText(owner)}, for ${rights(permissions)}${passesThrough ? ', untranslated' : ''}`;
}

function ownerText(owner: number | null): string {
  if (owner === null) return 'beyond memory';
  if (owner === Owner.FREE) return '(free)';
  return owner === Owner.KERNEL ? 'of the kernel' : owner === Owner.TABLE ? 'of page tables' : `of process ${owner - Owner.firstProcess}`;
}

/** Whether a line leads to a frame to which the tables do not lead any more, or not yet. */
export const isStale = (reach: Reach, { frame }: CachedLine): boolean => frame !== null && frame !== reach.frame;

export function lineText({ cache, tag, frame, permissions }: CachedLine): string {
  if (frame === null) return `${cache}: a line of the requester, under number ${tag}`;
  return `${cache}: frame ${hex(frame)}${permissions === null ? '' : ` for ${rights(permissions)}`}${cache === 'IOTLB' ? `, under number ${tag}` : ''}`;
}
