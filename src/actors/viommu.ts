/**
 * A virtual IOMMU: a thread of the VMM that takes its guest's commands from guest memory, turns them into ioctls on the
 * VMM's iommufd, and answers in guest memory.
 */
import { read, Until } from '#hostmem/atomics';
import { label } from '#hostmem/labels';
import { errnoNumber, type ErrnoName } from '../kernel/errno.ts';
import type { Seat } from './actor.ts';
import { CommandRing, commandAt, GuestCommand, GuestOp, guestPresent, guestTableEntries, guestTableGpa } from './command-ring.ts';
import { guestAddress } from './guest-memory.ts';
import { MockQueue, type MockForwarding } from './virtual-mock.ts';
import { SmmuQueue, type SmmuForwarding } from './virtual-smmu.ts';
import { VtdQueue, type Forwarding } from './virtual-queue.ts';
import { Vm } from './vm.ts';

const guestTable = label('GuestTable.entry');

export class Viommu extends Vm {
  readonly #guest: string;
  /** Where the VMM has mapped guest memory. */
  readonly #memory: bigint;
  #vtd: VtdQueue | null = null;

  constructor(seat: Seat, guest: string) {
    super(seat, guest);
    this.#guest = guest;
    this.#memory = BigInt(this.named(`${guest}.memory`));
  }

  /** Serves `count` commands of the guest on an IOAS of the VMM's iommufd. */
  serve(iommufd: number, ioasId: number, count: number): void {
    const ram = this.host.ram;
    const ring = guestAddress(this, this.#guest, 0);
    for (let i = 0; i < count; i++) {
      const head = CommandRing.head.load(ram, ring);
      this.waitIdle(CommandRing.tail, ram, ring, Until.DIFFERENT, head);
      const command = commandAt(ring, head);
      const errno = this.#carryOut(iommufd, ioasId, command);
      GuestCommand.status.poke(ram, command, errno === null ? 1 : 1 + errnoNumber(errno));
      CommandRing.head.store(ram, ring, head + 1);
    }
  }

  /** Serves the invalidation queue of the guest's virtual VT-d unit, until `waits` of its waits are done. */
  serveVtd(to: Forwarding, waits: number): void {
    const queue = this.#vtd ?? new VtdQueue(this, this.#guest, to);
    // In a free run the guest may answer in one round what was asked in the round before.
    if (this.kernel.memory.control === null) this.#vtd = queue;
    queue.serve(waits);
  }

  /** The same of a guest's virtual unit of the mock IOMMU. */
  serveMock(to: MockForwarding, waits: number): void {
    new MockQueue(this, this.#guest, to).serve(waits);
  }

  /** The same of a guest's virtual SMMUv3. */
  serveSmmu(to: SmmuForwarding, waits: number): void {
    new SmmuQueue(this, this.#guest, to).serve(waits);
  }

  #carryOut(iommufd: number, ioasId: number, command: number): ErrnoName | null {
    const ram = this.host.ram;
    const op = GuestCommand.op.peek(ram, command);
    const iova = (GuestCommand.iovaHigh.peek(ram, command) >>> 0) * 0x1_0000_0000 + (GuestCommand.iovaLow.peek(ram, command) >>> 0);
    const lengthBytes = GuestCommand.pages.peek(ram, command) * 4096;
    if (op === GuestOp.MAP) {
      return this.map(iommufd, ioasId, iova, this.#memory + BigInt(GuestCommand.gpa.peek(ram, command) >>> 0), lengthBytes);
    }
    if (op === GuestOp.UNMAP) return this.unmap(iommufd, ioasId, iova, lengthBytes);
    if (op === GuestOp.INVALIDATE) return this.#shadow(iommufd, ioasId, iova);
    return 'EOPNOTSUPP';
  }

  /** Makes the host's mapping of one page what the guest's table says now. */
  #shadow(iommufd: number, ioasId: number, iova: number): ErrnoName | null {
    const gpa = guestTableGpa + ((iova / 4096) % guestTableEntries) * 4;
    const entry = read(this.host.ram, guestAddress(this, this.#guest, gpa), guestTable);
    const gone = this.unmap(iommufd, ioasId, iova, 4096);
    if (gone !== null && gone !== 'ENOENT') return gone;
    if ((entry & guestPresent) === 0) return null;
    return this.map(iommufd, ioasId, iova, this.#memory + BigInt((entry & ~0xfff) >>> 0), 4096);
  }
}
