/**
 * The vIOMMU's side of a virtual unit (`virtual-vtd.ts`): takes the guest's commands in their order, forwards its invalidations through
 * HWPT_INVALIDATE, and puts what the kernel has for the guest into the guest's own queue. What the commands are is for who knows the unit: VT-d's
 * below, the mock's in `virtual-mock.ts`, SMMUv3's in `virtual-smmu.ts`.
 *
 * Invalidations are collected and forwarded together, at the next wait: its status may say that they are done only when they are. One of the PASID cache says
 * that the guest has changed its entry, and with it the tables of its device: that goes through another nested HWPT from then on.
 */
import { peek } from '#hostmem/atomics';
import { Bits, Descriptor, PageAnswerBits, PageBits, PasidIotlbGranularity, pasidMask } from '../hardware/vtd/descriptors.ts';
import { vtdS1InvalidateBytes, vtdS1InvalidateData } from '../drivers/vtd/nested.ts';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import type { QueueServer, TableServer } from '../kernel/operations.ts';
import { read, write } from '../kernel/syscalls.ts';
import { guestAddress } from './guest-memory.ts';
import { GuestRing } from './guest-ring.ts';
import { commandRing, firstStageGpa, pasidEntryGpa, requestRing, ridPasid, WaitStatus } from './virtual-vtd.ts';
import type { Vm } from './vm.ts';

const everyPage = 2n ** 64n - 1n;
const LEAF = 1;
/** A record of `struct iommu_hwpt_pgfault`, and how many are read at once. */
const recordBytes = 40;
const mostRequests = 4;
/** The type of a page request, and the bit of the last one of its group, in the guest's queue (E10). */
const PageRequestBits = { TYPE: 1, LAST: 4 } as const;

/** Whom invalidations are for: a nested HWPT or a vIOMMU, and how long an entry of what type is. */
interface InvalidationKind {
  readonly target: number;
  readonly dataType: number;
  readonly entryBytes: number;
  /** How the kernel may refuse an entry of the guest; by default nohow. */
  readonly refusals?: readonly ErrnoName[];
}

/** A unit of which nothing is known but that it has a queue. */
export abstract class VirtualQueue implements QueueServer {
  protected readonly vm: Vm;
  protected readonly requests: GuestRing;
  protected readonly guest: string;
  protected readonly iommufd: number;
  protected kind: InvalidationKind;
  readonly #commands: GuestRing;
  /** Entries of HWPT_INVALIDATE that were not forwarded yet. */
  #taken: Uint8Array[] = [];
  /** Of the wait that is being carried out. */
  #status = { gpa: 0, value: 0 };

  constructor(vm: Vm, guest: string, iommufd: number, kind: InvalidationKind) {
    this.vm = vm;
    this.requests = new GuestRing(vm, guest, requestRing);
    this.guest = guest;
    this.iommufd = iommufd;
    this.kind = kind;
    this.#commands = new GuestRing(vm, guest, commandRing);
  }

  /** Puts what the kernel has for the guest into its queue. */
  protected abstract inject(): void;
  /** Carries a command out that is no wait, at a host address. */
  protected abstract carryOut(at: number): void;

  /** By a command's first word. */
  protected isWait(first: number): boolean {
    return (first & Bits.typeMask) === Descriptor.WAIT;
  }

  /** Serves the guest's queue until that many of its waits are done. */
  serve(waits: number): void {
    const { ram } = this.vm.host;
    for (let done = 0; done < waits; ) {
      const at = this.#commands.wait();
      this.inject();
      if (this.isWait(peek(ram, at))) {
        this.#status = { gpa: peek(ram, at + 8) & ~3, value: peek(ram, at + 4) };
        this.vm.kernel.operations.viommu.finishWait(this);
        done++;
      } else this.carryOut(at);
      this.#commands.advance();
    }
  }

  /** An entry to be forwarded. */
  protected take(fill: (entry: DataView) => void): void {
    const entry = new Uint8Array(this.kind.entryBytes);
    fill(new DataView(entry.buffer));
    this.#taken.push(entry);
  }

  /** One that is refused is an error of the guest's queue, whose driver skips it: what the kernel says it has handled is done, and the rest goes on. */
  forward(): void {
    const { target, dataType, entryBytes, refusals = [] } = this.kind;
    while (this.#taken.length > 0) {
      const data = new Uint8Array(this.#taken.length * entryBytes);
      this.#taken.forEach((entry, index) => data.set(entry, index * entryBytes));
      const arg = { hwptId: target, data, dataType, entryLength: entryBytes, entryCount: this.#taken.length };
      const errno = this.vm.ioctl(this.iommufd, 'IOMMU_HWPT_INVALIDATE', arg);
      this.vm.expect('an invalidation of the guest', errno, null, ...refusals);
      this.#taken = errno === null ? [] : this.#taken.slice(arg.entryCount + 1);
    }
  }

  complete(): void {
    WaitStatus.word.store(this.vm.host.ram, guestAddress(this.vm, this.guest, this.#status.gpa), this.#status.value);
  }
}

/** The nested HWPT of a guest's first stage, and where its page requests come from, if anywhere. */
export interface Forwarding {
  readonly iommufd: number;
  readonly nested: number;
  readonly faultFd?: number;
  /** Whose the tables are, of a guest that may change them: the device, and the nest parent below them. */
  readonly tables?: { readonly fd: number; readonly deviceId: number; readonly parent: number };
}

/** Of VT-d: PASID-IOTLB invalidations become entries of the VTD_S1 type; page requests and their answers go through the fault queue of the HWPT. */
export class VtdQueue extends VirtualQueue implements TableServer {
  readonly #faultFd: number | null;
  readonly #tables: Forwarding['tables'] | null;
  /** The HWPTs of tables that the guest has used, by their root. */
  readonly #nestedOf: Map<number, number>;
  /** Cookies of the requests that the guest has not answered, by group. */
  readonly #asked = new Map<number, number>();

  constructor(vm: Vm, guest: string, { iommufd, nested, faultFd, tables }: Forwarding) {
    super(vm, guest, iommufd, { target: nested, dataType: vtdS1InvalidateData, entryBytes: vtdS1InvalidateBytes });
    this.#faultFd = faultFd ?? null;
    this.#tables = tables ?? null;
    this.#nestedOf = new Map([[firstStageGpa, nested]]);
  }

  protected override carryOut(at: number): void {
    const { ram } = this.vm.host;
    const [first, third] = [peek(ram, at), peek(ram, at + 8)];
    const type = first & Bits.typeMask;
    if (type === Descriptor.PASID_IOTLB) this.#takePages(first, peek(ram, at + 4), third, peek(ram, at + 12));
    else if (type === Descriptor.PAGE_ANSWER) this.#answer(third >>> PageAnswerBits.groupShift, (first >>> PageAnswerBits.codeShift) & PageAnswerBits.codeMask);
    else if (type === Descriptor.PASID_CACHE && this.#tables !== null) this.vm.kernel.operations.viommu.dropPasidEntry(this);
    else this.vm.check(false, `the guest queued a descriptor of type ${type}, which its unit does not have`);
  }

  /** What was queued before it is of the tables that the device has until then. */
  enterTables(): void {
    const { fd, deviceId, parent } = this.#tables!;
    this.forward();
    const rootGpa = peek(this.vm.host.ram, guestAddress(this.vm, this.guest, pasidEntryGpa) + 16) & ~4095;
    const known = this.#nestedOf.get(rootGpa);
    const nested = known ?? this.vm.obtain("an HWPT for the guest's tables", this.vm.nestedHwpt(this.iommufd, deviceId, parent, rootGpa));
    this.#nestedOf.set(rootGpa, nested);
    this.vm.expect("the attach to the guest's tables", this.vm.attach(fd, nested));
    this.kind = { ...this.kind, target: nested };
  }

  #takePages(first: number, second: number, third: number, fourth: number): void {
    this.vm.check((second & pasidMask) === ridPasid, 'the guest invalidates a PASID that it has not set up');
    const isWhole = ((first >>> Bits.granularityShift) & Bits.granularityMask) === PasidIotlbGranularity.PASID;
    const address = (BigInt(fourth >>> 0) << 32n) | BigInt((third & ~4095) >>> 0);
    this.take((entry) => {
      entry.setBigUint64(0, isWhole ? 0n : address, true);
      entry.setBigUint64(8, isWhole ? everyPage : 1n << BigInt(third & PageBits.orderMask), true);
      entry.setUint32(16, (third & PageBits.leafOnly) === 0 ? 0 : LEAF, true);
    });
  }

  protected override inject(): void {
    if (this.#faultFd === null) return;
    const records = read(this.vm.kernel, this.#faultFd, mostRequests * recordBytes);
    for (let at = 0; at < records.byteLength; at += recordBytes) {
      const record = new DataView(records.buffer, records.byteOffset + at, recordBytes);
      const group = record.getUint32(12, true);
      const address = record.getBigUint64(24, true);
      this.#asked.set(group, record.getUint32(36, true));
      const low = Number(address & 0xfffff000n) | (group << PageAnswerBits.groupShift) | PageRequestBits.LAST | record.getUint32(16, true);
      this.requests.push(PageRequestBits.TYPE, 0, low, Number(address >> 32n));
    }
  }

  #answer(group: number, code: number): void {
    const cookie = this.#asked.get(group);
    this.vm.check(cookie !== undefined, `the guest answers group ${group}, which nobody asked for`);
    this.#asked.delete(group);
    const answered = errnoOf(() => write(this.vm.kernel, this.#faultFd!, new Uint8Array(Uint32Array.of(cookie!, code).buffer)));
    // A device that has left the HWPT meanwhile was answered by the kernel.
    this.vm.expect("the guest's answer", answered, null, 'EINVAL');
  }
}
