/**
 * An access through a record's field in a free run, where no controller is there, against the same access to the bare array:
 * what being a labelled point, checking a reference and naming a guard cost who does not need them.
 */
import { door } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { mutex } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import { object, struct, u32 } from '#hostmem/struct';
import type { Question, Row } from '../question.ts';

const Line = struct('BenchLine', { word: u32 });
const Cell = object('BenchCell', { lock: mutex, word: u32, guarded: u32.under('lock') });

/** Records that the loops go round; a power of two. */
const records = 64;

/** References and byte addresses, by the same index: each loop makes one load to find its record. */
interface Place {
  readonly memory: Memory;
  readonly cells: Int32Array;
  readonly lines: Int32Array;
}

function createPlace(): Place {
  const memory = Host.create(65_536, 65_536).kernel;
  const cells = Int32Array.from({ length: records }, () => Cell.create(memory));
  for (const [index, cell] of cells.entries()) {
    Cell.word.poke(memory, cell, index);
    Cell.guarded.poke(memory, cell, index);
  }
  return { memory, cells, lines: cells.map((cell) => Cell.word.address(memory, cell)) };
}

function readArray({ memory: { words }, lines }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + words[lines[i & (records - 1)]! >>> 2]!) | 0;
  return sum;
}

function readStruct({ memory, lines }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + Line.word.read(memory, lines[i & (records - 1)]!)) | 0;
  return sum;
}

function readObject({ memory, cells }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + Cell.word.read(memory, cells[i & (records - 1)]!)) | 0;
  return sum;
}

function readGuarded({ memory, cells }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + Cell.guarded.read(memory, cells[i & (records - 1)]!)) | 0;
  return sum;
}

function writeArray({ memory: { words }, lines }: Place, count: number): number {
  for (let i = 0; i < count; i++) words[lines[i & (records - 1)]! >>> 2] = i & (records - 1);
  return words[lines[records - 1]! >>> 2]!;
}

function writeObject({ memory, cells }: Place, count: number): number {
  for (let i = 0; i < count; i++) Cell.word.write(memory, cells[i & (records - 1)]!, i & (records - 1));
  return Cell.word.peek(memory, cells[records - 1]!);
}

function loadArray({ memory: { words }, lines }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + door.load(words, lines[i & (records - 1)]! >>> 2)) | 0;
  return sum;
}

function loadObject({ memory, cells }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + Cell.word.load(memory, cells[i & (records - 1)]!)) | 0;
  return sum;
}

export default {
  asks: 'what does an access through a record cost when no controller is there?',
  prepare(tiny) {
    const place = createPlace();
    const operations = tiny ? 4 * records : 4096;
    const row = (name: string, access: (place: Place, count: number) => number, against?: string): Row => {
      const call = (): number => access(place, operations);
      return against === undefined ? { name, operations, call } : { name, operations, call, against };
    };
    const [plainRead, plainWrite, atomicLoad] = ['read of an Int32Array', 'write of an Int32Array', 'Atomics.load'];
    return {
      rows: [
        row(plainRead, readArray),
        row('read of a struct field', readStruct, plainRead),
        row('read of an object field', readObject, plainRead),
        row('read of a guarded field', readGuarded, plainRead),
        row(plainWrite, writeArray),
        row('write of an object field', writeObject, plainWrite),
        row(atomicLoad, loadArray),
        row('load of an object field', loadObject, atomicLoad),
      ],
    };
  },
} satisfies Question;
