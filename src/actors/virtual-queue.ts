/**
 * The vIOMMU's side of a virtual VT-d unit (`virtual-vtd.ts`): takes the guest's descriptors in their order, forwards its invalidations through
 * HWPT_INVALIDATE, hands page requests on to the guest and its answers back to the kernel.
 *
 * Invalidations are collected and forwarded together, at the next wait: its status may say that they are done only when they are.
 */
import { peek, poke, Until } from '#hostmem/atomics';
import { Bits, Descriptor, PageAnswerBits, PageBits, PasidIotlbGranularity, pasidMask } from '../hardware/vtd/descriptors.ts';
import { vtdS1InvalidateBytes, vtdS1InvalidateData } from '../drivers/vtd/nested.ts';
import type { QueueServer } from '../kernel/operations.ts';
import { read, write } from '../kernel/syscalls.ts';
import { guestAddress } from './guest-memory.ts';
import { queueGpa, registersGpa, requestsGpa, ridPasid, slotBytes, slots, VirtualVtd, WaitStatus } from './virtual-vtd.ts';
import { errnoOf, type Vm } from './vm.ts';

const everyPage = 2n ** 64n - 1n;
const LEAF = 1;
/** A record of `struct iommu_hwpt_pgfault`, and how many are read at once. */
const recordBytes = 40;
const mostRequests = 4;
/** The type of a page request, and the bit of the last one of its group, in the guest's queue (E10). */
const PageRequestBits = { TYPE: 1, LAST: 4 } as const;

/** The nested HWPT of the guest's first stage, and where its page requests come from, if anywhere. */
export interface Forwarding {
  readonly iommufd: number;
  readonly nested: number;
  readonly faultFd?: number;
}

export class VirtualQueue implements QueueServer {
  readonly #vm: Vm;
  readonly #guest: string;
  readonly #to: Forwarding;
  /** Entries of HWPT_INVALIDATE: address, pages, flags. */
  #taken: { readonly address: bigint; readonly pages: bigint; readonly flags: number }[] = [];
  /** Cookies of the requests that the guest has not answered, by group. */
  readonly #asked = new Map<number, number>();
  /** Of the wait that is being carried out. */
  #status = { gpa: 0, value: 0 };

  constructor(vm: Vm, guest: string, to: Forwarding) {
    this.#vm = vm;
    this.#guest = guest;
    this.#to = to;
  }

  /** Serves the guest's queue until that many of its waits are done. */
  serve(waits: number): void {
    const { ram } = this.#vm.host;
    const at = this.#address(registersGpa);
    for (let done = 0; done < waits; ) {
      const head = VirtualVtd.queueHead.load(ram, at);
      this.#vm.waitIdle(VirtualVtd.queueTail, ram, at, Until.DIFFERENT, head);
      this.#inject();
      if (this.#carryOut(head)) done++;
      VirtualVtd.queueHead.store(ram, at, (head + 1) % slots);
    }
  }

  /** Whether it was a wait. */
  #carryOut(slot: number): boolean {
    const { ram } = this.#vm.host;
    const at = this.#address(queueGpa + slot * slotBytes);
    const [first, second, third, fourth] = [peek(ram, at), peek(ram, at + 4), peek(ram, at + 8), peek(ram, at + 12)];
    const type = first & Bits.typeMask;
    if (type === Descriptor.WAIT) {
      this.#status = { gpa: third & ~3, value: second };
      this.#vm.kernel.operations.viommu.finishWait(this);
      return true;
    }
    if (type === Descriptor.PASID_IOTLB) this.#take(first, second, third, fourth);
    else if (type === Descriptor.PAGE_ANSWER) this.#answer(third >>> PageAnswerBits.groupShift, (first >>> PageAnswerBits.codeShift) & PageAnswerBits.codeMask);
    else this.#vm.check(false, `the guest queued a descriptor of type ${type}, which its unit does not have`);
    return false;
  }

  #take(first: number, second: number, third: number, fourth: number): void {
    this.#vm.check((second & pasidMask) === ridPasid, 'the guest invalidates a PASID that it has not set up');
    const isWhole = ((first >>> Bits.granularityShift) & Bits.granularityMask) === PasidIotlbGranularity.PASID;
    const address = (BigInt(fourth >>> 0) << 32n) | BigInt((third & ~4095) >>> 0);
    const pages = isWhole ? everyPage : 1n << BigInt(third & PageBits.orderMask);
    this.#taken.push({ address: isWhole ? 0n : address, pages, flags: (third & PageBits.leafOnly) === 0 ? 0 : LEAF });
  }

  /** Hands the invalidations taken so far to the kernel. */
  forward(): void {
    if (this.#taken.length === 0) return;
    const data = new Uint8Array(this.#taken.length * vtdS1InvalidateBytes);
    const view = new DataView(data.buffer);
    this.#taken.forEach(({ address, pages, flags }, index) => {
      view.setBigUint64(index * vtdS1InvalidateBytes, address, true);
      view.setBigUint64(index * vtdS1InvalidateBytes + 8, pages, true);
      view.setUint32(index * vtdS1InvalidateBytes + 16, flags, true);
    });
    const arg = { hwptId: this.#to.nested, data, dataType: vtdS1InvalidateData, entryLength: vtdS1InvalidateBytes, entryCount: this.#taken.length };
    this.#vm.check(this.#vm.ioctl(this.#to.iommufd, 'IOMMU_HWPT_INVALIDATE', arg) === null, 'an invalidation of the guest was refused');
    this.#taken = [];
  }

  /** Writes the status of the wait that is being carried out. */
  complete(): void {
    WaitStatus.word.store(this.#vm.host.ram, this.#address(this.#status.gpa), this.#status.value);
  }

  /** Puts the page requests that the kernel has for the guest into its queue. */
  #inject(): void {
    const { ram } = this.#vm.host;
    const { faultFd } = this.#to;
    if (faultFd === undefined) return;
    const records = read(this.#vm.kernel, faultFd, mostRequests * recordBytes);
    for (let i = 0; i < records.byteLength / recordBytes; i++) {
      const record = new DataView(records.buffer, records.byteOffset + i * recordBytes, recordBytes);
      const group = record.getUint32(12, true);
      const address = record.getBigUint64(24, true);
      const at = this.#address(registersGpa);
      const tail = VirtualVtd.requestTail.load(ram, at);
      const slot = this.#address(requestsGpa + tail * slotBytes);
      poke(ram, slot, PageRequestBits.TYPE);
      poke(ram, slot + 8, Number(address & 0xfffff000n) | (group << PageAnswerBits.groupShift) | PageRequestBits.LAST | record.getUint32(16, true));
      poke(ram, slot + 12, Number(address >> 32n));
      this.#asked.set(group, record.getUint32(36, true));
      VirtualVtd.requestTail.store(ram, at, (tail + 1) % slots);
    }
  }

  #answer(group: number, code: number): void {
    const cookie = this.#asked.get(group);
    this.#vm.check(cookie !== undefined, `the guest answers group ${group}, which nobody asked for`);
    this.#asked.delete(group);
    const answered = errnoOf(() => write(this.#vm.kernel, this.#to.faultFd!, new Uint8Array(Uint32Array.of(cookie!, code).buffer)));
    // A device that has left the HWPT meanwhile was answered by the kernel.
    this.#vm.check(answered === null || answered === 'EINVAL', `the guest's answer ended with ${answered}`);
  }

  #address(gpa: number): number {
    return guestAddress(this.#vm, this.#guest, gpa);
  }
}
