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
import { BuiltProcess } from './built-process.ts';
import { AmdDriver } from './drivers/amd/driver.ts';
import { driverInForce } from './drivers/in-force.ts';
import { MockDriver } from './drivers/mock/driver.ts';
import { RiscvDriver } from './drivers/riscv/driver.ts';
import { SmmuDriver } from './drivers/smmuv3/driver.ts';
import { VtdDriver } from './drivers/vtd/driver.ts';
import { EduRegisters } from './hardware/edu.ts';
import { PciFunction } from './hardware/function.ts';
import { Machine } from './hardware/machine.ts';
import type { OwnershipRules } from './hardware/trusted-unit.ts';
import { defaultCapabilities, pasidBits } from './hardware/vtd/registers.ts';
import { IommuGroup, Move, PciDevice, setGroupDomain } from './kernel/iommu-group.ts';
import { bindDriver } from './kernel/kernel-driver.ts';
import { Kernel, KernelRoot } from './kernel/kernel.ts';
import { linux72 } from './kernel/operations.ts';
import { createDmaDomain } from './kernel/dma-iommu.ts';
import { deviceOf, groupOf } from './kernel/iommu-probe.ts';
import { Mdev } from './kernel/mdev.ts';
import { enumerate, type PciBus } from './kernel/pci.ts';
import { createGuestDma } from './kernel/guest-dma.ts';
import { connect, TsmCore } from './kernel/tsm.ts';
import { createTvm, Tvm } from './kernel/tvm.ts';
import { createProcess, ownerOf, Process, userAddress } from './kernel/process.ts';
import { DevSet, VfioDevice } from './kernel/vfio.ts';
import { VfioGroup } from './kernel/vfio-group.ts';

/**
 * Whose unit: VT-d in legacy mode, the recorded emulator in scalable mode, a VT-d unit of scalable mode that has a first stage too, and one that nests it
 * on a second; one of AMD, Arm or RISC-V; or the mock IOMMU of the kernel's selftest.
 */
export type Iommu = keyof typeof defaultCapabilities | 'amd' | 'smmuv3' | 'riscv' | 'mock';
export const iommus = [...(Object.keys(defaultCapabilities) as (keyof typeof defaultCapabilities)[]), 'amd', 'smmuv3', 'riscv', 'mock'] as const satisfies readonly Iommu[];

/** RAM and kernel memory of a host, in bytes. */
export interface HostSize {
  readonly ramBytes: number;
  readonly kernelBytes: number;
}

/** What a few VMs need, and what each of many adds. */
const baseSize: HostSize = { ramBytes: 4 << 20, kernelBytes: 2 << 20 };
const sizePerVm: HostSize = { ramBytes: 1 << 19, kernelBytes: 1 << 17 };

/** What kind of host it is; by default the one of the recordings in legacy mode, with the faults of Linux 7.2. */
export interface WorldOptions extends HostSize {
  /** How many VMs it is for. */
  readonly vms: number;
  /** The unit before its functions. Devices of the selftest have none, also where there are units of VT-d beside them. */
  readonly iommu: Iommu | 'vtd-legacy and mock';
  /** Whether unit and functions have ATS; a function uses it once `enableAts` was called for it. */
  readonly ats: boolean;
  /** Whether unit and functions have PASIDs, 2^15 of them; of VT-d in scalable mode alone, as page requests are. */
  readonly pasids: boolean;
  /** Whether unit and functions have page requests, for which functions need ATS too. */
  readonly pageRequests: boolean;
  /** How many units of that kind; functions are behind the first unless `behindUnit` says otherwise. */
  readonly units: number;
  /** How many bits of a context or PASID entry the unit fetches at once: 64, 128 (the default), or 512, any entry as a whole. */
  readonly fetchBits: 64 | 128 | 512;
  /** What groups translate through by default: tables that are empty ('dma', the default), or nothing ('identity', iommu=pt). */
  readonly defaultDomain: 'dma' | 'identity';
  /** Whether the unit has caches; 'on' by default. */
  readonly caches: 'on' | 'off';
  /** Switch K8: false lets devices behind a bridge translate in scalable mode. */
  readonly aliasPasidTableSkipped: boolean;
  /** Null where the host has no confidential guests and no security manager for devices; else how the hardware looks after owned memory. */
  readonly confidential: OwnershipRules | null;
}

/** First device number that the world gives out on each root bus, as in the recorded machine. */
const firstSlot = 5;
const slotsPerBus = 32 - firstSlot;

/** One group: `number` is the iommu group's, `vfio` the number of each member's character device. */
export interface BuiltGroup<Numbers extends readonly number[] = readonly number[]> {
  readonly number: number;
  readonly vfio: Numbers;
}

/** A group that is being built: what the core, and what VFIO's legacy interface keeps of it. */
interface NewGroup {
  readonly number: number;
  readonly core: Ref<'IommuGroup'>;
  readonly legacy: Ref<'VfioGroup'>;
}

export class World {
  readonly host: Host;
  readonly kernel: Kernel;
  /** What actors find by name: functions and their registers, processes, guests' memory. */
  readonly directory: Record<string, number> = {};
  /** Units, and the one that functions are plugged in behind. */
  readonly #units: Ref<'IommuUnit'>[] = [];
  #unit: Ref<'IommuUnit'>;
  readonly #groups: Ref<'IommuGroup'>[] = [];
  readonly #processes: Ref<'Process'>[] = [];
  readonly #ats: boolean;
  readonly #pageRequests: boolean;
  readonly #pasids: number;
  readonly #passesThrough: boolean;
  #vfioDevices = 0;
  #slots = 0;

  /** How many VMs the command line asks for; the host grows with it. */
  readonly vms: number;

  constructor(options: Partial<WorldOptions> = {}) {
    const { vms = 1, iommu = 'vtd-legacy', aliasPasidTableSkipped = true, fetchBits = 128, caches = 'on', ats = false, defaultDomain = 'dma', confidential = null } = options;
    const { pasids = false, pageRequests = false, units = 1, ...size } = options;
    this.vms = vms;
    const ramBytes = size.ramBytes ?? baseSize.ramBytes + vms * sizePerVm.ramBytes;
    this.host = Host.create(ramBytes, size.kernelBytes ?? baseSize.kernelBytes + vms * sizePerVm.kernelBytes);
    Machine.create(this.host);
    this.#ats = ats;
    if ((pasids || pageRequests) && !(iommu in defaultCapabilities)) throw new Error(`requests with PASIDs and page requests are of VT-d alone, not of '${iommu}'`);
    this.#pageRequests = pageRequests;
    this.#pasids = pasids ? 1 << pasidBits : 0;
    this.#passesThrough = defaultDomain === 'identity';
    const mode = iommu === 'vtd-legacy and mock' ? 'vtd-legacy' : iommu;
    for (let unit = 0; unit < units; unit++) {
      if (mode === 'riscv') this.#units.push(Machine.addRiscvUnit(this.host, { fetchBits, iotlb: caches === 'on' }));
      else if (mode === 'amd') this.#units.push(Machine.addAmdUnit(this.host, { fetchBits, caches }));
      else if (mode === 'smmuv3') this.#units.push(Machine.addSmmuUnit(this.host, { fetchBits, caches }));
      else if (mode === 'mock') this.#units.push(Machine.addMockUnit(this.host));
      else this.#units.push(Machine.addUnit(this.host, { mode, ats, pasids, pageRequests, faultReasons: 'recorded', fetchBits, caches }));
    }
    this.#unit = this.#units[0]!;
    if (iommu.endsWith('mock')) MockDriver.boot(this.host, mode === 'mock' ? this.#unit : NULL);
    if (confidential !== null && !iommu.startsWith('vtd')) throw new Error('owned memory is looked after by VT-d units alone');
    if (confidential !== null) Machine.addTrustedSide(this.host, confidential);
    const machine = new Machine(this.host);
    if (iommu === 'riscv') RiscvDriver.boot(this.host, machine);
    else if (iommu === 'amd') AmdDriver.boot(this.host, machine);
    else if (iommu === 'smmuv3') SmmuDriver.boot(this.host, machine);
    else if (iommu !== 'mock') VtdDriver.boot(this.host, machine, { aliasPasidTableSkipped });
    this.host.kernelRoot = KernelRoot.create(this.host.kernel);
    if (confidential !== null) KernelRoot.tsm.poke(this.host.kernel, this.host.kernelRoot, TsmCore.create(this.host.kernel));
    this.kernel = new Kernel(this.host, linux72, driverInForce(this.host, machine));
  }

  /** A multi-function device on the root bus without ACS: its functions are one group, each a VFIO dev_set of its own. */
  group<const Names extends readonly string[]>(...names: Names): BuiltGroup<{ readonly [K in keyof Names]: number }> {
    const slot = this.#slots++;
    const bus = Math.floor(slot / slotsPerBus);
    const first = (bus << 8) | ((firstSlot + (slot % slotsPerBus)) << 3);
    const group = this.#createGroup();
    const vfio = names.map((name, index) => this.#vfioFunction(group, name, first | index, null, this.#createDevSet()));
    this.#settleOnDefault(group.core);
    this.#linkGroups();
    return { number: group.number, vfio: vfio as { readonly [K in keyof Names]: number } };
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
    const found = enumerate(root);
    const groups = Array.from({ length: 1 + Math.max(...found.map(({ group }) => group)) }, () => this.#createGroup());
    const sets = Array.from({ length: 1 + Math.max(...found.map(({ devSet }) => devSet)) }, () => this.#createDevSet());
    const vfio: number[][] = groups.map(() => []);
    for (const { name, rid, sourceId, group, devSet } of found) {
      if (name === null) this.#member(groups[group]!, null, rid, sourceId);
      else vfio[group]!.push(this.#vfioFunction(groups[group]!, name, rid, sourceId, sets[devSet]!));
    }
    for (const { core } of groups) this.#settleOnDefault(core);
    this.#linkGroups();
    return groups.map(({ number }, index) => ({ number, vfio: vfio[index]! }));
  }

  /** What is plugged in from now on is behind that unit, counted from 0. */
  behindUnit(index: number): void {
    const unit = this.#units[index];
    if (unit === undefined) throw new Error(`there is no unit ${index}; the host has ${this.#units.length}`);
    this.#unit = unit;
  }

  /** Interrupts are not remapped (`intremap=off`): no device can be bound by a user. */
  leaveInterruptsUnsafe(): void {
    KernelRoot.unsafeInterrupts.poke(this.host.kernel, this.kernel.root, 1);
  }

  /** Groups count from 1: 0 is the host bridge's, which no world has. */
  #createGroup(): NewGroup {
    const memory = this.host.kernel;
    const core = IommuGroup.create(memory);
    const number = this.#groups.length + 1;
    IommuGroup.number.poke(memory, core, number);
    this.#groups.push(core);
    const legacy = VfioGroup.create(memory);
    VfioGroup.group.poke(memory, legacy, core);
    VfioGroup.next.poke(memory, legacy, KernelRoot.vfioGroups.peek(memory, this.kernel.root));
    KernelRoot.vfioGroups.poke(memory, this.kernel.root, legacy);
    return { number, core, legacy };
  }

  #createDevSet(): Ref<'DevSet'> {
    return DevSet.create(this.host.kernel);
  }

  /** An edu device with a character device; returns the number of the latter. */
  #vfioFunction(group: NewGroup, name: string, rid: number, sourceId: number | null, devSet: Ref<'DevSet'>): number {
    const memory = this.host.kernel;
    const device = this.#member(group, name, rid, sourceId);
    const added = VfioDevice.create(memory);
    const number = this.#vfioDevices++;
    VfioDevice.number.poke(memory, added, number);
    VfioDevice.device.poke(memory, added, device);
    VfioDevice.group.poke(memory, added, group.legacy);
    VfioDevice.devSet.poke(memory, added, devSet);
    VfioDevice.next.poke(memory, added, this.kernel.firstVfioDevice);
    KernelRoot.vfioDevices.poke(memory, this.kernel.root, added);
    return number;
  }

  #member({ core }: NewGroup, name: string | null, rid: number, sourceId: number | null): Ref<'PciDevice'> {
    const memory = this.host.kernel;
    const added = Machine.addFunction(this.host, this.#unit, { rid, sourceId: sourceId ?? rid, ats: this.#ats, pasids: this.#pasids, pageRequests: this.#pageRequests });
    this.kernel.driver.probe(added);
    const device = PciDevice.create(memory);
    PciDevice.address.poke(memory, device, rid);
    PciDevice.function.poke(memory, device, added);
    PciDevice.group.poke(memory, device, core);
    PciDevice.ats.poke(memory, device, this.#ats ? 1 : 0);
    this.#append(core, device);
    if (name === null) return device;
    const registers = EduRegisters.create(memory);
    EduRegisters.function.poke(memory, registers, added);
    this.directory[name] = added;
    this.directory[`${name}.registers`] = registers;
    this.directory[`${name}.pci`] = device;
    return device;
  }

  /** Members keep the order in which they were found: it is the order in which a group moves. */
  #append(group: Ref<'IommuGroup'>, device: Ref<'PciDevice'>): void {
    const memory = this.host.kernel;
    let last = IommuGroup.members.peek(memory, group);
    if (last === NULL) {
      IommuGroup.members.poke(memory, group, device);
      return;
    }
    while (PciDevice.nextInGroup.peek(memory, last) !== NULL) last = PciDevice.nextInGroup.peek(memory, last);
    PciDevice.nextInGroup.poke(memory, last, device);
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

  /** Nothing keeps the members of a group apart. */
  #linkPeers(group: Ref<'IommuGroup'>): void {
    const memory = this.host.kernel;
    const members: Ref<'PciFunction'>[] = [];
    for (let at = IommuGroup.members.peek(memory, group); at !== NULL; at = PciDevice.nextInGroup.peek(memory, at)) members.push(PciDevice.function.peek(memory, at));
    if (members.length > 1) members.forEach((one, index) => PciFunction.nextPeer.poke(memory, one, members[(index + 1) % members.length]!));
  }

  /** Nobody owns the group yet: a domain for kernel DMA, empty (so that nothing is reached) but under iommu=pt. */
  #settleOnDefault(group: Ref<'IommuGroup'>): void {
    this.#linkPeers(group);
    const memory = this.host.kernel;
    const first = PciDevice.function.peek(memory, IommuGroup.members.peek(memory, group));
    const domain = this.#passesThrough ? this.kernel.driver.identityDomain : this.kernel.driver.allocPagingDomain(first, 0);
    IommuGroup.defaultDomain.poke(memory, group, domain);
    IommuGroup.blockingDomain.poke(memory, group, this.kernel.driver.blockedDomain);
    IommuGroup.domain.poke(memory, group, this.kernel.driver.blockedDomain);
    IommuGroup.mutex.acquire(memory, group);
    setGroupDomain(this.kernel, group, domain, Move.MAY_FAIL);
    IommuGroup.mutex.release(memory, group);
  }

  #linkGroups(): void {
    const memory = this.host.kernel;
    this.#groups.forEach((group, index) => IommuGroup.next.poke(memory, group, this.#groups[index + 1] ?? NULL));
    KernelRoot.groups.poke(memory, this.kernel.root, this.#groups[0] ?? NULL);
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
