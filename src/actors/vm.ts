/** A thread of a VMM or of its guest: what it asks of iommufd and VFIO, and how it drives its device and its virtual IOMMU. */
import { read, Until, write } from '#hostmem/atomics';
import { label } from '#hostmem/labels';
import { pageBytes } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { viommuType } from '../drivers/mock/viommu.ts';
import { firstStageData, vtdS1Bytes, vtdS1Data } from '../drivers/vtd/nested.ts';
import { EduOp, EduRegisters } from '../hardware/edu.ts';
import { noPasid } from '../hardware/vtd/scalable-requester.ts';
import type { Argument } from '../kernel/argument.ts';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import { MapFlag } from '../kernel/ioas.ts';
import { handOnGuestEvents } from '../kernel/guest-events.ts';
import { handOnRequests } from '../kernel/iopf.ts';
import { bindDriver, unbindDriver } from '../kernel/kernel-driver.ts';
import { addVfioFile, openDriver, removeVfioFile } from '../kernel/kvm-vfio.ts';
import { allowPasid, disallowPasid, submitWork } from '../kernel/mdev.ts';
import { revokeByDesign } from '../kernel/pasid-authority.ts';
import { bindProcess, ownPasid } from '../kernel/process-pasid.ts';
import { read as readFile, write as writeFile } from '../kernel/syscalls.ts';
import { VfioFlag, vfioFileOf } from '../kernel/vfio.ts';
import { highOf, lowOf } from './actor.ts';
import { CommandRing, commandAt, GuestCommand, GuestOp, guestPresent, guestTableEntries, guestTableGpa } from './command-ring.ts';
import { guestAddress } from './guest-memory.ts';
import { UserThread } from './user-thread.ts';

const guestWord = label('guest memory');
/** Of a record of a page request: its size, and where its cookie is. */
const requestBytes = 40;
const cookieOffset = 36;

export class Vm extends UserThread {
  /** The id of a new IOAS, or the errno; and so on below, of each kind. */
  ioas(iommufd: number): number | ErrnoName {
    const arg = { flags: 0, outIoasId: 0 };
    return this.ioctl(iommufd, 'IOMMU_IOAS_ALLOC', arg) ?? arg.outIoasId;
  }
  /** An HWPT on an IOAS; `flags` are `HwptFlag`. */
  hwpt(iommufd: number, deviceId: number, ioasId: number, flags: number = 0): number | ErrnoName {
    const arg = { flags, devId: deviceId, ptId: ioasId, outHwptId: 0 };
    return this.ioctl(iommufd, 'IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  }
  /** An HWPT of VT-d for the first stage at `rootGpa` of a guest, on a nest parent. */
  nestedHwpt(iommufd: number, deviceId: number, parentId: number, rootGpa: number): number | ErrnoName {
    const arg = { flags: 0, devId: deviceId, ptId: parentId, dataType: vtdS1Data, dataLength: vtdS1Bytes, data: firstStageData(rootGpa), outHwptId: 0 };
    return this.ioctl(iommufd, 'IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  }
  /** A vIOMMU of the mock IOMMU. */
  viommu(iommufd: number, deviceId: number, parentId: number): number | ErrnoName {
    const arg = { flags: 0, type: viommuType, devId: deviceId, hwptId: parentId, outViommuId: 0 };
    return this.ioctl(iommufd, 'IOMMU_VIOMMU_ALLOC', arg) ?? arg.outViommuId;
  }
  /** The device as its VM numbers it. */
  vdevice(iommufd: number, viommuId: number, deviceId: number, virtId: number): number | ErrnoName {
    const arg = { viommuId, devId: deviceId, virtId: BigInt(virtId), outVdeviceId: 0 };
    return this.ioctl(iommufd, 'IOMMU_VDEVICE_ALLOC', arg) ?? arg.outVdeviceId;
  }
  /** A mock device, attached to an IOAS; its id is that of the selftest's object, whose destruction unbinds it. */
  mockDevice(iommufd: number, ioasId: number): number | ErrnoName {
    const arg = { id: ioasId, outStdevId: 0, outHwptId: 0, outIdevId: 0 };
    return this.testIoctl(iommufd, 'IOMMU_TEST_MOCK_DOMAIN', arg) ?? arg.outStdevId;
  }
  /** IOMMU_FAULT_QUEUE_ALLOC; the descriptor is lost. With `argument`, the answer cannot be handed over. */
  faultQueue(iommufd: number, argument?: Argument): number | ErrnoName {
    const arg = { flags: 0, outFaultId: 0, outFaultFd: 0, ...(argument === undefined ? {} : { argument }) };
    return this.ioctl(iommufd, 'IOMMU_FAULT_QUEUE_ALLOC', arg) ?? arg.outFaultId;
  }
  destroy(iommufd: number, id: number): ErrnoName | null {
    return this.ioctl(iommufd, 'IOMMU_DESTROY', { id });
  }
  /** IOMMU_IOAS_IOVA_RANGES, whatever they are: a call that holds the IOAS for its length. */
  ranges(iommufd: number, ioasId: number): ErrnoName | null {
    return this.ioctl(iommufd, 'IOMMU_IOAS_IOVA_RANGES', { ioasId, numIovas: 8, ranges: [], outIovaAlignment: 0n });
  }

  /** Opens `/dev/vfio/devices/vfio<n>` and binds it; the descriptor, or the errno of the bind. */
  bind(vfio: number, iommufd: number): number | ErrnoName {
    const fd = this.open(`/dev/vfio/devices/vfio${vfio}`);
    const errno = this.ioctl(fd, 'VFIO_DEVICE_BIND_IOMMUFD', { argsz: 24, flags: 0, iommufd, outDevid: 0 });
    if (errno !== null) this.close(fd);
    return errno ?? fd;
  }

  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT: attaches, or replaces what is attached. */
  attach(vfio: number, ptId: number): ErrnoName | null {
    const errno = this.ioctl(vfio, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId });
    if (errno === null) this.counters.add('replaces', 1);
    return errno;
  }
  /** As `attach`, with an argument on a page that the kernel can read and not write: it cannot say which HWPT is in force. */
  attachReadOnly(vfio: number, ptId: number): ErrnoName | null {
    return this.ioctl(vfio, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId, argument: 'read-only' });
  }
  detach(vfio: number): ErrnoName | null {
    return this.ioctl(vfio, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 });
  }
  /** An attach of a PASID's slot, not of the RID's. */
  attachPasid(vfio: number, pasid: number, ptId: number): ErrnoName | null {
    return this.ioctl(vfio, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: VfioFlag.PASID, pasid, ptId });
  }

  detachPasid(vfio: number, pasid: number): ErrnoName | null {
    return this.ioctl(vfio, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: VfioFlag.PASID, pasid });
  }

  /** The thread of the interrupt of page requests: hands on what the unit before a function has. */
  handOn(ofFunction: string): void {
    handOnRequests(this.kernel, this.named(ofFunction) as Ref<'PciFunction'>);
  }
  /** The same of what a unit reports of guests' devices. */
  handOnEvents(ofFunction: string): void {
    handOnGuestEvents(this.kernel, this.named(ofFunction) as Ref<'PciFunction'>);
  }
  /** Reads up to four page requests; the cookies to answer them by. */
  readRequests(faultFd: number): number[] {
    const records = readFile(this.kernel, faultFd, 4 * requestBytes);
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    return Array.from({ length: records.byteLength / requestBytes }, (_, index) => view.getUint32(index * requestBytes + cookieOffset, true));
  }
  /** Answers a request with success: null, or the errno; EINVAL for one that was answered for the device meanwhile. */
  answerRequest(faultFd: number, cookie: number): ErrnoName | null {
    return errnoOf(() => writeFile(this.kernel, faultFd, new Uint8Array(Uint32Array.of(cookie, 0).buffer)));
  }

  /** Answers all that can be read. */
  answerAll(faultFd: number): void {
    for (const cookie of this.readRequests(faultFd)) this.expect('an answer', this.answerRequest(faultFd, cookie), null, 'EINVAL');
  }

  /** KVM_DEV_VFIO_FILE_ADD and its counterpart: a device is for a VM; and its driver is opened. */
  handToVm(kvm: Ref<'Kvm'>, vfio: number): void {
    addVfioFile(this.kernel, kvm, vfioFileOf(this.kernel, vfio));
  }
  takeFromVm(kvm: Ref<'Kvm'>, vfio: number): void {
    removeVfioFile(this.kernel, kvm, vfioFileOf(this.kernel, vfio));
  }
  openForVm(vfio: number): void {
    openDriver(this.kernel, vfioFileOf(this.kernel, vfio));
  }

  /** A PASID for a device, by the design in force: the one that is wanted, where the user picks. Or the errno. */
  requestPasid(vfio: number, wanted: number): number | ErrnoName {
    let pasid = 0;
    return errnoOf(() => (pasid = this.kernel.operations.pasid.request(this.kernel, vfioFileOf(this.kernel, vfio), wanted))) ?? pasid;
  }
  authorise(vfio: number, pasid: number, ptId: number): ErrnoName | null {
    return errnoOf(() => this.kernel.operations.pasid.authorise(this.kernel, vfioFileOf(this.kernel, vfio), pasid, ptId));
  }
  revoke(vfio: number, pasid: number): ErrnoName | null {
    return errnoOf(() => revokeByDesign(this.kernel, vfioFileOf(this.kernel, vfio), pasid));
  }

  /** Lets a device reach an HWPT under this process's PASID: the number, or the errno. */
  bindProcess(vfio: number, ptId: number): number | ErrnoName {
    let pasid = 0;
    return errnoOf(() => (pasid = bindProcess(this.kernel, vfioFileOf(this.kernel, vfio), ptId))) ?? pasid;
  }
  unbindProcess(vfio: number): ErrnoName | null {
    return errnoOf(() => this.kernel.operations.pasid.unbind(this.kernel, vfioFileOf(this.kernel, vfio)));
  }

  /** IOMMU_HWPT_SET_DIRTY_TRACKING. */
  trackDirty(iommufd: number, hwptId: number, on: boolean): ErrnoName | null {
    return this.ioctl(iommufd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags: on ? 1 : 0, hwptId });
  }
  /** IOMMU_HWPT_GET_DIRTY_BITMAP that clears; a bit a page, the lowest of a byte first. Of the bitmap, `writableBytes` can be written. */
  takeDirty(iommufd: number, hwptId: number, iova: number, pages: number, writableBytes?: number): { errno: ErrnoName | null; bitmap: Uint8Array } {
    const bitmap = new Uint8Array(Math.ceil(pages / 8));
    const arg = { hwptId, flags: 0, iova: BigInt(iova), length: BigInt(pages) * 4096n, pageSize: 4096n, bitmap };
    const errno = this.ioctl(iommufd, 'IOMMU_HWPT_GET_DIRTY_BITMAP', writableBytes === undefined ? arg : { ...arg, writableBytes });
    return { errno, bitmap };
  }
  /** IOMMU_TEST_DIRTY: a mock device writes to a page. */
  mockWrite(iommufd: number, hwptId: number, iova: number): ErrnoName | null {
    const arg = { id: hwptId, flags: 0, iova: BigInt(iova), length: 4096n, pageSize: 4096n, bitmap: Uint8Array.of(1), outNrDirty: 0 };
    const errno = this.testIoctl(iommufd, 'IOMMU_TEST_DIRTY', arg);
    if (errno === null) this.counters.add('translations', 1);
    if (errno === null) this.counters.add('dma', 1);
    return errno;
  }

  /** IOMMU_IOAS_MAP at a fixed iova, readable and writeable. */
  map(iommufd: number, ioasId: number, iova: number, userVa: bigint, lengthBytes: number): ErrnoName | null {
    const flags = MapFlag.FIXED_IOVA | MapFlag.WRITEABLE | MapFlag.READABLE;
    const arg = { flags, ioasId, userVa, length: BigInt(lengthBytes), iova: BigInt(iova) };
    const errno = this.ioctl(iommufd, 'IOMMU_IOAS_MAP', arg);
    if (errno === null) this.counters.add('maps', 1);
    return errno;
  }
  /** IOMMU_IOAS_MAP where the kernel wants: the iova, or the errno. */
  mapAnywhere(iommufd: number, ioasId: number, userVa: bigint, lengthBytes: number): number | ErrnoName {
    const arg = { flags: MapFlag.WRITEABLE | MapFlag.READABLE, ioasId, userVa, length: BigInt(lengthBytes), iova: 0n };
    const errno = this.ioctl(iommufd, 'IOMMU_IOAS_MAP', arg);
    if (errno === null) this.counters.add('maps', 1);
    return errno ?? Number(arg.iova);
  }
  unmap(iommufd: number, ioasId: number, iova: number, lengthBytes: number): ErrnoName | null {
    const errno = this.ioctl(iommufd, 'IOMMU_IOAS_UNMAP', { ioasId, iova: BigInt(iova), length: BigInt(lengthBytes) });
    if (errno === null) this.counters.add('unmaps', 1);
    return errno;
  }

  /** An access pins what an IOAS maps in a range: the number to let go of it by, or the errno. */
  pin(iommufd: number, access: number, iova: number, lengthBytes: number): number | ErrnoName {
    const arg = { fd: access, flags: 0, iova: BigInt(iova), length: BigInt(lengthBytes), userVa: 0n, outAccessPagesId: 0 };
    return this.testIoctl(iommufd, 'IOMMU_TEST_ACCESS_PAGES', arg) ?? arg.outAccessPagesId;
  }
  /** ENOENT when an unmap, or a move of the access, has taken it away. */
  unpin(iommufd: number, access: number, pinned: number): ErrnoName | null {
    return this.testIoctl(iommufd, 'IOMMU_TEST_DESTROY_ACCESS_PAGES', { fd: access, accessPagesId: pinned });
  }
  moveAccess(iommufd: number, access: number, ioasId: number): ErrnoName | null {
    return this.testIoctl(iommufd, 'IOMMU_TEST_ACCESS_REPLACE_IOAS', { fd: access, ioasId });
  }

  /** A hardware queue of a mock vIOMMU, in a page of the nest parent's IOAS: its id. */
  hwQueue(iommufd: number, viommuId: number, iova: number): number | ErrnoName {
    const arg = { flags: 0, viommuId, type: viommuType, index: 0, nestingParentIova: BigInt(iova), length: BigInt(pageBytes), outHwQueueId: 0 };
    return this.ioctl(iommufd, 'IOMMU_HW_QUEUE_ALLOC', arg) ?? arg.outHwQueueId;
  }

  /** The host's own part: a driver of the kernel binds to a function and does DMA through its default domain, or leaves it. */
  bindDriver(device: string): ErrnoName | null {
    return errnoOf(() => bindDriver(this.kernel, this.named(device) as Ref<'PciFunction'>));
  }
  unbindDriver(device: string): void {
    unbindDriver(this.kernel, this.named(device) as Ref<'PciFunction'>);
  }

  /** The driver's part: gives a device a DMA command, whose requests carry a PASID if one is given, and waits for its end. 0, or the unit's fault reason. */
  dma(device: string, op: 'read' | 'write', iova: number, lengthBytes: number, pasid: number = noPasid): number {
    return this.#give(this.named(`${device}.registers`) as Ref<'EduRegisters'>, op, iova, lengthBytes, pasid);
  }

  #give(registers: Ref<'EduRegisters'>, op: 'read' | 'write', iova: number, lengthBytes: number, pasid: number): number {
    const memory = this.host.kernel;
    EduRegisters.op.poke(memory, registers, op === 'read' ? EduOp.READ : EduOp.WRITE);
    EduRegisters.iova.poke(memory, registers, highOf(iova), lowOf(iova));
    EduRegisters.lengthBytes.poke(memory, registers, lengthBytes);
    EduRegisters.pasid.poke(memory, registers, pasid);
    const given = EduRegisters.given.add(memory, registers, 1) + 1;
    this.waitIdle(EduRegisters.finished, memory, registers, Until.EQUAL, given);
    return EduRegisters.status.peek(memory, registers);
  }

  /** The same through a share of a device, with a PASID that its driver lets through, or the errno. */
  submit(share: string, op: 'read' | 'write', iova: number, lengthBytes: number, pasid: number): number | ErrnoName {
    const portal = this.named(`${share}.portal`) as Ref<'EduRegisters'>;
    return this.offer(share, pasid) ?? this.#give(portal, op, iova, lengthBytes, pasid);
  }
  /** Whether the driver would take such work: null, or EPERM. */
  offer(share: string, pasid: number): ErrnoName | null {
    return errnoOf(() => submitWork(this.kernel, this.named(share) as Ref<'Mdev'>, pasid));
  }
  /** Lets a share reach an HWPT under a PASID; and takes it back. */
  allow(share: string, pasid: number, iommufd: number, hwptId: number): ErrnoName | null {
    return errnoOf(() => allowPasid(this.kernel, this.named(share) as Ref<'Mdev'>, pasid, iommufd, hwptId));
  }
  disallow(share: string, pasid: number): ErrnoName | null {
    return errnoOf(() => disallowPasid(this.kernel, this.named(share) as Ref<'Mdev'>, pasid));
  }

  /** ENQCMD: the same from user mode, in the name of this process. EINVAL where it has no PASID. */
  enqcmd(device: string, op: 'read' | 'write', iova: number, lengthBytes: number): number | ErrnoName {
    const pasid = ownPasid(this.kernel);
    return pasid === 0 ? 'EINVAL' : this.dma(device, op, iova, lengthBytes, pasid);
  }

  /** The guest's part: maps `pages` of guest memory at an iova of its virtual IOMMU. True on success. */
  guestMap(guest: string, iova: number, gpa: number, pages: number): boolean {
    return this.#command(guest, GuestOp.MAP, iova, gpa, pages);
  }
  guestUnmap(guest: string, iova: number, pages: number): boolean {
    return this.#command(guest, GuestOp.UNMAP, iova, 0, pages);
  }

  /** Writes the guest's own table entry for a page (`null`: not present), then tells the vIOMMU to look again. */
  guestRemap(guest: string, iova: number, gpa: number | null): boolean {
    const entry = this.#guestAddress(guest, guestTableGpa + ((iova / 4096) % guestTableEntries) * 4);
    write(this.host.ram, entry, gpa === null ? 0 : gpa | guestPresent, guestWord);
    return this.#command(guest, GuestOp.INVALIDATE, iova, 0, 1);
  }

  /** A guest's load and store of a word at a guest physical address. */
  guestLoad(guest: string, gpa: number): number {
    return read(this.host.ram, this.#guestAddress(guest, gpa), guestWord);
  }
  guestStore(guest: string, gpa: number, value: number): void {
    write(this.host.ram, this.#guestAddress(guest, gpa), value, guestWord);
  }

  #guestAddress(guest: string, gpa: number): number {
    return guestAddress(this, guest, gpa);
  }

  #command(guest: string, op: number, iova: number, gpa: number, pages: number): boolean {
    const ram = this.host.ram;
    const ring = this.#guestAddress(guest, 0);
    const tail = CommandRing.tail.load(ram, ring);
    const command = commandAt(ring, tail);
    GuestCommand.op.poke(ram, command, op);
    GuestCommand.iovaHigh.poke(ram, command, highOf(iova));
    GuestCommand.iovaLow.poke(ram, command, lowOf(iova));
    GuestCommand.gpa.poke(ram, command, gpa);
    GuestCommand.pages.poke(ram, command, pages);
    GuestCommand.status.poke(ram, command, 0);
    CommandRing.tail.store(ram, ring, tail + 1);
    this.waitIdle(CommandRing.head, ram, ring, Until.EQUAL, tail + 1);
    return GuestCommand.status.peek(ram, command) === 1;
  }
}
