import { peek, poke } from '#hostmem/atomics';
import { riscv } from '#hostmem/formats/riscv';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { Cause, Want } from '#src/hardware/riscv/cause';
import { Capability, CapabilityHigh, DdtpMode, RiscvRegisters } from '#src/hardware/riscv/registers';
import { AddressType, RiscvRequest, RiscvTranslation } from '#src/hardware/riscv/translation';
import { expect, test } from 'vitest';
import { Recorder } from '../hostmem/recorder.ts';

const { SV48, SV48X4, AMO_HWAD, ATS } = Capability;
const deviceId = 3;
const iova = 0x5000;
const guestFrame = 0x300 as Frame;
const sv48 = 9 << 28;
const updating = 1 << 7 | 1 << 8;

/** Device 3 with four levels of both stages; guest frames are host frames plus 0x100. The first stage's tables are guest memory. */
function nested(control: number = 0, fetchBits: 64 | 128 | 512 = 512) {
  const host = Host.create(4 << 20, 1 << 20);
  const { kernel, ram, frames } = host;
  const registers = RiscvRegisters.create(kernel);
  RiscvRegisters.capabilities.poke(kernel, registers, CapabilityHigh.PD20, SV48 | SV48X4 | AMO_HWAD | ATS);
  RiscvRegisters.fetchBits.poke(kernel, registers, fetchBits);
  const directory = frames.allocate(1);
  RiscvRegisters.ddtp.poke(kernel, registers, 0, (directory << 10) | DdtpMode.LEVELS1);
  const first = new PageTable(ram, frames, riscv({ levels: 4 }));
  const second = new PageTable(ram, frames, riscv({ levels: 4, second: true }));
  const firstRoot = first.create();
  const secondRoot = second.create();
  first.mapPage(firstRoot, 0, iova, guestFrame, 3);
  // What the first stage's entries call frames is guest memory from now on: each is mapped to itself, and the page elsewhere.
  for (let frame = 1; frame < 64; frame++) second.mapPage(secondRoot, 0, frame << 12, frame as Frame, 3);
  second.mapPage(secondRoot, 0, hpaOf(guestFrame), 0x200 as Frame, 3);
  const contextAt = hpaOf(directory) + deviceId * 32;
  const words = [control | 1, 0, secondRoot, sv48, 0, 0, firstRoot, sv48];
  for (const [index, word] of words.entries()) poke(ram, contextAt + index * 4, word);
  const request = new RiscvRequest();
  request.deviceId = deviceId;
  request.iovaLow = iova | 0x123;
  request.wanted = Want.READ;
  return { host, ram, unit: new RiscvTranslation(host, registers), request, contextAt, first, second, firstRoot, secondRoot };
}

test('a two-dimensional walk of four levels each is 24 reads of page tables, behind one of the context', () => {
  const { ram, unit, request } = nested();
  const recorder = new Recorder();
  ram.control = recorder;
  expect(unit.translate(request)).toBe(Cause.NONE);
  expect([unit.frame, unit.pages]).toEqual([0x200, 1]);
  const points = recorder.points.map((point) => point.replace('READ Riscv', ''));
  const secondStage = [4, 3, 2, 1].map((level) => `SecondStage.level${level}`);
  const steps = [4, 3, 2, 1].flatMap((level) => [...secondStage, `FirstStage.level${level}`]);
  expect(points).toEqual(['DeviceContext.tc', ...steps, ...secondStage]);
});

test.each([[64, ['tc', 'iohgatp', 'ta', 'fsc']], [128, ['tc', 'ta']], [512, ['tc']]] as const)(
  'a unit that fetches %i bits at once can see a context torn between them',
  (fetchBits, pieces) => {
    const { ram, unit, request, contextAt } = nested(0, fetchBits);
    const recorder = new Recorder();
    ram.control = recorder;
    // Behind its first piece the context is given a first stage that the unit does not have.
    recorder.between = () => {
      recorder.between = () => poke(ram, contextAt + 28, 15 << 28);
    };
    expect(unit.translate(request)).toBe(fetchBits === 512 ? Cause.NONE : Cause.DDT_MISCONFIGURED);
    const read = recorder.points.filter((point) => point.includes('DeviceContext')).map((point) => point.replace('READ RiscvDeviceContext.', ''));
    expect(read).toEqual(pieces);
  },
);

test('a fault tells its stage, whether it hit a table or the page, and the guest address', () => {
  const { unit, request, second, secondRoot, firstRoot, first } = nested();
  second.unmap(secondRoot, 0, hpaOf(guestFrame), 1);
  expect(unit.translate(request)).toBe(21);
  expect(unit.guest).toEqual({ page: guestFrame, offset: 0x123, implicit: false, write: false });
  request.wanted = Want.WRITE;
  second.unmap(secondRoot, 0, hpaOf(firstRoot), 1);
  expect(unit.translate(request)).toBe(23);
  expect(unit.guest).toMatchObject({ page: firstRoot, implicit: true, write: false });
  second.mapPage(secondRoot, 0, hpaOf(firstRoot), firstRoot, 3);
  first.unmap(firstRoot, 0, iova, 1);
  expect(unit.translate(request)).toBe(15);
});

/** Byte address of the first stage's leaf. */
function leafAt({ unit, request, ram }: ReturnType<typeof nested>): number {
  unit.translate(request);
  const leaf = unit.first.entryLow;
  for (let at = 0; at < 64 * 4096; at += 8) if (peek(ram, at) === leaf && leaf >>> 10 === guestFrame) return at;
  throw new Error('the leaf is nowhere');
}

test('accessed and dirty bits are set where the context says so, and demanded elsewhere', () => {
  const plain = nested();
  const at = leafAt(plain);
  poke(plain.ram, at, peek(plain.ram, at) & ~0xc0);
  expect(plain.unit.translate(plain.request)).toBe(13);
  const marking = nested(updating);
  poke(marking.ram, at, peek(marking.ram, at) & ~0xc0);
  expect(marking.unit.translate(marking.request)).toBe(0);
  expect(peek(marking.ram, at) & 0xc0).toBe(0x40);
  marking.request.wanted = Want.WRITE;
  expect(marking.unit.translate(marking.request)).toBe(0);
  expect(peek(marking.ram, at) & 0xc0).toBe(0xc0);
});

test('to set a bit in a table of the guest is a write there, which the second stage may refuse', () => {
  const all = nested(updating);
  const { ram, unit, request, second, secondRoot } = all;
  const at = leafAt(all);
  poke(ram, at, peek(ram, at) & ~0xc0);
  second.unmap(secondRoot, 0, at & ~0xfff, 1);
  second.mapPage(secondRoot, 0, at & ~0xfff, (at >>> 12) as Frame, 1);
  expect(unit.translate(request)).toBe(21);
  expect(unit.guest).toMatchObject({ page: at >>> 12, implicit: true, write: true });
  expect(peek(ram, at) & 0xc0).toBe(0);
});

test('a leaf that is replaced while its bit is to be set stays as it was put, and the walk goes by the new one', () => {
  const all = nested(updating);
  const { ram, unit, request } = all;
  const at = leafAt(all);
  poke(ram, at, peek(ram, at) & ~0xc0);
  const recorder = new Recorder();
  ram.control = recorder;
  const watch = (): void => {
    if (recorder.points.at(-1) === 'RMW RiscvFirstStage.level1') ram.words[at >>> 2] = (0x30 << 10) | 0x53;
    else recorder.between = watch;
  };
  recorder.between = watch;
  request.wanted = Want.READ;
  expect(unit.translate(request)).toBe(0);
  ram.control = null;
  expect(unit.frame).toBe(0x30);
  expect(peek(ram, at)).toBe((0x30 << 10) | 0x53);
});

test('a device without ATS may neither ask for translations nor use them', () => {
  const { unit, request, ram, contextAt } = nested();
  request.type = AddressType.TRANSLATION_REQUEST;
  expect(unit.translate(request)).toBe(Cause.TYPE_DISALLOWED);
  poke(ram, contextAt, 3);
  expect(unit.translate(request)).toBe(0);
  expect(unit.permissions(request)).toBe(Want.READ | Want.WRITE);
  request.type = AddressType.TRANSLATED;
  expect([unit.translate(request), unit.frame]).toEqual([0, iova >>> 12]);
});
