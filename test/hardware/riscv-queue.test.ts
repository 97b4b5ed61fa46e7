/** The command queue of a RISC-V unit as bare hardware: what is legal, what stops it and how it goes on, and ATS through it (SEMANTICS d.4, e). */
import { peek, poke } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Atc, AtcInvalidation, AtcView } from '#src/hardware/atc';
import { PciFunction } from '#src/hardware/function';
import * as commands from '#src/hardware/riscv/commands';
import { Fence, Invalidate } from '#src/hardware/riscv/commands';
import { CapabilityHigh, QueueStatus, ringAt, RiscvRegisters, worldCapabilities, type RiscvUnitOptions } from '#src/hardware/riscv/registers';
import { askForPage } from '#src/hardware/page-requests';
import { IommuUnit } from '#src/hardware/unit';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { smallRiscv } from '../drivers/small-vendor.ts';

const rids = [0x108, 0x110] as const;
type Command = readonly [number, number, number, number];

/** A unit whose ring nobody but the test writes. */
class Bare {
  readonly small;
  readonly #ring: number;
  readonly statusAt: number;
  tail = 0;

  constructor(options: RiscvUnitOptions = {}, deviceOptions: { readonly ats?: boolean; readonly pageRequests?: boolean } = options) {
    this.small = smallRiscv(rids.map((rid) => ({ rid, ats: deviceOptions.ats === true, pageRequests: deviceOptions.pageRequests === true, pasids: 16 })), options);
    const { host, registers } = this.small;
    this.#ring = ringAt(RiscvRegisters.commandQueue.peek(host.kernel, registers));
    this.statusAt = hpaOf(host.frames.allocate(16));
    this.tail = this.head;
  }

  push(...all: readonly Command[]): void {
    for (const words of all) {
      words.forEach((word, index) => poke(this.small.host.ram, this.#ring + this.tail * 16 + index * 4, word));
      this.tail = (this.tail + 1) % 256;
    }
    RiscvRegisters.commandTail.poke(this.small.host.kernel, this.small.registers, this.tail);
  }

  /** A fence that writes `data`. */
  pushFence(data: number, bits = 0): void {
    this.push([commands.fence | Fence.ADDRESS_VALID | bits, data, this.statusAt >>> 2, 0]);
  }

  get queue() {
    return this.small.queue;
  }
  get head(): number {
    return RiscvRegisters.commandHead.peek(this.small.host.kernel, this.small.registers);
  }
  get written(): number {
    return peek(this.small.host.ram, this.statusAt);
  }
  get errors(): number {
    const { host, registers } = this.small;
    return RiscvRegisters.commandStatus.peek(host.kernel, registers) & (QueueStatus.ILLEGAL | QueueStatus.MEMORY_FAULT | QueueStatus.TIME_OUT);
  }
  clear(): void {
    RiscvRegisters.commandStatus.poke(this.small.host.kernel, this.small.registers, QueueStatus.ENABLED | QueueStatus.ON);
  }

  /** Takes every step that is possible, without the functions. */
  run(): void {
    while (this.queue.ready()) this.queue.step();
  }

  /** What the unit makes of one command: its error bits. */
  errorsOf(command: Command): number {
    this.push(command);
    this.run();
    const { errors } = this;
    this.clear();
    this.tail = this.head;
    RiscvRegisters.commandTail.poke(this.small.host.kernel, this.small.registers, this.tail);
    return errors;
  }

  view(index = 0): AtcView {
    return new AtcView(this.small.host.kernel, PciFunction.atc.peek(this.small.host.kernel, this.small.functions[index]!));
  }
  answerOf(index = 0): AtcInvalidation {
    return new AtcInvalidation(this.small.host, this.small.functions[index]!);
  }
}

/** ATS.INVAL of pages without PASID, or with one. */
const inval = (rid: number, low: number, high = 0, pasid: number | null = null): Command => [commands.atsInvalidation(pasid), commands.toRequester(rid, pasid), low, high];
const all = 0x7ffff800;
const allHigh = -1 >>> 1;

describe('what is legal', () => {
  const bare = new Bare({ ats: true });
  const wide = 0xc0000000 | 0;
  const legal: readonly (readonly [string, Command])[] = [
    ['IOTINVAL.VMA of a page', [commands.invalidateVma | Invalidate.ADDRESS_VALID | (7 << 12), Invalidate.PSCV, 0x400, 0]],
    ['IOTINVAL.VMA of a range, tables too', [commands.invalidateVma | Invalidate.ADDRESS_VALID, Invalidate.PSCV | Invalidate.NON_LEAF, commands.isRange, 0]],
    ['IOTINVAL.GVMA of a guest', [commands.invalidateVma | (1 << 7), Invalidate.GV | (9 << 12), 0, 0]],
    ['IOFENCE.C', [commands.fence | Fence.READS | Fence.WRITES, 0, 0, 0]],
    ['IODIR.INVAL_DDT of all', [commands.invalidateDdt, 0, 0, 0]],
    ['IODIR.INVAL_PDT', [commands.invalidatePdt(255), commands.oneDevice(0xffff), 0, 0]],
    ['ATS.INVAL', inval(0x999, 0x1000)],
    ['ATS.INVAL with a PASID', inval(0x999, 0x1000, 0, 0xfffff)],
    ['ATS.PRGR', [commands.pageAnswer(null), commands.toRequester(0x999, null), 0, commands.answerOf(3, 1)]],
  ];
  test.each(legal)('%s', (_name, command) => expect(bare.errorsOf(command)).toBe(0));

  const illegal: readonly (readonly [string, Command])[] = [
    ['an opcode that is none', [0, 0, 0, 0]],
    ['an opcode of the future', [5, 0, 0, 0]],
    ['a function that is none, of each opcode', [commands.fence | (1 << 7), 0, 0, 0]],
    ['IOTINVAL.GVMA with a process', [commands.invalidateVma | (1 << 7), Invalidate.PSCV, 0, 0]],
    ['IOTINVAL, bit 11', [commands.invalidateVma | (1 << 11), 0, 0, 0]],
    ['IOTINVAL, bits [43:35] and [63:60]', [commands.invalidateVma, 8, 0, 0]],
    ['IOTINVAL, the last bits of the address', [commands.invalidateVma, 0, 0, wide]],
    ['IOFENCE.C with a wired interrupt, which there is not', [commands.fence | Fence.SIGNAL, 0, 0, 0]],
    ['IOFENCE.C, bit 14', [commands.fence | (1 << 14), 0, 0, 0]],
    ['IODIR.INVAL_DDT with a process', [commands.invalidateDdt | (1 << 12), commands.oneDevice(1), 0, 0]],
    ['IODIR.INVAL_PDT without a device', [commands.invalidatePdt(1), 0, 0, 0]],
    ['IODIR.INVAL_PDT of a process that no directory here can have', [commands.invalidatePdt(256), commands.oneDevice(1), 0, 0]],
    ['IODIR of a device that the directory has no room for', [commands.invalidateDdt, commands.oneDevice(0x10000), 0, 0]],
    ['IODIR with a second half', [commands.invalidateDdt, 0, 0, 1]],
    ['ATS.INVAL, bit 10', [commands.atsInvalidation(null) | (1 << 10), 0, 0, 0]],
    ['ATS.INVAL, bits [39:34]', [commands.atsInvalidation(null), 4, 0, 0]],
    ['ATS, function 2', [commands.Opcode.ATS | (2 << 7), 0, 0, 0]],
  ];
  test.each(illegal)('not: %s', (_name, command) => expect(bare.errorsOf(command)).toBe(QueueStatus.ILLEGAL));

  test('a unit without the capability has no ATS commands, no ranges and no hints about tables', () => {
    const plain = new Bare();
    RiscvRegisters.capabilities.poke(plain.small.host.kernel, plain.small.registers, CapabilityHigh.PD17, worldCapabilities);
    const refused = [legal[1]![1], legal[6]![1], legal[8]![1], [commands.invalidatePdt(0x20000), commands.oneDevice(1), 0, 0] as const];
    expect(refused.map((command) => plain.errorsOf(command))).toEqual(refused.map(() => QueueStatus.ILLEGAL));
    expect(plain.errorsOf([commands.invalidatePdt(0x1ffff), commands.oneDevice(1), 0, 0])).toBe(0);
  });
});

test('a command beyond RAM, and a fence that would write there, are a memory fault; the head stays until software has mended it', () => {
  const bare = new Bare();
  const { host, registers } = bare.small;
  bare.push([commands.fence | Fence.ADDRESS_VALID, 1, host.ram.sizeBytes >>> 2, 0]);
  bare.run();
  expect([bare.errors, bare.head]).toEqual([QueueStatus.MEMORY_FAULT, 0]);
  bare.tail = 0;
  bare.pushFence(5);
  bare.clear();
  bare.run();
  expect([bare.errors, bare.head, bare.written]).toEqual([0, 1, 5]);
  const base = RiscvRegisters.commandQueue.peek(host.kernel, registers);
  bare.pushFence(6);
  RiscvRegisters.commandQueue.poke(host.kernel, registers, 0, ((host.ram.sizeBytes >>> 12) << 10) | (base & 31));
  expect(bare.queue.ready()).toBe(true);
  expect([bare.queue.memory, bare.queue.label() > 0]).toEqual([host.kernel, true]);
  bare.run();
  expect([bare.errors, bare.head]).toEqual([QueueStatus.MEMORY_FAULT, 1]);
  RiscvRegisters.commandQueue.poke(host.kernel, registers, 0, base);
  bare.clear();
  bare.run();
  expect([bare.head, bare.written]).toEqual([2, 6]);
});

test('IOTINVAL with S drops its block of pages in one address space, and nothing else', () => {
  const bare = new Bare();
  const { iotlb } = bare.small.machine.riscvUnits[0]!.translation;
  const left = (third: number): string[] => {
    for (const pscid of [1, 2]) for (const page of [4, 5, 6, 7, 8]) iotlb.fill(pscid, 0, page << 12, 9 as Frame, 3, 9 as Frame, iotlb.epoch());
    bare.push([commands.invalidateVma | Invalidate.ADDRESS_VALID | (1 << 12), Invalidate.PSCV, third, 0]);
    bare.run();
    return [1, 2].map((pscid) => [4, 5, 6, 7, 8].filter((page) => iotlb.lookup(pscid, 0, page << 12)).join(''));
  };
  expect(left(6 << 10)).toEqual(['4578', '45678']);
  // ADDR[12] is 0: two pages; 01: four.
  expect(left((6 << 10) | commands.isRange)).toEqual(['458', '45678']);
  expect(left((5 << 10) | commands.isRange)).toEqual(['8', '45678']);
});

describe('ATS.INVAL', () => {
  /** What the first function keeps: pages by PASID, -1 for none. */
  const kept = (view: AtcView): string[] =>
    [-1, 3, 4].flatMap((pasid) => [1, 2, 3].filter((page) => view.lookup(pasid, 0, page << 12)).map((page) => `${pasid}:${page}`));
  const everything = [-1, 3, 4].flatMap((pasid) => [1, 2, 3].map((page) => `${pasid}:${page}`));
  const without = (...gone: string[]): string[] => everything.filter((one) => !gone.includes(one));

  test.each<[string, Command, string[]]>([
    ['without a PASID', inval(rids[0], 0x1000), without('-1:1')],
    ['with one', inval(rids[0], 0x2000, 0, 3), without('3:2')],
    ['of every PASID', inval(rids[0], 0x2000 | commands.AtsAddress.GLOBAL, 0, 0), without('3:2', '4:2')],
    ['of two pages', inval(rids[0], 0x2000 | commands.AtsAddress.SIZE, 0, 4), without('4:2', '4:3')],
    ['of all pages', inval(rids[0], all | 0x80000000 | 0, allHigh), without('-1:1', '-1:2', '-1:3')],
    ['in its own segment', [commands.atsInvalidation(null), commands.toRequester(rids[0], null) | 2, 0x1000, 0], without('-1:1')],
    ['in another segment', [commands.atsInvalidation(null), commands.toRequester(rids[0], null) | 2 | (1 << 24), 0x1000, 0], everything],
    ['another segment, which does not count without DSV', [commands.atsInvalidation(null), commands.toRequester(rids[0], null) | (1 << 24), 0x1000, 0], without('-1:1')],
    ['of another function', inval(rids[1], 0x1000), everything],
  ])('%s drops what it names', (_name, command, expected) => {
    const bare = new Bare({ ats: true });
    const view = bare.view();
    for (const pasid of [-1, 3, 4]) for (const page of [1, 2, 3]) view.fill(pasid, 0, page << 12, 5 as Frame, 3, 9 as Frame, view.epoch());
    bare.push(command);
    bare.pushFence(1);
    bare.run();
    for (const index of [0, 1]) if (bare.answerOf(index).ready()) bare.answerOf(index).step();
    bare.run();
    expect([kept(view), bare.errors, bare.written]).toEqual([expected, 0, 1]);
  });

  test('the fence behind it is possible when the function has answered, and what that had in flight then has ended', () => {
    const bare = new Bare({ ats: true });
    const { kernel } = bare.small.host;
    const slot = PciFunction.inFlight.address(kernel, bare.small.functions[0]!);
    bare.push(inval(rids[0], 0x1000));
    bare.pushFence(1);
    bare.run();
    expect([bare.head, bare.queue.ready(), bare.written]).toEqual([1, false, 0]);
    poke(kernel, slot, 5);
    bare.answerOf().step();
    expect([bare.queue.ready(), bare.written]).toEqual([false, 0]);
    poke(kernel, slot, 8);
    bare.run();
    expect([bare.head, bare.written]).toEqual([2, 1]);
  });

  test('a function has one request at a time; another one is asked beside it', () => {
    const bare = new Bare({ ats: true });
    bare.push(inval(rids[0], 0x1000), inval(rids[1], 0x1000), inval(rids[0], 0x2000));
    bare.run();
    expect([bare.head, bare.queue.ready()]).toEqual([2, false]);
    bare.answerOf(0).step();
    bare.run();
    expect([bare.head, bare.answerOf(0).ready(), bare.answerOf(1).ready()]).toEqual([3, true, true]);
  });

  test('a requester that has no cache, or is none, is not waited for', () => {
    const bare = new Bare({ ats: true }, { ats: false });
    bare.push(inval(rids[0], 0x1000), inval(0x999, 0x1000));
    bare.pushFence(1);
    bare.run();
    expect([bare.head, bare.written]).toEqual([3, 1]);
  });

  test('a function that is gone: cmd_to at the fence, whose data are not written; cleared, the queue goes on from there, and waits for it no longer', () => {
    const bare = new Bare({ ats: true });
    for (const engine of bare.small.engines) engine.leave();
    bare.push(inval(rids[0], 0x1000), inval(rids[1], 0x1000));
    bare.pushFence(7, Fence.READS | Fence.WRITES);
    bare.push(inval(rids[0], 0x1000));
    bare.run();
    expect([bare.errors, bare.head, bare.written, bare.queue.ready()]).toEqual([QueueStatus.TIME_OUT, 2, 0, false]);
    bare.clear();
    bare.small.engines[0]!.comeBack();
    bare.run();
    expect([bare.errors, bare.head, bare.written]).toEqual([0, 4, 7]);
    expect([bare.answerOf(0).ready(), bare.answerOf(1).ready()]).toEqual([true, false]);
  });

  test('one that is there holds the fence back, whoever else is gone; and one that came back may yet answer', () => {
    const bare = new Bare({ ats: true });
    bare.small.engines[0]!.leave();
    bare.push(inval(rids[0], 0x1000), inval(rids[1], 0x1000));
    bare.pushFence(7);
    bare.run();
    expect([bare.errors, bare.queue.ready()]).toEqual([0, false]);
    bare.answerOf(1).step();
    expect(bare.queue.ready()).toBe(true);
    bare.small.engines[0]!.comeBack();
    bare.queue.step();
    expect([bare.errors, bare.head]).toEqual([0, 2]);
    bare.answerOf(0).step();
    bare.run();
    expect(bare.written).toBe(7);
  });
});

describe('ATS.PRGR', () => {
  const waits = (bare: Bare, group: number): boolean =>
    (PciFunction.groupsWaiting.get(bare.small.host.kernel, bare.small.functions[0]!, group >>> 5) & (1 << (group & 31))) !== 0;

  test('answers the group of the function that asked, and no other', () => {
    const bare = new Bare({ ats: true, pageRequests: true });
    const groups = [1, 2, 3].map((page) => askForPage(bare.small.host.kernel, bare.small.functions[0]!, null, page, 1));
    bare.push([commands.pageAnswer(null), commands.toRequester(rids[0], null), 0, commands.answerOf(groups[1]!, 0)]);
    bare.push([commands.pageAnswer(null), commands.toRequester(rids[1], null), 0, commands.answerOf(groups[0]!, 0)]);
    bare.run();
    expect([bare.head, groups.map((group) => waits(bare, group))]).toEqual([2, [true, false, true]]);
  });

  test('for which nobody waits is dropped, also by a unit that takes no page requests', () => {
    for (const options of [{ ats: true, pageRequests: true }, { ats: true }]) {
      const bare = new Bare(options);
      bare.push([commands.pageAnswer(5), commands.toRequester(rids[0], 5), 0, commands.answerOf(7, 15)]);
      bare.pushFence(1);
      bare.run();
      expect([bare.errors, bare.written]).toEqual([0, 1]);
    }
  });

  test('a page request is ahead of the answer to an invalidation: the fence waits until it lies in the queue', () => {
    const bare = new Bare({ ats: true, pageRequests: true });
    const { kernel } = bare.small.host;
    askForPage(kernel, bare.small.functions[0]!, null, 1, 1);
    bare.push(inval(rids[0], 0x1000));
    bare.pushFence(1);
    bare.run();
    bare.answerOf().step();
    expect(bare.queue.ready()).toBe(false);
    bare.small.machine.engines().find(({ name }) => name === 'riscv0.requests')!.step();
    bare.run();
    expect(bare.written).toBe(1);
  });
});

test('any address with S is dropped from a device as the block that it names', () => {
  const bare = new Bare({ ats: true });
  const view = bare.view();
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.nat(511), (order, page) => {
      for (let one = 0; one < 512; one += 7) view.fill(-1, 0, one << 12, 5 as Frame, 3, 9 as Frame, view.epoch());
      const before = Array.from({ length: 512 }, (_, one) => one).filter((one) => view.lookup(-1, 0, one << 12));
      bare.small.driver.enableAts(bare.small.functions[0]!);
      const first = page & (-1 << order);
      bare.push(inval(rids[0], ((first | ((1 << (order - 1)) - 1)) << 12) | commands.AtsAddress.SIZE));
      bare.run();
      bare.answerOf().step();
      expect(before.filter((one) => view.lookup(-1, 0, one << 12))).toEqual(before.filter((one) => one < first || one >= first + (1 << order)));
    }),
    { numRuns: 30, seed: 3 },
  );
});

test('what the registers of the unit say: a unit of a world has ATS where it was asked for', () => {
  const { host, registers, driver, functions } = new Bare({ ats: true }).small;
  expect((RiscvRegisters.capabilities.peek(host.kernel, registers) >>> 25) & 1).toBe(1);
  expect([driver.hwInfo(functions[0]!).capabilities, new Bare().small.driver.hwInfo(functions[0]!).capabilities]).toEqual([0, 8]);
  expect(Atc.enabled.peek(host.kernel, PciFunction.atc.peek(host.kernel, functions[0]!))).toBe(0);
  const unit = PciFunction.unit.peek(host.kernel, functions[0]!) as Ref<'IommuUnit'>;
  expect(IommuUnit.pageRequests.peek(host.kernel, unit)).toBe(0);
});
