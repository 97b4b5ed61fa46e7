/**
 * RISC-V page tables (privileged specification, Sv39, Sv48, Sv57 and their x4 forms, Svnapot, Svpbmt, Svrsw60t59b; SEMANTICS c.5): the
 * entries of both stages are the same, and a leaf alone has permissions.
 *
 *   V 0 · R 1 · W 2 · X 3 · U 4 · G 5 · A 6 · D 7 · RSW [9:8] · PPN [53:10] · reserved [60:54] · PBMT [62:61] · N 63
 *
 * An entry with R or X is a leaf, at any level; W without R is reserved, and so are N and PBMT in a table and a misaligned leaf. N in
 * a leaf of level 1 makes it part of one of 64 KiB, whose sixteen entries all name its middle (PPN [3:0] = 8). IOVAs of the first stage
 * have a sign; the second stage has two bits more of them, a root of 16 KiB, and an IOVA wider than that is refused. Requests are a
 * user's here; who asks as a supervisor, or for execution, looks at the entry (`src/hardware/riscv/stage-walk.ts`).
 *
 * Hardware that may not set A and D faults where it would have to. As Linux does, a new leaf has A set, and a writable one D.
 */
import { label } from '../labels.ts';
import type { Frame } from '../memory.ts';
import { Access, Entry, type PageTableFormat } from '../page-table-format.ts';

/** Bits of an entry's low word. */
export const Pte = { VALID: 1, READ: 2, WRITE: 4, EXECUTE: 8, USER: 0x10, GLOBAL: 0x20, ACCESSED: 0x40, DIRTY: 0x80 } as const;
/** Of its high word: the memory type, and what makes a leaf of 64 KiB. */
export const pbmtShift = 29;
const pbmtMask = 3 << pbmtShift;
const napot = 0x80000000 | 0;

const leafBits = Pte.READ | Pte.WRITE | Pte.EXECUTE;
const reservedInTable = Pte.ACCESSED | Pte.DIRTY | Pte.USER;
const ppnHighMask = 0x3fffff;
const pagesPerHigh = 1 << 22;
/** Bits [60:54], and [58:54] where the other two are software's. */
const reservedHigh = 0x1fc00000;
const reservedHighWithSoftware = 0x07c00000;

export interface RiscvTables {
  readonly levels: 3 | 4 | 5;
  /** The second stage: Sv39x4 and so on. */
  readonly second?: boolean;
  /** Memory types in leaves (Svpbmt); reserved without. */
  readonly svpbmt?: boolean;
  /** Bits 60:59 are software's (Svrsw60t59b); reserved without. */
  readonly svrsw60t59b?: boolean;
}

const widths = ['', '', '', 'Sv39', 'Sv48', 'Sv57'];
const labelsOf = (name: string): readonly number[] => [0, ...['1', '2', '3', '4', '5'].map((level) => label(`${name}.level${level}`))];
const labels = { first: labelsOf('RiscvFirstStage'), second: labelsOf('RiscvSecondStage') };

export function riscv({ levels, second = false, svpbmt = true, svrsw60t59b = false }: RiscvTables): PageTableFormat {
  const reserved = (svrsw60t59b ? reservedHighWithSoftware : reservedHigh) | (svpbmt ? 0 : pbmtMask);
  return {
    name: `riscv-${widths[levels]!.toLowerCase()}${second ? 'x4' : ''}`,
    levels,
    inputBits: 12 + 9 * levels + (second ? 2 : -1),
    outputBits: 56,
    signExtended: !second,
    largestLeaf: levels,
    accessedBit: Pte.ACCESSED,
    marksTables: false,
    dirtyBit: Pte.DIRTY,
    cleanBit: 0,
    needsMarks: true,
    labels: (second ? labels.second : labels.first).slice(0, levels + 1),
    plain: {
      tableMask: Pte.VALID | leafBits | Pte.GLOBAL | reservedInTable, table: Pte.VALID, readMask: Pte.VALID | Pte.READ | Pte.USER, readable: Pte.VALID | Pte.READ | Pte.USER,
      writeMask: Pte.VALID | Pte.READ | Pte.WRITE | Pte.USER, writable: Pte.VALID | Pte.READ | Pte.WRITE | Pte.USER, permissionShift: 1, frameShift: 10,
    },
    inspect: (level, high, low) => ((low & Pte.VALID) === 0 ? 0 : (high & reserved) === 0 ? inspectValid(level, high, low) : Entry.RESERVED),
    frameOf,
    leafHigh: ppnHigh,
    leafLow: (frame, permissions) => (frame << 10) | flagsOf(permissions),
    tableHigh: ppnHigh,
    tableLow: (table) => (table << 10) | Pte.VALID,
  };
}

const levelsOffered = [3, 4, 5] as const;
export default [...levelsOffered.map((levels) => riscv({ levels })), ...levelsOffered.map((levels) => riscv({ levels, second: true }))];

function inspectValid(level: number, high: number, low: number): number {
  if ((low & leafBits) === 0) {
    if (level === 1 || (low & reservedInTable) !== 0 || (high & (pbmtMask | napot)) !== 0) return Entry.RESERVED;
    return Access.READ | Access.WRITE;
  }
  const permissions = (low >>> 1) & (Access.READ | Access.WRITE);
  if (permissions === Access.WRITE || (high & pbmtMask) === pbmtMask || !isAligned(level, high, low)) return Entry.RESERVED;
  const privilege = (low & Pte.USER) === 0 ? Entry.SUPERVISOR : 0;
  return permissions | privilege | Entry.LEAF | (high < 0 ? Entry.LEAF64K : 0);
}

/** Whether a leaf's frame is a multiple of its size, or the middle of its 64 KiB. */
function isAligned(level: number, high: number, low: number): boolean {
  if (high < 0) return level === 1 && ((low >>> 10) & 15) === 8;
  if (level < 4) return ((low >>> 10) & ((1 << (9 * (level - 1))) - 1)) === 0;
  return low >>> 10 === 0 && (high & ((1 << (9 * (level - 1) - 22)) - 1)) === 0;
}

function flagsOf(permissions: number): number {
  const reads = (permissions & Access.READ) !== 0 || (permissions & Access.WRITE) !== 0 ? Pte.READ : 0;
  const writes = (permissions & Access.WRITE) !== 0 ? Pte.WRITE | Pte.DIRTY : 0;
  return Pte.VALID | Pte.USER | Pte.ACCESSED | reads | writes;
}

/** An integer, and no double, for all that RAM can hold: the walk stays in integer arithmetic. */
function frameOf(high: number, low: number): Frame {
  const above = high & ppnHighMask;
  return (above === 0 ? low >>> 10 : above * pagesPerHigh + (low >>> 10)) as Frame;
}

function ppnHigh(frame: Frame): number {
  return Math.floor(frame / pagesPerHigh) & ppnHighMask;
}
