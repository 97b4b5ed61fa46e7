/**
 * DMA through the whole path: published as in flight, translated by a hit of the IOTLB, checked, moved, counted, ended; against a bare copy of as
 * many bytes. More than a page is one transfer after the other, each of what the function's buffer holds.
 */
import { copy } from '#hostmem/atomics';
import { hpaOf } from '#hostmem/memory';
import { bufferBytes } from '#src/hardware/function';
import { attachFunctions, type Attached } from '../attached.ts';
import { devicePages as pages, dmaAll, drive, type Driven } from '../device.ts';
import type { Question, Row } from '../question.ts';

const sizes = [8, 64, 512, 4096, 65_536];

function copyAll({ host, firstFrame }: Attached & Driven, bytes: number, count: number): number {
  const buffer = host.kernel.sizeBytes - bufferBytes;
  for (let i = 0; i < count; i++) copy(host.kernel, buffer, host.ram, hpaOf(firstFrame) + (i & (pages - 1)) * 4096, bytes);
  return count;
}

function rowsOf(device: Attached & Driven, bytes: number, operations: number): Row[] {
  const bare = `bare copy/${bytes}`;
  const transfers = Math.max(1, bytes / bufferBytes);
  const each = bytes / transfers;
  const count = operations * transfers;
  return [
    { name: bare, operations, call: () => copyAll(device, each, count) },
    { name: `${bytes}`, operations, against: bare, call: () => dmaAll(device, false, pages, each, count) },
    { name: `${bytes}/write`, operations, against: bare, call: () => dmaAll(device, true, pages, each, count) },
  ];
}

export default {
  asks: 'what does a DMA of so many bytes cost, and what is the copy of it?',
  prepare(tiny) {
    const device = drive(attachFunctions(1, pages)[0]!);
    return { rows: sizes.flatMap((bytes) => rowsOf(device, bytes, tiny ? 4 : bytes < 4096 ? 1024 : 128)) };
  },
} satisfies Question;
