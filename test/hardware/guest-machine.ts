/** A small machine whose first function goes through two stages: a guest's first stage, in pages of the guest, on a nest parent. */
import { peek, poke } from '#hostmem/atomics';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { DomainFlags } from '#src/drivers/driver';
import type { VtdUnitOptions } from '#src/hardware/machine';
import { expect } from 'vitest';
import { smallMachine, type SmallMachine } from './small-machine.ts';

/** The recorded unit with both stages, 4 levels each, nested, and eight fault records. */
export const nestedUnit: VtdUnitOptions = { capability: 0x01d2078c222f0606n, extendedCapability: 0xc80084f00f4an };

/** Owner of the guest's frames, a process's. */
export const guestOwner = 17;
/** Guest pages from here on are tables, as many as are made; the first one is the root. */
export const tablesPage = 0x100;
const present = 1;
const user = 4;
const used = 0x60;

/** IOMMU_HWPT_DATA_VTD_S1. */
export function s1Data(root: bigint, { flags = 0n, width = 48, reserved = 0, bytes = 24 } = {}): Uint8Array {
  const data = new Uint8Array(24);
  const view = new DataView(data.buffer);
  view.setBigUint64(0, flags, true);
  view.setBigUint64(8, root, true);
  view.setUint32(16, width, true);
  view.setUint32(20, reserved, true);
  return data.subarray(0, bytes);
}

export class GuestMachine {
  readonly small: SmallMachine;
  readonly parent: Ref<'IommuDomain'>;
  readonly nested: Ref<'IommuDomain'>;
  readonly #frames = new Map<number, Frame>();
  #tables = 1;

  constructor(unit: VtdUnitOptions = nestedUnit) {
    this.small = smallMachine(unit, [{ rid: 0x0108, ats: unit.ats ?? false }, { rid: 0x0110 }]);
    const { driver, functions } = this.small;
    this.parent = driver.allocPagingDomain(functions[0]!, DomainFlags.NEST_PARENT);
    this.back(tablesPage);
    this.nested = driver.allocNestedDomain(functions[0]!, this.parent, 0, { type: 1, bytes: s1Data(BigInt(tablesPage) * 4096n) });
    expect(driver.attach(this.nested, functions[0]!)).toBe(0);
    if (unit.ats === true) driver.enableAts(functions[0]!);
  }

  /** Gives a guest page a frame, and maps it in the parent; the frame. */
  back(page: number, permissions: number = 3): Frame {
    const frame = this.#frames.get(page) ?? this.small.host.frames.allocate(guestOwner);
    this.#frames.set(page, frame);
    expect(this.small.driver.map(this.parent, page >>> 20, page << 12, frame, permissions)).toBe(0);
    return frame;
  }

  /** Takes it out of the parent; the caches know of it with `sync`. */
  unback(page: number, sync: boolean = true): void {
    expect(this.small.driver.unmap(this.parent, page >>> 20, page << 12, 1)).toBe(1);
    if (sync) this.small.driver.sync(this.parent, page >>> 20, page << 12, 1, true);
  }

  /** Host address of the first-stage entry of a level for an IOVA page; makes the tables above it. */
  entryAt(iovaPage: number, level: number): number {
    const { ram } = this.small.host;
    let table = tablesPage;
    for (let at = 4; ; at--) {
      const entry = this.#frames.get(table)! * 4096 + (Math.floor(iovaPage / 512 ** (at - 1)) % 512) * 8;
      if (at === level) return entry;
      if (peek(ram, entry) === 0) {
        const made = tablesPage + this.#tables++;
        this.back(made);
        poke(ram, entry, (made << 12) | present | 2 | user | 0x20);
      }
      table = peek(ram, entry) >>> 12;
    }
  }

  /** What the guest does: a leaf of 4 KiB, or with `bits` whatever low bits it has. */
  map(iovaPage: number, page: number, writable: boolean = true, bits: number = used): void {
    const at = this.entryAt(iovaPage, 1);
    poke(this.small.host.ram, at, (page << 12) | present | user | (writable ? 2 : 0) | bits);
    poke(this.small.host.ram, at + 4, page >>> 20);
  }

  unmap(iovaPage: number): void {
    poke(this.small.host.ram, this.entryAt(iovaPage, 1), 0);
  }

  /** IOMMU_HWPT_INVALIDATE of the VTD_S1 kind. */
  invalidate(iovaPage: number, pages: number): void {
    const bytes = new Uint8Array(24);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(iovaPage) * 4096n, true);
    new DataView(bytes.buffer).setBigUint64(8, BigInt(pages), true);
    expect(this.small.driver.invalidateNested(this.nested, { type: 0, entryBytes: 24, count: 1, bytes, handled: 0 })).toBe(0);
  }

  /** Reads or writes a word at an IOVA page: 0 or the reason. */
  dma(iovaPage: number, write: boolean = false): number {
    const engine = this.small.engines[0]!;
    return write ? engine.write(Math.floor(iovaPage / 2 ** 20) | 0, iovaPage << 12, 4) : engine.read(Math.floor(iovaPage / 2 ** 20) | 0, iovaPage << 12, 4);
  }
}
