/**
 * AMD's device table: 32 bytes for each requester id (AMD I/O Virtualization Technology specification 2.2.2; SEMANTICS c.9), of which host
 * translation uses the first 16, here as three words.
 *
 *   word 0   V 0 · TV 1 · Mode [11:9] · root of the host tables [31:12]; its upper part is in the next word
 *   word 1   IR 29 · IW 30 (61 and 62 of the quadword)
 *   word 2   DomID [15:0]
 *
 * Without V the unit knows nothing of the requester and lets it pass, so that software gives every entry one. With V and without TV it is
 * blocked; mode 0 has no tables, and IR and IW say what passes. Guest translation (GV) and interrupts are not modelled; nor are modes 1 and 2.
 */
import { label } from '#hostmem/labels';
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import { Access } from '#hostmem/page-table-format';

export const entryBytes = 32;
export const entriesPerFrame = pageBytes / entryBytes;
export const entryLabels: readonly number[] = [label('DeviceTableEntry.low'), label('DeviceTableEntry.domain')];

export const valid = 1;
export const translates = 2;
const modeShift = 9;
/** IR and IW, where `Access` has bits 0 and 1. */
const permissionShift = 29;
const permissionMask = Access.READ | Access.WRITE;

/** A requester is blocked: no tables, and no permission without. */
export const blockedLow = valid | translates;
export const allPermissions = permissionMask << permissionShift;
/** `levels` 0: requests pass untranslated. */
export const entryLow = (root: Frame, levels: number): number => hpaOf(root) | (levels << modeShift) | translates | valid;

export const levelsOf = (low: number): number => (low >>> modeShift) & 7;
export const permissionsOf = (high: number): number => (high >>> permissionShift) & permissionMask;
export const domainIdOf = (third: number): number => third & 0xffff;
export const rootOf = (high: number, low: number): Frame => ((high & 0xfffff) * 0x100000 + (low >>> 12)) as Frame;

/** What the unit acts on: of a blocked entry that it is. */
export const usedLow = (low: number): number => ((low & translates) === 0 ? low & (valid | translates) : low);
export const usedDomain = (low: number, third: number): number => ((low & translates) === 0 ? 0 : domainIdOf(third));

/** Where the entry of a requester is, in a table that begins with that frame. */
export const entryAt = (table: Frame, sourceId: number): number => hpaOf(table) + sourceId * entryBytes;
