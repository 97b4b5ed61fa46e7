/** A thread of a race that a recording asks for: system calls of one process, or DMA of one function, as fast as they go. */
import { peek, silent } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { mix32 } from '#hostmem/labels';
import { Memory, Space } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { driverInForce } from '#src/drivers/in-force';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { Machine } from '#src/hardware/machine';
import { errnoOf } from '#src/kernel/errno';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { ioctl } from '#src/kernel/syscalls';
import type { EndlessReplaces, RaceReport, RaceTask, RacingDma, RandomReplaces } from '#src/task';

/** Byte addresses in the gate. */
const Gate = { ARRIVED: 0, STOP: 4, REPLACES: 8 } as const;

type Counts = Record<string, number>;

const count = (counts: Counts, what: string): void => {
  counts[what] = (counts[what] ?? 0) + 1;
};

export default function race(task: RaceTask): RaceReport {
  const host = new Host(task.host);
  const machine = new Machine(host);
  const kernel = new Kernel(host, linux72, driverInForce(host, machine));
  kernel.enter(task.process as Ref<'Process'>);
  const gate = new Memory(task.gate, Space.KERNEL);
  const report = { attaches: {}, detaches: {}, reads: {}, writes: {} };
  silent.add(gate, Gate.ARRIVED, 1);
  while (silent.load(gate, Gate.ARRIVED) < task.threads);
  if (task.work.kind === 'random replaces') replaceAtRandom(kernel, task.work, report);
  else if (task.work.kind === 'endless replaces') replaceUntilStopped(kernel, gate, task.work, report.attaches);
  else doDma(host, gate, machine.dma(task.work.function as Ref<'PciFunction'>), task.work, report);
  return report;
}

function replaceAtRandom(kernel: Kernel, { fd, ptIds, rounds, detaches, seed }: RandomReplaces, report: { attaches: Counts; detaches: Counts }): void {
  let random = seed;
  for (let round = 0; round < rounds; round++) {
    random = mix32(random + round + 1);
    if (detaches && (random & 3) === 0) detach(kernel, fd, report.detaches);
    else attach(kernel, fd, ptIds[((random >>> 2) & 0xffff) % ptIds.length]!, report.attaches);
  }
}

function replaceUntilStopped(kernel: Kernel, gate: Memory, { fd, ptIds }: EndlessReplaces, attaches: Counts): void {
  for (let next = 1; silent.load(gate, Gate.STOP) === 0 || next !== 1; next = (next + 1) % ptIds.length) {
    attach(kernel, fd, ptIds[next]!, attaches);
    silent.add(gate, Gate.REPLACES, 1);
  }
}

function attach(kernel: Kernel, fd: number, ptId: number, attaches: Counts): void {
  count(attaches, errnoOf(() => ioctl(kernel, fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId })) ?? 'ok');
}

function detach(kernel: Kernel, fd: number, detaches: Counts): void {
  count(detaches, errnoOf(() => ioctl(kernel, fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 })) ?? 'ok');
}

function doDma(host: Host, gate: Memory, engine: DmaEngine, work: RacingDma, report: { reads: Counts; writes: Counts }): void {
  for (let pair = 0; pair < work.pairs; pair++) {
    const replaces = silent.load(gate, Gate.REPLACES);
    count(report.reads, read(engine, work));
    count(report.writes, write(host, engine, work, pair));
    while (silent.load(gate, Gate.REPLACES) === replaces);
  }
  silent.store(gate, Gate.STOP, 1);
}

function read(engine: DmaEngine, { readIova, lengthBytes, pages }: RacingDma): string {
  if (engine.read(high(readIova), low(readIova), lengthBytes) !== 0) return 'fault';
  return pages.find(({ tag }) => tag.every((word, i) => engine.bufferWord(i) === word))?.name ?? 'other';
}

/** Writes a value that no page has. */
function write(host: Host, engine: DmaEngine, { writeIova, lengthBytes, pages }: RacingDma, pair: number): string {
  const nonce = 0x5a000000 | pair;
  engine.fillBuffer(nonce);
  if (engine.write(high(writeIova), low(writeIova), lengthBytes) !== 0) return 'fault';
  return pages.find(({ dst }) => peek(host.ram, dst) === nonce)?.name ?? 'other';
}

const high = (iova: bigint): number => Number(BigInt.asIntN(32, iova >> 32n));
const low = (iova: bigint): number => Number(BigInt.asIntN(32, iova));
