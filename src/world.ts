/**
 * Builds the host of a scenario: groups of functions, processes with their memory and files, guests.
 *
 * One thread builds, before any actor runs; nothing here is a point and no event is written. What it names can be asked
 * for by the actors; what the scenario's `world` returns is their stage.
 */
import { fill } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { frameOf, pageBytes } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { createRun, runSet } from '#hostmem/run';
import { BuiltGroups, type BuiltGroup } from './built-groups.ts';
import { BuiltProcess } from './built-process.ts';
import { addUnits, bootDriver, defaultUnits, type UnitOptions } from './built-units.ts';
import { driverInForce } from './drivers/in-force.ts';
import { EduRegisters } from './hardware/edu.ts';
import { PciFunction } from './hardware/function.ts';
import { Machine } from './hardware/machine.ts';
import type { OwnershipRules } from './hardware/trusted-unit.ts';
import { pasidBits } from './hardware/vtd/registers.ts';
import { IommuGroup, PciDevice } from './kernel/iommu-group.ts';
import { bindDriver } from './kernel/kernel-driver.ts';
import { Kernel, KernelRoot } from './kernel/kernel.ts';
import { linux72 } from './kernel/operations.ts';
import { createDmaDomain } from './kernel/dma-iommu.ts';
import { deviceOf, groupOf } from './kernel/iommu-probe.ts';
import { Mdev } from './kernel/mdev.ts';
import type { PciBus } from './kernel/pci.ts';
import { createGuestDma } from './kernel/guest-dma.ts';
import { connect, TsmCore } from './kernel/tsm.ts';
import { createTvm, Tvm } from './kernel/tvm.ts';
import { createProcess, ownerOf, Process, userAddress } from './kernel/process.ts';

/** RAM and kernel memory of a host, in bytes. */
export interface HostSize {
  readonly ramBytes: number;
  readonly kernelBytes: number;
}

/** What a few VMs need, and what each of many adds. */
const baseSize: HostSize = { ramBytes: 4 << 20, kernelBytes: 2 << 20 };
const sizePerVm: HostSize = { ramBytes: 1 << 19, kernelBytes: 1 << 17 };

/** What kind of host it is; by default the one of the recordings in legacy mode, with the faults of Linux 7.2. */
export interface WorldOptions extends HostSize, UnitOptions {
  /** How many VMs it is for. */
  readonly vms: number;
  /** What groups translate through by default: tables that are empty ('dma', the default), or nothing ('identity', iommu=pt). */
  readonly defaultDomain: 'dma' | 'identity';
  /** Null where the host has no confidential guests and no security manager for devices; else how the hardware looks after owned memory. */
  readonly confidential: OwnershipRules | null;
}

export class World {
  readonly host: Host;
  readonly kernel: Kernel;
  /** What actors find by name: functions and their registers, processes, guests' memory. */
  readonly directory: Record<string, number> = {};
  readonly #units: readonly Ref<'IommuUnit'>[];
  readonly #groups: BuiltGroups;
  readonly #processes: Ref<'Process'>[] = [];

  /** How many VMs the command line asks for; the host grows with it. */
  readonly vms: number;

  constructor(options: Partial<WorldOptions> = {}) {
    const { vms = 1, confidential = null, defaultDomain = 'dma', ...size } = options;
    const unitOptions: UnitOptions = { ...defaultUnits, ...options };
    const { iommu, ats, pasids, pageRequests } = unitOptions;
    this.vms = vms;
    const ramBytes = size.ramBytes ?? baseSize.ramBytes + vms * sizePerVm.ramBytes;
    this.host = Host.create(ramBytes, size.kernelBytes ?? baseSize.kernelBytes + vms * sizePerVm.kernelBytes);
    Machine.create(this.host);
    this.#units = addUnits(this.host, unitOptions);
    if (confidential !== null && !iommu.startsWith('vtd')) throw new Error('owned memory is looked after by VT-d units alone');
    if (confidential !== null) Machine.addTrustedSide(this.host, confidential);
    const machine = new Machine(this.host);
    bootDriver(this.host, machine, this.#units[0]!, unitOptions);
    this.host.kernelRoot = KernelRoot.create(this.host.kernel);
    if (confidential !== null) KernelRoot.tsm.poke(this.host.kernel, this.host.kernelRoot, TsmCore.create(this.host.kernel));
    this.kernel = new Kernel(this.host, linux72, driverInForce(this.host, machine));
    const functions = { ats, pasids: pasids ? 1 << pasidBits : 0, pageRequests, passesThrough: defaultDomain === 'identity' };
    this.#groups = new BuiltGroups(this.host, this.kernel, this.directory, this.#units[0]!, functions);
  }

  /** A multi-function device on the root bus without ACS: its functions are one group, each a VFIO dev_set of its own. */
  group<const Names extends readonly string[]>(...names: Names): BuiltGroup<{ readonly [K in keyof Names]: number }> {
    return this.#groups.group(names);
  }

  /** A function that is a group of its own; the number of its character device. */
  device(name: string): number {
    return this.group(name).vfio[0];
  }

  /**
   * A root bus with all that is plugged in, in the groups and dev_sets that the kernel forms of it. Functions with a name get a
   * VFIO device, numbered in the order of their addresses. Returns the groups in the order in which the kernel finds them.
   */
  pci(root: PciBus): BuiltGroup[] {
    return this.#groups.pci(root);
  }

  /** What is plugged in from now on is behind that unit, counted from 0. */
  behindUnit(index: number): void {
    const unit = this.#units[index];
    if (unit === undefined) throw new Error(`there is no unit ${index}; the host has ${this.#units.length}`);
    this.#groups.unit = unit;
  }

  /** Interrupts are not remapped (`intremap=off`): no device can be bound by a user. */
  leaveInterruptsUnsafe(): void {
    KernelRoot.unsafeInterrupts.poke(this.host.kernel, this.kernel.root, 1);
  }

  /** Memory of a function on the bus, at an address below 4 GiB: siblings of its group reach it without the unit, there being no ACS between them. */
  bar(name: string, address: number): void {
    PciFunction.bar.poke(this.host.kernel, this.directory[name] as Ref<'PciFunction'>, address / 4096);
  }

  /** A driver of the kernel is bound to a function, and does DMA through its group's default domain. */
  kernelDriver(name: string): void {
    bindDriver(this.kernel, this.directory[name] as Ref<'PciFunction'>);
  }

  /** Firmware has the function use memory 1:1 (an RMRR): its group cannot be a user's. */
  requireDirect(name: string): void {
    PciDevice.requiresDirect.poke(this.host.kernel, deviceOf(this.kernel, this.directory[name] as Ref<'PciFunction'>), 1);
  }

  /** A share of a function that a kernel driver hands out, with a register file of its own. */
  share(name: string, ofFunction: string): void {
    const memory = this.host.kernel;
    const parent = this.directory[ofFunction] as Ref<'PciFunction'>;
    const share = Mdev.create(memory);
    Mdev.function.poke(memory, share, parent);
    const registers = EduRegisters.create(memory);
    EduRegisters.function.poke(memory, registers, parent);
    this.directory[name] = share;
    this.directory[`${name}.portal`] = registers;
  }

  /** Lets kernel drivers of a function use the DMA API, on its group's default domain; actors find it as `<function>.dma`. */
  dmaApi(name: string, { lazy }: { readonly lazy: boolean }): void {
    const group = groupOf(this.kernel, this.directory[name] as Ref<'PciFunction'>);
    this.directory[`${name}.dma`] = createDmaDomain(this.kernel, IommuGroup.defaultDomain.peek(this.host.kernel, group), lazy);
  }

  /** Consecutive frames of a process, aligned to their number (a power of two), whose every word is `tag`; returns the first. They stay for the life of the host. */
  buffer(process: string, pages: number, tag: number = 0): number {
    const owner = ownerOf(Process.number.peek(this.host.kernel, this.directory[process] as Ref<'Process'>));
    let first = this.host.frames.allocate(owner);
    while (first !== 0 && first % pages !== 0) first = this.host.frames.allocate(owner);
    let last = first;
    while (last !== 0 && last < first + pages - 1) last = this.host.frames.allocate(owner);
    if (last !== first + pages - 1) throw new Error(`RAM has no ${pages} consecutive frames; give the host more`);
    fill(this.host.ram, first * pageBytes, pages * pageBytes, tag);
    return first;
  }

  /** A process without memory and files. */
  process(name: string): BuiltProcess {
    const memory = this.host.kernel;
    const process = createProcess(this.kernel, this.#processes.length + 1);
    this.#processes.push(process);
    this.#processes.forEach((one, index) => Process.next.poke(memory, one, this.#processes[index + 1] ?? NULL));
    KernelRoot.processes.poke(memory, this.kernel.root, this.#processes[0]!);
    this.directory[name] = process;
    return new BuiltProcess(this.kernel, process);
  }

  /** The VMM process of a guest with `pages` of memory, mapped in one piece from gpa 0. */
  guest(name: string, pages: number): BuiltProcess {
    const memory = this.host.kernel;
    const process = this.process(name);
    const va = process.memory(pages * 4096);
    const frames = createRun(memory, pages);
    for (let page = 0; page < pages; page++) {
      runSet(memory, frames, page, frameOf(userAddress(this.kernel, process.ref, va + BigInt(page * 4096))));
    }
    this.directory[`${name}.memory`] = Number(va);
    this.directory[`${name}.frames`] = frames;
    return process;
  }

  /** Where a guest's memory is in its VMM's. */
  guestMemory(name: string): bigint {
    return BigInt(this.directory[`${name}.memory`]!);
  }

  /**
   * A confidential guest: a guest whose pages are its own but for the first two, where its ring and table are, and those that `shared` names.
   * Its kernel's allocator begins with the pages that `free` names, of the first 31.
   */
  confidentialGuest(name: string, pages: number, { shared = [], free = [] }: ConfidentialPages): BuiltProcess {
    const guest = this.guest(name, pages);
    this.directory[`${name}.tvm`] = createTvm(this.kernel, guest.ref, this.directory[`${name}.frames`] as Ref<'Run'>, pages, [0, 1, ...shared], free);
    return guest;
  }

  /** How many conversions to shared the host answers before it refuses one. */
  refuseConversions(guest: string, after: number): void {
    Tvm.patience.poke(this.host.kernel, this.directory[`${guest}.tvm`] as Ref<'Tvm'>, after);
  }

  /** Lets a confidential guest's driver use the DMA API for a device, with `bounce` as its bounce pages, which follow each other. */
  guestDriver(name: string, guest: string, bounce: readonly number[]): void {
    const tvm = this.directory[`${guest}.tvm`] as Ref<'Tvm'>;
    this.directory[`${name}.driver`] = createGuestDma(this.kernel, this.directory[`${name}.pci`] as Ref<'PciDevice'>, tvm, bounce);
  }

  /** Connects a function to the security manager. Whom its interface is bound to is for a VMM to say. */
  secure(name: string): void {
    connect(this.kernel, this.directory[`${name}.pci`] as Ref<'PciDevice'>);
  }
}

/** Pages of a confidential guest by their numbers. */
interface ConfidentialPages {
  readonly shared?: readonly number[];
  readonly free?: readonly number[];
}
