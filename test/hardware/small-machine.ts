/** One host with one VT-d unit, booted, and functions behind it: what most tests of hardware and drivers start from. */
import { Host } from '#hostmem/host';
import { peek, type Control } from '#hostmem/atomics';
import { frameOf, type Frame, type Memory } from '#hostmem/memory';
import { labelText } from '#hostmem/labels';
import type { Ref } from '#hostmem/object';
import { VtdDriver, type BootOptions } from '#src/drivers/vtd/driver';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { Machine, type PciFunctionOptions, type VtdUnitOptions } from '#src/hardware/machine';
import { IommuUnit } from '#src/hardware/unit';
import { takeFaults, type FaultRecord } from '#src/hardware/vtd/faults';
import { VtdRegisters } from '#src/hardware/vtd/registers';
import * as entry from '#src/hardware/vtd/scalable-entry';

/** CAP of the recorded unit, but with eight fault records. */
export const eightFaultRecords = 0x00d2078c22260206n;

/** The recorded unit in scalable mode, with eight fault records: second stage alone. */
export const scalableUnit: VtdUnitOptions = { mode: 'vtd-scalable', capability: 0x00d2078c222f0606n };
/** The same with a first stage of 4 levels and leaves up to 1 GiB. */
export const firstStageUnit: VtdUnitOptions = { capability: 0x01d2078c222f0606n, extendedCapability: 0xc80080f00f4an };

export interface SmallMachine {
  readonly host: Host;
  readonly machine: Machine;
  readonly unit: Ref<'IommuUnit'>;
  readonly registers: Ref<'VtdRegisters'>;
  readonly driver: VtdDriver;
  readonly functions: readonly Ref<'PciFunction'>[];
  readonly engines: readonly DmaEngine[];
  faults(): FaultRecord[];
}

export function smallMachine(options: VtdUnitOptions = {}, functions: readonly PciFunctionOptions[] = [{ rid: 0x0108 }, { rid: 0x0110 }], boot: BootOptions = {}): SmallMachine {
  const host = Host.create(4 << 20, 2 << 20);
  Machine.create(host);
  const unit = Machine.addUnit(host, { capability: eightFaultRecords, ...options });
  const added = functions.map((each) => Machine.addFunction(host, unit, each));
  const machine = new Machine(host);
  VtdDriver.boot(host, machine, boot);
  const driver = new VtdDriver(host, machine);
  for (const each of added) driver.probe(each);
  const registers = IommuUnit.registers.peek(host.kernel, unit) as Ref<'VtdRegisters'>;
  const engines = added.map((each) => machine.dma(each));
  return { host, machine, unit, registers, driver, functions: added, engines, faults: () => takeFaults(host.kernel, registers) };
}

/** Byte address of the PASID entry of the first function's requests without PASID; in scalable mode. */
export function firstPasidEntry({ host, registers }: SmallMachine): number {
  const at = (low: number): Frame => frameOf(peek(host.ram, low));
  const rootTable = frameOf(VtdRegisters.rootTable.peek(host.kernel, registers));
  const context = entry.contextEntryAt(at(entry.rootHalfAt(rootTable, 0x0108)), 0x0108);
  return entry.pasidEntryAt(at(entry.directoryEntryAt(at(context), 0)), 0);
}

/** Stands in for the scheduler: notes the points, and lets a test act, as another party would, just before one of them. */
export class Interposer implements Control {
  readonly points: string[] = [];
  readonly #host: Host;
  #action: { readonly before: string; run: () => void } | null = null;

  constructor(host: Host) {
    this.#host = host;
  }

  /** Runs `body` in controlled mode; `run` happens, with points silent, before the first point with that label. */
  during(body: () => void, before: string = '', run: () => void = () => {}): void {
    this.#action = before === '' ? null : { before, run };
    this.#host.ram.control = this.#host.kernel.control = this;
    try {
      body();
    } finally {
      this.#host.ram.control = this.#host.kernel.control = null;
    }
  }

  point(_op: number, _memory: Memory, _at: number, label: number): void {
    const text = labelText(label);
    this.points.push(text);
    const action = this.#action;
    if (action === null || action.before !== text) return;
    this.#action = null;
    this.#host.ram.control = this.#host.kernel.control = null;
    action.run();
    this.#host.ram.control = this.#host.kernel.control = this;
  }

  pointWhen(op: number, memory: Memory, at: number, label: number): void {
    this.point(op, memory, at, label);
  }
  saw(): void {}
  dirty(): void {}
  wroteGuarded(): void {}
  acquired(): void {}
  released(): void {}
  holds(): boolean {
    return true;
  }
  unguarded(): void {}
}
