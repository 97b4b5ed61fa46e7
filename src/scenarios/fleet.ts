/**
 * Many VMs on one host: each has a guest, a device and a vIOMMU on threads of their own, every fourth a device of two
 * functions in one group. All map, unmap, invalidate, replace and do DMA at once, through one IOMMU unit; none may ever
 * reach another's frames, nor a frame that has been freed.
 */
import { guestFreeGpa } from '../actors/command-ring.ts';
import type { Device } from '../actors/device.ts';
import type { Vm } from '../actors/vm.ts';
import { scenario, type Actors } from '../scenario.ts';

const page = 4096;
const lineBytes = 64;
const guestPages = 8;
/** IOVAs: what the guest maps, what it keeps in its own table, a buffer of the VMM that comes and goes, one that stays. */
const mapped = 0x1000_0000;
const shadowed = 0x2000_0000;
const passing = 0x3000_0000;
const standing = 0x4000_0000;
const gpaA = guestFreeGpa;
const gpaB = guestFreeGpa + page;
const mark = 0x5555;

/** One VM as its actors find it on the stage. */
interface Member {
  readonly guest: string;
  readonly device: string;
  readonly tag: number;
  readonly iommufd: number;
  readonly ioas: number;
  readonly spare: number;
  readonly fds: readonly number[];
}

const tagOf = (index: number): number => 0x7a6_0000 + index;

export default scenario({
  title: 'many VMs, each with a device and a vIOMMU of its own, share one host and never each other\'s frames',
  seed: null,
  vms: 4,
  variants: ['invalidate-after-unpin'],
  holds: ['D1', 'D4', 'D6', 'D7', 'D10', 'G1', 'G2', 'G5', 'O1', 'D3'],

  world(w) {
    const members: Member[] = Array.from({ length: w.vms }, (_, index) => {
      const guest = `vm${index}`;
      const device = `dev${index}`;
      const group = w.group(...(index % 4 === 3 ? [device, `${device}b`] : [device]));
      const process = w.guest(guest, guestPages);
      const iommufd = process.iommufd();
      const ioas = process.ioas(iommufd);
      const spare = process.ioas(iommufd);
      for (const one of [ioas, spare]) process.map(iommufd, one, standing, process.memory(page, tagOf(index)), page);
      const fds = group.vfio.map((vfio) => process.bind(vfio, iommufd));
      for (const fd of fds) process.attach(fd, ioas);
      return { guest, device, tag: tagOf(index), iommufd, ioas, spare, fds };
    });
    return { members };
  },

  actors({ vm, device, viommu }, { vms }) {
    const actors: Record<string, Actors<{ members: Member[] }>[string]> = {};
    for (let index = 0; index < vms; index++) {
      actors[`vm${index}`] = vm(`vm${index}`, (thread, { members }) => live(thread, members[index]!));
      actors[`dev${index}`] = device(`dev${index}`, (dev, { members }) => serve(dev, members[index]!));
      actors[`viommu${index}`] = viommu(`vm${index}`, (virtual, { members }) => virtual.serve(members[index]!.iommufd, members[index]!.ioas, 5));
    }
    return actors;
  },
});

/** A round of a VM: its guest's driver, then its VMM. */
function live(vm: Vm, { guest, device, iommufd, ioas, spare, fds }: Member): void {
  vm.check(vm.guestMap(guest, mapped, gpaA, 1), 'the vIOMMU refused a map');
  write(vm, guest, device, mapped, gpaA);
  vm.check(vm.guestRemap(guest, shadowed, gpaA), 'the vIOMMU refused an invalidation');
  write(vm, guest, device, shadowed, gpaA);
  vm.check(vm.guestRemap(guest, shadowed, gpaB), 'the vIOMMU refused an invalidation');
  write(vm, guest, device, shadowed, gpaB);
  vm.check(vm.guestRemap(guest, shadowed, null), 'the vIOMMU refused an invalidation');
  passBuffer(vm, device, iommufd, ioas);
  vm.check(vm.guestUnmap(guest, mapped, 1), 'the vIOMMU refused an unmap');
  vm.check(vm.dma(device, 'write', mapped, lineBytes) !== 0, 'a DMA succeeded where nothing is mapped any more');
  for (const target of [spare, ioas]) for (const fd of fds) vm.expect(`a replace to IOAS ${target}`, vm.attach(fd, target));
}

/** The device writes where the guest says, and the guest looks. */
function write(vm: Vm, guest: string, device: string, iova: number, gpa: number): void {
  vm.guestStore(guest, gpa, 0);
  vm.check(vm.dma(device, 'write', iova, lineBytes) === 0, `a DMA to 0x${iova.toString(16)} faulted`);
  vm.check(vm.guestLoad(guest, gpa) === mark, 'the device wrote somewhere else');
}

/** Memory of the VMM that only the pin keeps while the device may still be reading it: unmapping frees it. */
function passBuffer(vm: Vm, device: string, iommufd: number, ioas: number): void {
  const va = vm.mmap(page);
  vm.expect('a map', vm.map(iommufd, ioas, passing, va, page));
  vm.munmap(va, page);
  vm.check(vm.dma(device, 'read', passing, lineBytes) === 0, 'a DMA to pinned memory faulted');
  vm.expect('an unmap', vm.unmap(iommufd, ioas, passing, page));
}

/** Serves its driver; beside that, reads of its own accord what stays and what passes. */
function serve(dev: Device, { tag }: Member): void {
  for (let command = 0; command < 5; command++) {
    dev.setWord(0, mark);
    dev.serve(1);
    dev.read(passing, lineBytes);
    dev.readTag(standing, [tag]);
  }
}
