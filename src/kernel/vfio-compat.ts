/**
 * The commands of a VFIO container on /dev/iommu (drivers/iommu/iommufd/vfio_compat.c): they mean the compatibility IOAS.
 *
 * Type 1 v1 lets an unmap end within a mapping, so it gives up large pages and splits; v2 does not.
 */
import type { Ref } from '#hostmem/object';
import { checkArgsz, refusesAnswer, type Argsized } from './argument.ts';
import { getCompatIoas } from './compat-ioas.ts';
import { fail } from './errno.ts';
import { Ioas, mapUserMemory, MapFlag, unmapMappings } from './ioas.ts';
import { iovaHoles } from './iopt-ranges.ts';
import { disableLargePages, pageSizes } from './iopt-alignment.ts';
import { cutAreas } from './iopt-split.ts';
import type { Kernel } from './kernel.ts';
import { IommufdObject } from './objects.ts';
import { U64_MAX } from './u64.ts';

/** A command whose argument is a number. */
export interface PlainArgument { arg: number }
export interface CompatMapDma extends Argsized { flags: number; vaddr: bigint; iova: bigint; length: bigint }
export interface CompatUnmapDma extends Argsized { flags: number; iova: bigint; length: bigint }
export interface CompatGetInfo extends Argsized {
  flags: number;
  iovaPageSizes: bigint;
  capOffset: number;
  /** The user's buffer of `argsz` bytes; what the kernel does not write there stays. */
  bytes?: Uint8Array;
}

/** Extensions, which are also the kinds of IOMMU that SET_IOMMU takes. */
const Extension = { TYPE1: 1, TYPE1V2: 3, DMA_CACHE_COHERENT: 4, UNMAP_ALL: 9 } as const;
const UNMAP_ALL = 2;
const infoBytes = 24;
/** Where `capOffset` ends in it. */
const capOffsetEnd = 20;
const InfoFlag = { PAGE_SIZES: 1, CAPABILITIES: 2 } as const;
const Capability = { IOVA_RANGES: 1, DMA_AVAILABLE: 3 } as const;

/** VFIO_API_VERSION. */
export function compatApiVersion(): number {
  return 0;
}

/** Whether there is an extension. ENODEV for the one that asks the IOAS. */
export function compatCheckExtension(kernel: Kernel, iommufd: Ref<'Iommufd'>, { arg }: PlainArgument): number {
  if (arg === Extension.DMA_CACHE_COHERENT) return isCoherent(kernel, getCompatIoas(kernel, iommufd)) ? 1 : 0;
  return arg === Extension.TYPE1 || arg === Extension.TYPE1V2 || arg === Extension.UNMAP_ALL ? 1 : 0;
}

/** No HWPT here is made to enforce coherency, so it holds for an IOAS without any (`iommufd_vfio_cc_iommu`). */
function isCoherent(kernel: Kernel, ioas: Ref<'Ioas'>): boolean {
  Ioas.mutex.acquire(kernel.memory, ioas);
  const first = Ioas.hwpts.read(kernel.memory, ioas);
  Ioas.mutex.release(kernel.memory, ioas);
  return first === 0;
}

/** EINVAL for a kind that nobody knows or mappings in large pages, ENODEV. */
export function compatSetIommu(kernel: Kernel, iommufd: Ref<'Iommufd'>, { arg }: PlainArgument): void {
  if (arg !== Extension.TYPE1 && arg !== Extension.TYPE1V2) fail('EINVAL', `there is no IOMMU of kind ${arg}`);
  const ioas = getCompatIoas(kernel, iommufd);
  if (arg === Extension.TYPE1) disableLargePages(kernel, ioas);
}

/** EFAULT, EINVAL, ENODEV, and what IOAS_MAP with a fixed iova ends in. */
export function compatMapDma(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: CompatMapDma): void {
  checkArgsz(arg, 32);
  if ((arg.flags & ~3) !== 0) fail('EINVAL', `unknown flags 0x${arg.flags.toString(16)}`);
  const ioas = getCompatIoas(kernel, iommufd);
  const readable = (arg.flags & 1) === 0 ? 0 : MapFlag.READABLE;
  const writable = (arg.flags & 2) === 0 ? 0 : MapFlag.WRITEABLE;
  const ioasId = idOf(kernel, ioas);
  mapUserMemory(kernel, ioas, { ioasId, userVa: arg.vaddr, length: arg.length, iova: arg.iova, flags: MapFlag.FIXED_IOVA | readable | writable });
}

/** EFAULT, EINVAL, ENODEV, EOVERFLOW, and what IOAS_UNMAP ends in; but nothing to unmap is no error. */
export function compatUnmapDma(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: CompatUnmapDma): void {
  checkArgsz(arg, infoBytes);
  if ((arg.flags & ~UNMAP_ALL) !== 0) fail('EINVAL', `unknown flags 0x${arg.flags.toString(16)}`);
  const ioas = getCompatIoas(kernel, iommufd);
  const all = (arg.flags & UNMAP_ALL) !== 0;
  if (all && (arg.iova !== 0n || arg.length !== 0n)) fail('EINVAL', 'all is to be unmapped, and a range is given');
  if (!all && Ioas.largePagesDisabled.peek(kernel.memory, ioas) !== 0) cutAtEnds(kernel, ioas, arg.iova, arg.length);
  const range = all ? { iova: 0n, length: U64_MAX } : { iova: arg.iova, length: arg.length };
  const removed = { bytes: 0n };
  try {
    if (!all) checkRange(arg);
    unmapMappings(kernel, ioas, { ioasId: idOf(kernel, ioas), ...range }, all, removed);
  } finally {
    // Also after an error the user learns what is gone.
    if (refusesAnswer(kernel, arg)) fail('EFAULT', 'the argument cannot be written');
    arg.length = removed.bytes;
  }
}

function checkRange({ iova, length }: CompatUnmapDma): void {
  if (length === 0n) fail('EINVAL', 'the length is 0');
  if (iova + length - 1n > U64_MAX) fail('EOVERFLOW', 'iova + length wraps');
}

function cutAtEnds(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, size: bigint): void {
  const last = (iova + size - 1n) & U64_MAX;
  cutAreas(kernel, ioas, iova === 0n ? [last] : [last, iova - 1n]);
}

/** EFAULT, EINVAL, ENODEV. Capabilities that do not fit are left out; `argsz` says how long all of it is. */
export function compatGetInfo(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: CompatGetInfo): void {
  checkArgsz(arg, 16);
  const ioas = getCompatIoas(kernel, iommufd);
  const sizes = pageSizes(kernel, ioas);
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  const holes = iovaHoles(kernel, ioas);
  Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  const available = capabilityOf(Capability.DMA_AVAILABLE, [0xffffffff]);
  const capabilities = [available, rangesCapability(holes)];
  const room = arg.argsz;
  if (refusesAnswer(kernel, arg)) fail('EFAULT', 'the argument cannot be written');
  arg.argsz = capabilities.reduce((sum, capability) => sum + roundUp(capability.length), infoBytes);
  arg.flags = InfoFlag.PAGE_SIZES | InfoFlag.CAPABILITIES;
  arg.iovaPageSizes = sizes;
  if (room >= capOffsetEnd) arg.capOffset = room >= arg.argsz ? infoBytes : 0;
  arg.bytes ??= new Uint8Array(room);
  writeInfo(arg, arg.bytes.subarray(0, room), capabilities);
}

const roundUp = (bytes: number): number => (bytes + 7) & ~7;

/** `id` and version 1, the place of the next one (to be filled in), then 32-bit words. */
function capabilityOf(id: number, words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(8 + words.length * 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id, true);
  view.setUint16(2, 1, true);
  words.forEach((word, index) => view.setUint32(8 + index * 4, word, true));
  return bytes;
}

/** Bytes of its head, and of a range. */
const rangesHead = 16;
const rangeBytes = 16;

function rangesCapability(holes: readonly (readonly [bigint, bigint])[]): Uint8Array {
  const words = [holes.length, 0];
  for (const bound of holes.flat()) words.push(Number(bound & 0xffffffffn), Number(bound >> 32n));
  return capabilityOf(Capability.IOVA_RANGES, words);
}

/**
 * Writes the struct, cut where the room ends, and the capabilities that fit; one names its successor even where only its place fits. Of the last one, the ranges
 * that fit are written all the same, without a head (`iommufd_fill_cap_iova`).
 */
function writeInfo({ argsz, flags, iovaPageSizes, capOffset }: CompatGetInfo, to: Uint8Array, capabilities: readonly Uint8Array[]): void {
  const head = new DataView(new ArrayBuffer(infoBytes));
  head.setUint32(0, argsz, true);
  head.setUint32(4, flags, true);
  head.setBigUint64(8, iovaPageSizes, true);
  head.setUint32(16, capOffset, true);
  to.set(new Uint8Array(head.buffer).subarray(0, to.length));
  let at = infoBytes;
  for (const [index, capability] of capabilities.entries()) {
    const next = at + roundUp(capability.length);
    if (index < capabilities.length - 1 && next <= to.length) new DataView(capability.buffer).setUint32(4, next, true);
    if (at + capability.length <= to.length) to.set(capability, at);
    else if (index === capabilities.length - 1) writeRanges(capability, to, at);
    at = next;
  }
}

function writeRanges(capability: Uint8Array, to: Uint8Array, at: number): void {
  for (let range = rangesHead; at + range + rangeBytes <= to.length; range += rangeBytes) to.set(capability.subarray(range, range + rangeBytes), at + range);
}

const idOf = (kernel: Kernel, ioas: Ref<'Ioas'>): number => IommufdObject.id.peek(kernel.memory, Ioas.header.peek(kernel.memory, ioas));
