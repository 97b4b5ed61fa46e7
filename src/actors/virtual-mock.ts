/**
 * A virtual unit of the mock IOMMU: the guest invalidates words of its devices' pretended caches, by the numbers that its VM gives the devices (the
 * vdevices), and is told of their events. Its queues are those of `virtual-vtd.ts`, its commands the selftest's.
 */
import { peek } from '#hostmem/atomics';
import { viommuEntryBytes, viommuType } from '../drivers/mock/viommu.ts';
import { read } from '../kernel/syscalls.ts';
import { GuestDriver } from './guest-iommu.ts';
import { VirtualQueue } from './virtual-queue.ts';
import type { Vm } from './vm.ts';

/** Types of commands, beside the wait, and of what the guest is told. */
const MockCommand = { INVALIDATE: 1 } as const;
const MockRequest = { EVENT: 2 } as const;
/** `{ flags, sequence }` and the device's number; and as many as are read at once. */
const eventBytes = 12;
const mostEvents = 4;

export class MockGuestIommu extends GuestDriver {
  /** On return the device has nothing in that word of its cache. */
  invalidate(virtId: number, word: number): void {
    this.commands.push(MockCommand.INVALIDATE, virtId, word, 0);
    this.ring();
  }

  /** The number of the device whose event is the oldest; null when there is none. */
  takeEvent(): number | null {
    const record = this.requests.oldest();
    if (record === 0) return null;
    const virtId = peek(this.actor.host.ram, record + 4);
    this.requests.advance();
    return virtId;
  }
}

/** A vIOMMU object, and the descriptor of its event queue. */
export interface MockForwarding {
  readonly iommufd: number;
  readonly viommu: number;
  readonly eventFd: number;
}

export class MockQueue extends VirtualQueue {
  readonly #eventFd: number;

  constructor(vm: Vm, guest: string, { iommufd, viommu, eventFd }: MockForwarding) {
    super(vm, guest, iommufd, { target: viommu, dataType: viommuType, entryBytes: viommuEntryBytes });
    this.#eventFd = eventFd;
  }

  protected override carryOut(at: number): void {
    const { ram } = this.vm.host;
    this.vm.check(peek(ram, at) === MockCommand.INVALIDATE, `the guest queued a command of type ${peek(ram, at)}, which its unit does not have`);
    this.take((entry) => {
      entry.setUint32(4, peek(ram, at + 4), true);
      entry.setUint32(8, peek(ram, at + 8), true);
    });
  }

  /** A record without a device says that events were lost: the guest is told of those that there are. */
  protected override inject(): void {
    const events = read(this.vm.kernel, this.#eventFd, mostEvents * eventBytes);
    for (let at = 0; at + eventBytes <= events.byteLength; at += eventBytes) {
      const record = new DataView(events.buffer, events.byteOffset + at, eventBytes);
      this.requests.push(MockRequest.EVENT, record.getUint32(8, true), record.getUint32(4, true), 0);
    }
  }
}
