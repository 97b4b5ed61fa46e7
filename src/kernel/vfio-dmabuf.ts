/**
 * What VFIO exports of a device: ranges of BAR 0 as dma-bufs (drivers/vfio/pci/vfio_pci_dmabuf.c), so that another device reaches the registers.
 * They are revoked while the device's memory is switched off, and for good when it is closed.
 */
import { Owner } from '#hostmem/frames';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { createDmabuf, Dmabuf, moveDmabuf } from './dmabuf.ts';
import { checkArgsz, type Argsized } from './argument.ts';
import { allocated, fail } from './errno.ts';
import { getFile, putFile, tryInstallFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { granted, VfioDevice } from './vfio.ts';
import { barBytes } from './vfio-info.ts';

/** `ranges` are `[offset, length]` in bytes of the region. */
export interface VfioFeature extends Argsized { flags: number; regionIndex: number; dmabufFlags: number; ranges: readonly (readonly [bigint, bigint])[] }

/** VFIO_DEVICE_FEATURE_DMA_BUF, and what is done with a feature. */
const DMA_BUF = 11;
const Feature = { MASK: 0xffff, GET: 1 << 16, SET: 1 << 17, PROBE: 1 << 18 } as const;
const headerBytes = 8;
const dmabufBytes = 16;
/** Regions from here on are no BARs. */
const ROM = 6;

/**
 * VFIO_DEVICE_FEATURE, of which the export is modelled: returns the descriptor of a dma-buf, or 0 for a probe. EINVAL, EFAULT, ENOTTY for another
 * feature, ENODEV for a region that is no BAR, ENOMEM.
 */
export function vfioFeature(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioFeature): number {
  const device = granted(kernel, file);
  const known = Feature.MASK | Feature.GET | Feature.SET | Feature.PROBE;
  checkArgsz(arg, headerBytes);
  const both = (arg.flags & Feature.SET) !== 0 && (arg.flags & Feature.GET) !== 0;
  if ((arg.flags & ~known) !== 0) fail('EINVAL', 'unknown flags');
  if (both && (arg.flags & Feature.PROBE) === 0) fail('EINVAL', 'a feature is got or set');
  if ((arg.flags & Feature.MASK) !== DMA_BUF) fail('ENOTTY', `feature ${arg.flags & Feature.MASK} is not there`);
  if ((arg.flags & Feature.SET) !== 0) fail('EINVAL', 'a dma-buf is not set');
  if ((arg.flags & Feature.PROBE) !== 0) return 0;
  if ((arg.flags & Feature.GET) === 0 || arg.argsz < headerBytes + dmabufBytes) fail('EINVAL', 'nothing is asked for, or argsz is too small');
  checkRanges(arg);
  return exportRanges(kernel, device, arg.ranges);
}

/** EINVAL, ENODEV. */
function checkRanges({ dmabufFlags, ranges, regionIndex }: VfioFeature): void {
  if (dmabufFlags !== 0 || ranges.length === 0) fail('EINVAL', 'unknown flags, or no range');
  if (regionIndex >= ROM) fail('ENODEV', `region ${regionIndex} is no BAR`);
  const size = regionIndex === 0 ? barBytes : 0n;
  for (const [offset, length] of ranges) {
    if ((offset | length) % 4096n !== 0n || length === 0n || offset + length > size) fail('EINVAL', 'a range is not whole pages of the region');
  }
}

function exportRanges(kernel: Kernel, device: Ref<'VfioDevice'>, ranges: VfioFeature['ranges']): number {
  const memory = kernel.memory;
  VfioDevice.memoryLock.acquire(memory, device);
  try {
    const first = (registersOf(kernel, device) + Number(ranges[0]![0] / 4096n)) as Frame;
    const pages = Number(ranges.reduce((sum, [, length]) => sum + length, 0n) / 4096n);
    const dmabuf = createDmabuf(kernel, first, pages, ranges.length, device);
    const fd = tryInstallFile(kernel, FileKind.DMABUF, dmabuf);
    if (fd < 0) Dmabuf.free(memory, dmabuf);
    if (fd < 0) fail('ENOMEM', 'no descriptor is left');
    Dmabuf.nextOfDevice.poke(memory, dmabuf, VfioDevice.dmabufs.read(memory, device));
    VfioDevice.dmabufs.write(memory, device, dmabuf);
    if (VfioDevice.memoryOff.read(memory, device) !== 0) moveDmabuf(kernel, dmabuf, true);
    return fd;
  } finally {
    VfioDevice.memoryLock.release(memory, device);
  }
}

/** The frames that stand for BAR 0, made when somebody first asks. Under `memoryLock`. ENOMEM. */
function registersOf(kernel: Kernel, device: Ref<'VfioDevice'>): Frame {
  const found = VfioDevice.registers.read(kernel.memory, device);
  if (found !== 0) return found as Frame;
  const made = allocated(kernel.host.frames.allocateRun(Owner.KERNEL, Number(barBytes / 4096n), 1));
  VfioDevice.registers.write(kernel.memory, device, made);
  return made;
}

/** The last close of a dma-buf of the device. */
export function forgetDmabuf(kernel: Kernel, device: Ref<'VfioDevice'>, dmabuf: Ref<'Dmabuf'>): void {
  const memory = kernel.memory;
  VfioDevice.memoryLock.acquire(memory, device);
  const next = Dmabuf.nextOfDevice.peek(memory, dmabuf);
  let at = VfioDevice.dmabufs.read(memory, device);
  if (at === dmabuf) VfioDevice.dmabufs.write(memory, device, next);
  else {
    while (at !== NULL && Dmabuf.nextOfDevice.peek(memory, at) !== dmabuf) at = Dmabuf.nextOfDevice.peek(memory, at);
    if (at !== NULL) Dmabuf.nextOfDevice.poke(memory, at, next);
  }
  VfioDevice.memoryLock.release(memory, device);
}

/**
 * What a write of the command register does by its memory bit (`vfio_basic_config_write`): without memory the dma-bufs are revoked; with it they
 * can be imported again. EBADF, EINVAL for a device that is not bound.
 */
export function switchMemory(kernel: Kernel, fd: number, on: boolean): void {
  const memory = kernel.memory;
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(memory, file) !== FileKind.VFIO) fail('EINVAL', `descriptor ${fd} is no VFIO device`);
    const device = granted(kernel, File.body.peek(memory, file) as Ref<'VfioFile'>);
    VfioDevice.memoryLock.acquire(memory, device);
    if ((VfioDevice.memoryOff.read(memory, device) === 0) !== on) moveAll(kernel, device, !on);
    VfioDevice.memoryOff.write(memory, device, on ? 0 : 1);
    VfioDevice.memoryLock.release(memory, device);
  } finally {
    putFile(kernel, file);
  }
}

/** Under `memoryLock`. */
function moveAll(kernel: Kernel, device: Ref<'VfioDevice'>, revoked: boolean): void {
  let at: Ref<'Dmabuf'> = VfioDevice.dmabufs.read(kernel.memory, device);
  for (; at !== NULL; at = Dmabuf.nextOfDevice.peek(kernel.memory, at)) moveDmabuf(kernel, at, revoked);
}

/** The device is closed: its dma-bufs are revoked, and nobody gives them back (`vfio_pci_dma_buf_cleanup`). */
export function abandonDmabufs(kernel: Kernel, device: Ref<'VfioDevice'>): void {
  const memory = kernel.memory;
  VfioDevice.memoryLock.acquire(memory, device);
  moveAll(kernel, device, true);
  VfioDevice.dmabufs.write(memory, device, NULL);
  VfioDevice.memoryOff.write(memory, device, 0);
  VfioDevice.memoryLock.release(memory, device);
}
