/** A VMM on a host of choice whose VT-d or RISC-V driver may make a mistake; every event is judged as it is written. */
import { History, historyBytes } from '#hostmem/history';
import type { Ref } from '#hostmem/object';
import { loadInvariants } from '#src/check/catalogue';
import { Judge, type Verdict } from '#src/check/judge';
import { View } from '#src/check/view';
import type { IommuDriver } from '#src/drivers/driver';
import { RiscvDriver } from '#src/drivers/riscv/driver';
import { riscvOperations, type RiscvOperations } from '#src/drivers/riscv/operations';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { vtdOperations, type VtdOperations } from '#src/drivers/vtd/operations';
import type { DmaEngine } from '#src/hardware/dma-engine';
import { PciFunction } from '#src/hardware/function';
import { Machine } from '#src/hardware/machine';
import type { Kernel } from '#src/kernel/kernel';
import { World, type WorldOptions } from '#src/world';
import { page, Vmm } from '../kernel/vmm.ts';

/** A driver of the host, with a mistake. */
type Drive = (world: World, machine: Machine) => IommuDriver;

export class Driven {
  readonly vmm: Vmm;
  readonly group;
  readonly history: History;
  readonly device: Ref<'PciFunction'>;
  readonly dma: DmaEngine;
  readonly judge: Judge;
  /** The first breach. */
  verdict: Verdict | null = null;

  private constructor(options: Partial<WorldOptions>, drive: Drive, judge: (history: History, view: View) => Judge) {
    const world = new World(options);
    this.vmm = new Vmm(world);
    this.group = world.group('A');
    this.device = world.directory['A'] as Ref<'PciFunction'>;
    const machine = new Machine(world.host);
    (world.kernel as { -readonly [K in keyof Kernel]: Kernel[K] }).driver = drive(world, machine);
    this.dma = machine.dma(this.device);
    this.history = new History(new SharedArrayBuffer(historyBytes(1, 4096)), 1, 4096);
    this.judge = judge(this.history, new View(world.host.buffers));
    world.host.kernel.history = this.history;
    this.history.listener = (kind) => {
      this.verdict ??= this.judge.moment(kind);
    };
  }

  static async create(options: Partial<WorldOptions>, mistake: Partial<VtdOperations>, ids: readonly string[]): Promise<Driven> {
    const invariants = await loadInvariants(ids);
    return new Driven(options, ({ host }, machine) => new VtdDriver(host, machine, { ...vtdOperations, ...mistake }), (history, view) => new Judge(invariants, history, view));
  }

  /** The same on RISC-V. */
  static async onRiscv(options: Partial<WorldOptions>, mistake: Partial<RiscvOperations>, ids: readonly string[]): Promise<Driven> {
    const invariants = await loadInvariants(ids);
    const drive: Drive = ({ host }, machine) => new RiscvDriver(host, machine, { ...riscvOperations, ...mistake });
    return new Driven({ ...options, iommu: 'riscv' }, drive, (history, view) => new Judge(invariants, history, view));
  }

  /** What the driver keeps of the device. */
  get driverData(): Ref<'IommuDevice'> {
    return PciFunction.driverData.peek(this.memory, this.device) as Ref<'IommuDevice'>;
  }

  get memory() {
    return this.vmm.world.host.kernel;
  }

  /** The life of an attachment: ATS where there is any, DMA, unmap, replace, detach, close. */
  live(): void {
    const { vmm } = this;
    const fd = vmm.iommufd();
    const [first, second] = [vmm.ioas(fd), vmm.ioas(fd)];
    const buffer = vmm.process.memory(page, 1);
    for (const ioas of [first, second]) for (const iova of [0x1000, 0x2000]) vmm.map(fd, ioas, iova, buffer, page);
    const vfio = vmm.process.bind(this.group.vfio[0]!, fd);
    vmm.world.kernel.driver.enableAts?.(this.device);
    vmm.attach(vfio, first);
    for (const iova of [0x1000, 0x2000]) this.dma.read(0, iova, 4);
    vmm.unmap(fd, first, 0x2000, page);
    for (const iova of [0x1000, 0x2000]) this.dma.read(0, iova, 4);
    vmm.attach(vfio, second);
    this.dma.read(0, 0x1000, 4);
    vmm.detach(vfio);
    this.dma.read(0, 0x1000, 4);
    vmm.close(vfio);
    this.verdict ??= this.judge.quiescence();
  }
}
