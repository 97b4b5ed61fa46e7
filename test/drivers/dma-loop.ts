/** A device on a thread of its own: DMA to a few pages, again and again, until it is told to stop or its history is full. */
import { Host, type HostBuffers } from '#hostmem/host';
import { silent } from '#hostmem/atomics';
import { History } from '#hostmem/history';
import { Memory, Space } from '#hostmem/memory';
import { Machine } from '#src/hardware/machine';
import { parentPort, workerData } from 'node:worker_threads';

export interface DmaLoop {
  readonly buffers: HostBuffers;
  /** Word 0: how many loops have started; word 1: stop; word 2: how many have ended. */
  readonly flags: SharedArrayBuffer;
  readonly history: SharedArrayBuffer;
  readonly rings: number;
  readonly capacity: number;
  /** Which function, and which ring. */
  readonly index: number;
  readonly iovas: readonly number[];
  readonly bytes: number;
}

function run(loop: DmaLoop): void {
  const host = new Host(loop.buffers);
  const history = new History(loop.history, loop.rings, loop.capacity);
  history.ring = history.actor = loop.index;
  host.kernel.history = history;
  const machine = new Machine(host);
  const dma = machine.dma(machine.functions()[loop.index]!);
  const flags = new Memory(loop.flags, Space.KERNEL);
  dma.fillBuffer(0x0d0a0000 + loop.index);
  silent.add(flags, 0, 1);
  for (let i = loop.index; silent.load(flags, 4) === 0 && history.length(loop.index) < loop.capacity - 2; i++) {
    const iova = loop.iovas[i % loop.iovas.length]!;
    if ((i & 1) === 0) dma.write(0, iova, loop.bytes);
    else dma.read(0, iova, loop.bytes, 2048);
  }
  silent.add(flags, 8, 1);
  parentPort!.postMessage('ended');
}

run(workerData as DmaLoop);
