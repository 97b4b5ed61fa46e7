/**
 * Functions of a host as they are plugged in: what hardware, the IOMMU core and VFIO keep of each, and the groups that they form.
 *
 * One thread builds, before any actor runs; nothing here is a point.
 */
import type { Host } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { EduRegisters } from './hardware/edu.ts';
import { PciFunction } from './hardware/function.ts';
import { Machine, type PciFunctionOptions } from './hardware/machine.ts';
import { IommuGroup, Move, PciDevice, setGroupDomain } from './kernel/iommu-group.ts';
import { KernelRoot, type Kernel } from './kernel/kernel.ts';
import { enumerate, type PciBus } from './kernel/pci.ts';
import { DevSet, VfioDevice } from './kernel/vfio.ts';
import { VfioGroup } from './kernel/vfio-group.ts';

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

/** What all functions of a host have, and what their groups translate through by default. */
export interface FunctionOptions extends Required<Pick<PciFunctionOptions, 'ats' | 'pasids' | 'pageRequests'>> {
  readonly passesThrough: boolean;
}

export class BuiltGroups {
  /** The unit that functions are plugged in behind. */
  unit: Ref<'IommuUnit'>;
  readonly #host: Host;
  readonly #kernel: Kernel;
  readonly #directory: Record<string, number>;
  readonly #options: FunctionOptions;
  readonly #groups: Ref<'IommuGroup'>[] = [];
  #vfioDevices = 0;
  #slots = 0;

  /** Functions with a name are put into the directory. */
  constructor(host: Host, kernel: Kernel, directory: Record<string, number>, unit: Ref<'IommuUnit'>, options: FunctionOptions) {
    this.#host = host;
    this.#kernel = kernel;
    this.#directory = directory;
    this.unit = unit;
    this.#options = options;
  }

  /** A multi-function device on the root bus without ACS: its functions are one group, each a VFIO dev_set of its own. */
  group<const Names extends readonly string[]>(names: Names): BuiltGroup<{ readonly [K in keyof Names]: number }> {
    const slot = this.#slots++;
    const bus = Math.floor(slot / slotsPerBus);
    const first = (bus << 8) | ((firstSlot + (slot % slotsPerBus)) << 3);
    const group = this.#createGroup();
    const vfio = names.map((name, index) => this.#vfioFunction(group, name, first | index, null, this.#createDevSet()));
    this.#settleOnDefault(group.core);
    this.#linkGroups();
    return { number: group.number, vfio: vfio as { readonly [K in keyof Names]: number } };
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

  /** Groups count from 1: 0 is the host bridge's, which no world has. */
  #createGroup(): NewGroup {
    const memory = this.#host.kernel;
    const core = IommuGroup.create(memory);
    const number = this.#groups.length + 1;
    IommuGroup.number.poke(memory, core, number);
    this.#groups.push(core);
    const legacy = VfioGroup.create(memory);
    VfioGroup.group.poke(memory, legacy, core);
    VfioGroup.next.poke(memory, legacy, KernelRoot.vfioGroups.peek(memory, this.#kernel.root));
    KernelRoot.vfioGroups.poke(memory, this.#kernel.root, legacy);
    return { number, core, legacy };
  }

  #createDevSet(): Ref<'DevSet'> {
    return DevSet.create(this.#host.kernel);
  }

  /** An edu device with a character device; returns the number of the latter. */
  #vfioFunction(group: NewGroup, name: string, rid: number, sourceId: number | null, devSet: Ref<'DevSet'>): number {
    const memory = this.#host.kernel;
    const device = this.#member(group, name, rid, sourceId);
    const added = VfioDevice.create(memory);
    const number = this.#vfioDevices++;
    VfioDevice.number.poke(memory, added, number);
    VfioDevice.device.poke(memory, added, device);
    VfioDevice.group.poke(memory, added, group.legacy);
    VfioDevice.devSet.poke(memory, added, devSet);
    VfioDevice.next.poke(memory, added, this.#kernel.firstVfioDevice);
    KernelRoot.vfioDevices.poke(memory, this.#kernel.root, added);
    return number;
  }

  #member({ core }: NewGroup, name: string | null, rid: number, sourceId: number | null): Ref<'PciDevice'> {
    const memory = this.#host.kernel;
    const added = Machine.addFunction(this.#host, this.unit, { rid, sourceId: sourceId ?? rid, ats: this.#options.ats, pasids: this.#options.pasids, pageRequests: this.#options.pageRequests });
    this.#kernel.driver.probe(added);
    const device = PciDevice.create(memory);
    PciDevice.address.poke(memory, device, rid);
    PciDevice.function.poke(memory, device, added);
    PciDevice.group.poke(memory, device, core);
    PciDevice.ats.poke(memory, device, this.#options.ats ? 1 : 0);
    this.#append(core, device);
    if (name === null) return device;
    const registers = EduRegisters.create(memory);
    EduRegisters.function.poke(memory, registers, added);
    this.#directory[name] = added;
    this.#directory[`${name}.registers`] = registers;
    this.#directory[`${name}.pci`] = device;
    return device;
  }

  /** Members keep the order in which they were found: it is the order in which a group moves. */
  #append(group: Ref<'IommuGroup'>, device: Ref<'PciDevice'>): void {
    const memory = this.#host.kernel;
    let last = IommuGroup.members.peek(memory, group);
    if (last === NULL) {
      IommuGroup.members.poke(memory, group, device);
      return;
    }
    while (PciDevice.nextInGroup.peek(memory, last) !== NULL) last = PciDevice.nextInGroup.peek(memory, last);
    PciDevice.nextInGroup.poke(memory, last, device);
  }

  /** Nothing keeps the members of a group apart. */
  #linkPeers(group: Ref<'IommuGroup'>): void {
    const memory = this.#host.kernel;
    const members: Ref<'PciFunction'>[] = [];
    for (let at = IommuGroup.members.peek(memory, group); at !== NULL; at = PciDevice.nextInGroup.peek(memory, at)) members.push(PciDevice.function.peek(memory, at));
    if (members.length > 1) members.forEach((one, index) => PciFunction.nextPeer.poke(memory, one, members[(index + 1) % members.length]!));
  }

  /** Nobody owns the group yet: a domain for kernel DMA, empty (so that nothing is reached) but under iommu=pt. */
  #settleOnDefault(group: Ref<'IommuGroup'>): void {
    this.#linkPeers(group);
    const memory = this.#host.kernel;
    const first = PciDevice.function.peek(memory, IommuGroup.members.peek(memory, group));
    const domain = this.#options.passesThrough ? this.#kernel.driver.identityDomain : this.#kernel.driver.allocPagingDomain(first, 0);
    IommuGroup.defaultDomain.poke(memory, group, domain);
    IommuGroup.blockingDomain.poke(memory, group, this.#kernel.driver.blockedDomain);
    IommuGroup.domain.poke(memory, group, this.#kernel.driver.blockedDomain);
    IommuGroup.mutex.acquire(memory, group);
    setGroupDomain(this.#kernel, group, domain, Move.MAY_FAIL);
    IommuGroup.mutex.release(memory, group);
  }

  #linkGroups(): void {
    const memory = this.#host.kernel;
    this.#groups.forEach((group, index) => IommuGroup.next.poke(memory, group, this.#groups[index + 1] ?? NULL));
    KernelRoot.groups.poke(memory, this.#kernel.root, this.#groups[0] ?? NULL);
  }
}
