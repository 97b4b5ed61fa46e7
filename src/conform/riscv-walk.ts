/**
 * Plays walk vectors to a RISC-V unit: builds a case's tables in host memory, makes its request, and tells the completion, the fault
 * record and the words that changed, in the vectors' words. The walk is the one that a device's DMA takes, with nothing cached.
 *
 * One host serves all cases: what a case wrote is cleared behind it.
 */
import { peek, poke } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { Completion, completionOf, isGuestPageFault, Want } from '../hardware/riscv/cause.ts';
import { isRecorded, transactionType } from '../hardware/riscv/fault-record.ts';
import { Capability, CapabilityHigh, DdtpMode, RiscvRegisters } from '../hardware/riscv/registers.ts';
import { AddressType, noProcess, RiscvRequest, RiscvTranslation } from '../hardware/riscv/translation.ts';
import type { WalkCase } from './walk-case.ts';

/** What came of a request: the fields of a vector's `want`. */
export interface WalkOutcome {
  readonly status: 'success' | 'no_access' | 'fault' | 'ur' | 'ca';
  readonly pa: string | null;
  readonly size: string | null;
  readonly r: boolean | null;
  readonly w: boolean | null;
  readonly x: boolean | null;
  readonly global: boolean | null;
  readonly pbmt: number | null;
  readonly cause: number | null;
  readonly iotval: string | null;
  readonly iotval2: string | null;
  readonly record: { readonly ttyp: number; readonly did: number; readonly pv: boolean; readonly pid: number; readonly priv: boolean } | null;
  readonly mem: readonly (readonly [string, string])[];
}

const ramBytes = 2 ** 32;
/** The frame table of 4 GiB, and some. */
const kernelBytes = 20 << 20;

export class RiscvWalker {
  readonly #host = Host.create(ramBytes, kernelBytes);
  readonly #registers: Ref<'RiscvRegisters'> = RiscvRegisters.create(this.#host.kernel);
  readonly #request = new RiscvRequest();

  constructor() {
    RiscvRegisters.fetchBits.poke(this.#host.kernel, this.#registers, 512);
  }

  play(given: WalkCase): WalkOutcome {
    const { kernel, ram } = this.#host;
    const registers = this.#registers;
    RiscvRegisters.capabilities.poke(kernel, registers, capabilitiesHigh(given.caps), capabilitiesLow(given.caps));
    const { high, low } = given.ddtp.ppn;
    RiscvRegisters.ddtp.poke(kernel, registers, (high << 10) | (low >>> 22), (low << 10) | ddtpMode[given.ddtp.mode]);
    for (const [at, word] of given.mem) this.#write(at, word.high, word.low);
    const unit = new RiscvTranslation(this.#host, registers);
    const request = fillRequest(this.#request, given.req);
    const cause = unit.translate(request);
    const changed = given.mem.filter(([at, word]) => peek(ram, at) !== word.low || peek(ram, at + 4) !== word.high);
    const mem = changed.map(([at]) => [hex(0, at), hex(peek(ram, at + 4), peek(ram, at))] as const);
    for (const [at] of given.mem) this.#write(at, 0, 0);
    return { ...outcomeOf(unit, request, cause, given.req), mem };
  }

  #write(at: number, high: number, low: number): void {
    poke(this.#host.ram, at, low);
    poke(this.#host.ram, at + 4, high);
  }
}

type Caps = WalkCase['caps'];
type Request = WalkCase['req'];

const ddtpMode = { off: DdtpMode.OFF, bare: DdtpMode.BARE, '1lvl': DdtpMode.LEVELS1, '2lvl': DdtpMode.LEVELS2, '3lvl': DdtpMode.LEVELS3 } as const;
const addressType = { untranslated: AddressType.UNTRANSLATED, translated: AddressType.TRANSLATED, translation_request: AddressType.TRANSLATION_REQUEST } as const;

const lowCapabilities: readonly (readonly [keyof Caps & string, number])[] = [
  ['sv39', Capability.SV39], ['sv48', Capability.SV48], ['sv57', Capability.SV57],
  ['sv39x4', Capability.SV39X4], ['sv48x4', Capability.SV48X4], ['sv57x4', Capability.SV57X4],
  ['svrsw60t59b', Capability.SVRSW60T59B], ['svpbmt', Capability.SVPBMT], ['extended_dc', Capability.MSI_FLAT],
  ['amo_hwad', Capability.AMO_HWAD], ['ats', Capability.ATS], ['t2gpa', Capability.T2GPA],
];

const capabilitiesLow = (caps: Caps): number => lowCapabilities.reduce((bits, [name, bit]) => (caps[name] === true ? bits | bit : bits), 0);
const capabilitiesHigh = ({ pd8, pd17, pd20 }: Caps): number =>
  (pd8 ? CapabilityHigh.PD8 : 0) | (pd17 ? CapabilityHigh.PD17 : 0) | (pd20 ? CapabilityHigh.PD20 : 0);

function fillRequest(request: RiscvRequest, { did, pid, priv, at, rw, exec, iova }: Request): RiscvRequest {
  request.deviceId = did;
  request.processId = pid ?? noProcess;
  request.supervisor = pid !== null && priv;
  request.type = addressType[at];
  request.iovaHigh = iova.high;
  request.iovaLow = iova.low;
  request.wanted = wantedOf(at, rw, exec);
  return request;
}

/** A translated read for execution needs both permissions; ATS asks whether there are more than reading. */
function wantedOf(at: Request['at'], rw: Request['rw'], exec: boolean): number {
  if (at === 'translation_request') return Want.READ | (rw === 'write' ? Want.WRITE : 0) | (exec ? Want.EXECUTE : 0);
  if (rw === 'execute') return at === 'translated' ? Want.READ | Want.EXECUTE : Want.EXECUTE;
  return rw === 'write' ? Want.WRITE : Want.READ;
}

const nothing = { pa: null, size: null, r: null, w: null, x: null, global: null, pbmt: null, cause: null, iotval: null, iotval2: null, record: null } as const;
const refusals = { [Completion.NO_ACCESS]: 'no_access', [Completion.UNSUPPORTED_REQUEST]: 'ur', [Completion.COMPLETER_ABORT]: 'ca' } as const;
const noPermissions = { r: false, w: false, x: false } as const;

function outcomeOf(unit: RiscvTranslation, request: RiscvRequest, cause: number, given: Request): Omit<WalkOutcome, 'mem'> {
  const isAts = request.type === AddressType.TRANSLATION_REQUEST;
  if (cause === 0) return isAts ? completed(unit, request, given) : { ...nothing, ...reached(unit, given), status: 'success' };
  const completion = isAts ? completionOf(cause) : Completion.SUCCESS;
  if (completion === Completion.NO_ACCESS) return { ...nothing, ...noPermissions, status: 'no_access' };
  return {
    ...nothing,
    status: completion === Completion.SUCCESS ? 'fault' : refusals[completion],
    cause,
    iotval: hex(given.iova.high, given.iova.low),
    iotval2: isGuestPageFault(cause) ? guestAddress(unit) : '0x0',
    record: isRecorded(cause, unit.control, request) ? recordOf(request, given) : null,
  };
}

/** An ATS answer: what is granted, which may be nothing. */
function completed(unit: RiscvTranslation, request: RiscvRequest, given: Request): Omit<WalkOutcome, 'mem'> {
  const granted = unit.permissions(request);
  if (granted === 0) return { ...nothing, ...noPermissions, status: 'no_access' };
  const permissions = { r: true, w: (granted & Want.WRITE) !== 0, x: (granted & Want.EXECUTE) !== 0 };
  const global = given.pid !== null && unit.walkedFirst ? unit.first.global : null;
  return { ...nothing, ...reached(unit, given), ...permissions, global, status: 'success' };
}

function reached(unit: RiscvTranslation, { iova }: Request): Pick<WalkOutcome, 'pa' | 'size' | 'pbmt'> {
  const bytes = BigInt(unit.frame) * 4096n + BigInt(iova.low & 4095);
  return { pa: `0x${bytes.toString(16)}`, size: unit.pages === 0 ? null : `0x${(BigInt(unit.pages) * 4096n).toString(16)}`, pbmt: unit.memoryType };
}

/** GPA with its bits [11:2] as 0, as the vectors have it. */
function guestAddress({ guest }: RiscvTranslation): string {
  return `0x${(BigInt(guest.page) * 4096n + (guest.implicit ? 1n : 0n) + (guest.write ? 2n : 0n)).toString(16)}`;
}

function recordOf(request: RiscvRequest, { did, pid, priv }: Request): WalkOutcome['record'] {
  return { ttyp: transactionType(request), did, pv: pid !== null, pid: pid ?? 0, priv: pid !== null && priv };
}

const hex = (high: number, low: number): string => `0x${((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toString(16)}`;
