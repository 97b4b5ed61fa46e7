import { expect, test } from 'vitest';
import type { Frame } from '#hostmem/memory';
import { LeavesCleared } from '#src/drivers/events';
import { dma, dmaOwnerShift, farPage, nestedDma, pasidDma } from '#src/hardware/events';
import { nestedName } from '#src/hardware/nested-line';
import { errnoNumber } from '#src/kernel/errno';
import { AreaPlaced, DmaMapped, DmaUnmapped, DomainJoined, DomainLeft, GuestMaps, GuestUnmapped, UnmapReturned } from '#src/kernel/events';
import { View } from '#src/check/view';
import { court } from './histories.ts';

const root = 0x100;

async function setUp() {
  const here = await court('D1');
  const memory = here.vmm.world.host.kernel;
  DomainJoined.emit(memory, 1, 1, root);
  return {
    here,
    map: (page: number, pages = 1) => AreaPlaced.emit(memory, 1, 0, page << 12, pages, 1),
    unmapped: (page: number, pages = 1, errno = 0, ioas = 1) => UnmapReturned.emit(memory, ioas, 0, page << 12, pages, errno, 1),
    reach: (page: number, frame = 5, through = root) => dma.emit(memory, here.rid('A'), 0, page << 12, frame, through, 1),
    reachByPasid: (page: number, through = root) => pasidDma.emit(memory, here.rid('A'), 9 | (16 << dmaOwnerShift), page, 5, through, 1),
    left: () => DomainLeft.emit(memory, 1, 1, root),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['a DMA through what is mapped, and a fault through what is not', ({ map, reach, unmapped }) => {
    map(3);
    reach(3);
    unmapped(3);
    reach(3, 0);
  }],
  ['a later mapping has begun', ({ unmapped, map, reach }) => {
    unmapped(3, 4);
    map(4);
    reach(4);
  }],
  ['the unmap failed', ({ unmapped, reach }) => {
    unmapped(3, 1, errnoNumber('EBUSY'));
    reach(3);
  }],
  ['another IOAS was unmapped, or the DMA went through another domain', ({ unmapped, reach }) => {
    unmapped(3, 1, 0, 2);
    reach(3);
    unmapped(3);
    reach(3, 5, 0x200);
  }],
  ['a DMA with a PASID goes through a later mapping, through another domain, or where its page has no room in the event', ({ unmapped, map, reachByPasid }) => {
    unmapped(3, 4);
    unmapped(0xffffffff);
    map(4);
    reachByPasid(4);
    reachByPasid(3, 0x200);
    reachByPasid(farPage);
  }],
  ['the domain has left the IOAS', ({ unmapped, left, reach }) => {
    unmapped(3);
    left();
    reach(3);
  }],
])('holds: %s', async (_, story) => {
  const all = await setUp();
  story(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, (all: All) => void]>([
  ['a DMA completes through the page', ({ map, unmapped, reach }) => {
    map(3);
    unmapped(3);
    reach(3);
  }],
  ['through the last page of a range, its neighbour mapped again', ({ unmapped, map, reach }) => {
    unmapped(3, 4);
    map(5);
    reach(6);
  }],
  ['a DMA with a PASID completes through the page', ({ map, unmapped, reachByPasid }) => {
    map(3);
    unmapped(3);
    reachByPasid(3);
  }],
])('breaks: after the unmap returned, %s', async (_, story) => {
  const all = await setUp();
  story(all);
  expect(all.here.verdict()?.message).toMatch(/^a DMA of function 05\.0( with PASID 9)? completed through iova 0x[36]000 into frame 0x5 after its unmap/);
});

/** A DMA of a guest's device: through the IOVA 0x7000 of the guest's first stage, whose root is its page 6, to its page 3. */
async function setUpGuest() {
  const all = await setUp();
  const memory = all.here.vmm.world.host.kernel;
  const name = nestedName(6, root as Frame);
  const guest = { process: 1, first: 6, page: 7 };
  return {
    ...all,
    both: () => {
      dma.emit(memory, all.here.rid('A'), 0, 7 << 12, 5, name, 1);
      nestedDma.emit(memory, all.here.rid('A'), 0, 3 << 12, 5, root, 1);
    },
    guestMaps: (over: Partial<typeof guest> = {}) => {
      const { process, first, page } = { ...guest, ...over };
      GuestMaps.emit(memory, process, first, 0, page << 12, 1);
    },
    guestUnmapped: (over: Partial<typeof guest> = {}) => {
      const { process, first, page } = { ...guest, ...over };
      GuestUnmapped.emit(memory, process, first, 0, page << 12, 1);
    },
  };
}
type Guest = Awaited<ReturnType<typeof setUpGuest>>;

test.each<[string, (all: Guest) => void]>([
  ['addresses of the guest and of its VMM are told apart', ({ unmapped, guestUnmapped, both }) => {
    unmapped(7);
    guestUnmapped({ page: 3 });
    both();
  }],
  ['another guest, or another first stage of this one, was unmapped', ({ guestUnmapped, both }) => {
    guestUnmapped({ process: 2 });
    guestUnmapped({ first: 8 });
    both();
  }],
  ['the guest has begun to map the page again', ({ guestUnmapped, guestMaps, both }) => {
    guestUnmapped();
    guestMaps();
    both();
  }],
])('holds through two stages: %s', async (_, story) => {
  const all = await setUpGuest();
  story(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, string, (all: Guest) => void]>([
  ['the guest', 'iova 0x7000', ({ guestUnmapped }) => guestUnmapped()],
  ['its VMM', 'guest address 0x3000', ({ unmapped }) => unmapped(3)],
])('breaks through two stages: %s had unmapped the page', async (_, where, story) => {
  const all = await setUpGuest();
  all.both();
  expect(all.here.verdict()).toBeNull();
  story(all);
  all.both();
  expect(all.here.verdict()?.message).toBe(`a DMA of function 05.0 completed through ${where} into frame 0x5 after its unmap had returned`);
});

test('holds: a place that the kernel chose was unmapped before', async () => {
  const here = await court('D1');
  const { vmm } = here;
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  vmm.attach(vmm.process.bind(0, fd), ioas);
  const memory = vmm.world.host.kernel;
  const dmaThrough = (page: number): void => {
    const through = [...new View(vmm.world.host.buffers).beginning.ioasOfRoot.keys()][0]!;
    dma.emit(memory, here.rid('A'), 0, page << 12, 5, through, 1);
  };
  const map = { flags: 6, ioasId: ioas, userVa: vmm.process.memory(4096), length: 4096n, iova: 0n };
  const { ioctl } = await import('#src/kernel/syscalls');
  ioctl(vmm.world.kernel, fd, 'IOMMU_IOAS_MAP', map);
  const chosen = map.iova;
  ioctl(vmm.world.kernel, fd, 'IOMMU_IOAS_UNMAP', { ioasId: ioas, iova: chosen, length: 4096n });
  map.iova = 0n;
  ioctl(vmm.world.kernel, fd, 'IOMMU_IOAS_MAP', map);
  expect(map.iova).toBe(chosen);
  dmaThrough(Number(chosen >> 12n));
  expect(here.verdict()).toBeNull();
});

/** The DMA API of drivers of the kernel: a domain of its own. */
async function driver() {
  const here = await court('D1');
  const memory = here.vmm.world.host.kernel;
  return {
    map: (page: number) => DmaMapped.emit(memory, root, 0, page << 12, 1),
    clear: (page: number) => LeavesCleared.emit(memory, root, 0, page << 12, 1),
    returned: (page: number, lazy = 0) => DmaUnmapped.emit(memory, root, 0, page << 12, 1, lazy),
    reach: (page: number) => dma.emit(memory, here.rid('A'), 0, page << 12, 5, root, 1),
    verdict: () => here.verdict()?.message ?? null,
  };
}

test('holds: a driver has unmapped, and another thread was given the iova before the first one said so', async () => {
  const { map, clear, returned, reach, verdict } = await driver();
  map(3);
  clear(3);
  reach(3);
  map(3);
  returned(3);
  reach(3);
  expect(verdict()).toBeNull();
});

test.each([['strict', 0], ['lazy', 1]])('breaks: a DMA completes behind an unmap of a driver, %s or not', async (_, lazy) => {
  const { map, clear, returned, reach, verdict } = await driver();
  map(3);
  clear(3);
  returned(3, lazy);
  reach(3);
  expect(verdict()).toMatch(/^a DMA of function 05\.0 completed through iova 0x3000 into frame 0x5 after its unmap had returned/);
});
