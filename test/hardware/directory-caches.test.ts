/** Device and process contexts that a RISC-V unit keeps: outside open invalidation windows a unit with caches answers as one without. */
import { poke, write64 } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { RiscvDriver } from '#src/drivers/riscv/driver';
import { riscvOperations } from '#src/drivers/riscv/operations';
import type { RiscvSubmitter } from '#src/drivers/riscv/queue';
import { Riscv } from '#src/drivers/riscv/riscv';
import { Machine } from '#src/hardware/machine';
import { Cause, Want } from '#src/hardware/riscv/cause';
import * as commands from '#src/hardware/riscv/commands';
import { Field, Tc } from '#src/hardware/riscv/device-context';
import { DirectoryCaches } from '#src/hardware/riscv/directory-caches';
import { CapabilityHigh, DdtpMode, RiscvRegisters, worldCapabilities, type RiscvUnitOptions } from '#src/hardware/riscv/registers';
import { RiscvRequest, RiscvTranslation } from '#src/hardware/riscv/translation';
import { IommuUnit } from '#src/hardware/unit';
import type { Ref } from '#hostmem/object';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const sv48 = 9 << 28;
const directoryOfOneLevel = 1 << 28;

/** A unit with a directory of one level; every device may have one of two process directories, also of one level. */
class Unit {
  readonly #host = Host.create(4 << 20, 2 << 20);
  readonly #translation: RiscvTranslation;
  readonly #submitter: RiscvSubmitter;
  readonly #devices: Frame;
  readonly #processes: readonly Frame[];
  readonly #request = new RiscvRequest();

  constructor(options: RiscvUnitOptions) {
    const host = this.#host;
    Machine.create(host);
    const unit = Machine.addRiscvUnit(host, options);
    const machine = new Machine(host);
    RiscvDriver.boot(host, machine);
    const registers = IommuUnit.registers.peek(host.kernel, unit) as Ref<'RiscvRegisters'>;
    RiscvRegisters.capabilities.poke(host.kernel, registers, CapabilityHigh.PD8, worldCapabilities);
    this.#devices = host.frames.allocate(Owner.KERNEL);
    this.#processes = [host.frames.allocate(Owner.KERNEL), host.frames.allocate(Owner.KERNEL)];
    RiscvRegisters.ddtp.poke(host.kernel, registers, 0, (this.#devices << 10) | DdtpMode.LEVELS1);
    this.#translation = new RiscvTranslation(host, registers, new DirectoryCaches(host.kernel, unit));
    this.#submitter = new Riscv(host, machine, riscvOperations).unit(unit).submitter;
  }

  /** `directory` 0 and 1 are process directories, -1 none: a first stage of the device's own, whose root is `root`. */
  writeDevice(device: number, valid: boolean, directory: number, root: number): void {
    const { ram } = this.#host;
    const at = hpaOf(this.#devices) + device * 32;
    poke(ram, at + Field.TA * 4, (device + 1) << 12);
    write64(ram, at + Field.FSC * 4, directory < 0 ? sv48 : directoryOfOneLevel, directory < 0 ? root : this.#processes[directory]!, 0);
    poke(ram, at, (valid ? Tc.VALID : 0) | (directory < 0 ? 0 : Tc.PDTV));
  }

  writeProcess(directory: number, process: number, valid: boolean, pscid: number, root: number): void {
    const { ram } = this.#host;
    const at = hpaOf(this.#processes[directory]!) + process * 16;
    poke(ram, at, (pscid << 12) | (valid ? 1 : 0));
    write64(ram, at + 8, sv48, root, 0);
  }

  forgetDevice(device: number | null): void {
    this.#submitter.push([commands.invalidateDdt, device === null ? 0 : commands.oneDevice(device), 0, 0]).submit();
  }
  forgetProcess(device: number, process: number): void {
    this.#submitter.push([commands.invalidatePdt(process), commands.oneDevice(device), 0, 0]).submit();
  }

  /** What is found of a requester: the fault, or address space and root. */
  find(device: number, process: number): string {
    const request = this.#request;
    Object.assign(request, { deviceId: device, processId: process, wanted: Want.READ });
    const cause = this.#translation.find(request);
    return cause === Cause.NONE ? `${this.#translation.pscid}: ${this.#translation.walkedFirst ? this.#translation.root : 'bare'}` : `cause ${cause}`;
  }
}

const device = fc.nat(2);
const process = fc.nat(2);
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('device' as const), device, valid: fc.constantFrom(true, true, false), directory: fc.integer({ min: -1, max: 1 }), root: fc.integer({ min: 100, max: 200 }), tell: fc.constantFrom('all', 'one', 'one', 'nobody') }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('process' as const), directory: fc.nat(1), process, valid: fc.constantFrom(true, true, false), pscid: fc.integer({ min: 1, max: 9 }), root: fc.integer({ min: 100, max: 200 }), tell: fc.boolean() }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('request' as const), device, process: fc.integer({ min: -1, max: 2 }) }) },
);
type Program = (typeof step extends fc.Arbitrary<infer S> ? S : never)[];

/** The ends of a program's requests; 'open' where the unit may go by what was there before, which depends on the program alone. */
function play(program: Program, options: RiscvUnitOptions): string[] {
  const unit = new Unit(options);
  const openDevices = new Set<number>();
  /** By device and process: a process context is invalidated for each device that may have it. */
  const openProcesses = new Set<string>();
  const ends: string[] = [];
  for (const op of program) {
    if (op.kind === 'device') {
      unit.writeDevice(op.device, op.valid, op.directory, op.root);
      openDevices.add(op.device);
      if (op.tell === 'nobody') continue;
      unit.forgetDevice(op.tell === 'all' ? null : op.device);
      for (const each of op.tell === 'all' ? [0, 1, 2] : [op.device]) {
        openDevices.delete(each);
        for (const one of [0, 1, 2]) openProcesses.delete(`${each}.${one}`);
      }
    } else if (op.kind === 'process') {
      unit.writeProcess(op.directory, op.process, op.valid, op.pscid, op.root);
      for (const each of [0, 1, 2]) {
        openProcesses.add(`${each}.${op.process}`);
        if (!op.tell) continue;
        unit.forgetProcess(each, op.process);
        openProcesses.delete(`${each}.${op.process}`);
      }
    } else {
      const end = unit.find(op.device, op.process);
      ends.push(openDevices.has(op.device) || openProcesses.has(`${op.device}.${op.process}`) ? 'open' : end);
    }
  }
  return ends;
}

test('outside open windows contexts from caches are those in memory, whichever of the caches there are', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (program) => {
      const bare = play(program, { caches: 'off' });
      for (const options of [{}, { deviceContexts: false }, { processContexts: false }]) expect(play(program, options)).toEqual(bare);
    }),
    { numRuns: 80, seed: 7 },
  );
});

/** Device 0 with process 1 in directory 0, both cached; then both say something else. */
function stale(options: RiscvUnitOptions): Unit {
  const unit = new Unit(options);
  for (const one of [0, 1]) unit.writeDevice(one, true, 0, 0);
  unit.writeProcess(0, 1, true, 7, 100);
  expect([unit.find(0, 1), unit.find(1, 1)]).toEqual(['7: 100', '7: 100']);
  unit.writeProcess(0, 1, true, 8, 200);
  return unit;
}

test('a stale context inside an open window is seen, with the cache that has it', () => {
  expect(stale({}).find(0, 1)).toBe('7: 100');
  expect(stale({ processContexts: false }).find(0, 1)).toBe('8: 200');
  expect(stale({ caches: 'off' }).find(0, 1)).toBe('8: 200');
  const unit = stale({});
  unit.writeDevice(0, false, 0, 0);
  expect(unit.find(0, 1)).toBe('7: 100');
});

test('INVAL_PDT is for one process of one device; INVAL_DDT for a device and its processes, or for all', () => {
  const one = stale({});
  one.forgetProcess(0, 2);
  expect(one.find(0, 1)).toBe('7: 100');
  one.forgetProcess(0, 1);
  expect([one.find(0, 1), one.find(1, 1)]).toEqual(['8: 200', '7: 100']);
  const all = stale({});
  all.forgetDevice(1);
  expect([all.find(0, 1), all.find(1, 1)]).toEqual(['7: 100', '8: 200']);
  all.forgetDevice(null);
  expect(all.find(0, 1)).toBe('8: 200');
});

test('what is not present, or misconfigured, is not kept', () => {
  const unit = new Unit({});
  expect(unit.find(2, -1)).toBe(`cause ${Cause.DDT_NOT_VALID}`);
  unit.writeDevice(2, true, 0, 0);
  expect(unit.find(2, 1)).toBe(`cause ${Cause.PDT_NOT_VALID}`);
  unit.writeProcess(0, 1, true, 0xfffff, 300);
  expect(unit.find(2, 1)).toBe('1048575: 300');
});
