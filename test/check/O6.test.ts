import { expect, test } from 'vitest';
import { errnoNumber, type ErrnoName } from '#src/kernel/errno';
import { AreaGone, AreaPlaced, MapReturned, ObjectErased, ObjectPublished, StormCalled, StormReturned } from '#src/kernel/events';
import { Kind } from '#src/kernel/objects';
import { stormCallNumber, type StormCallName } from '#src/kernel/storm-calls';
import { court } from './histories.ts';

const process = 7;

async function setUp() {
  const here = await court('O6');
  const memory = here.vmm.world.host.kernel;
  return {
    here,
    by(actor: number) {
      here.history.actor = actor;
    },
    called: (name: StormCallName, target: number, page = 0, pages = 0) => StormCalled.emit(memory, stormCallNumber(name), process, target, 0, page, pages),
    returned: (name: StormCallName, errno: ErrnoName | null, refused = 0) => StormReturned.emit(memory, stormCallNumber(name), process, errnoNumber(errno), refused),
    published: (id: number, kind: number) => ObjectPublished.emit(memory, process, id, kind),
    erased: (id: number) => ObjectErased.emit(memory, process, id),
    placed: (page: number) => AreaPlaced.emit(memory, 1, 0, page * 4096, 1, process),
    gone: (page: number) => AreaGone.emit(memory, 1, 0, page * 4096, 1, process),
  };
}

test('holds: ENOENT for what came during the call, EEXIST for what went during it, EBUSY beside another call', async () => {
  const { here, by, called, returned, published, erased, placed, gone } = await setUp();
  called('IOMMU_IOAS_MAP', 1, 5, 1);
  published(1, Kind.IOAS);
  returned('IOMMU_IOAS_MAP', 'ENOENT');
  placed(5);
  called('IOMMU_IOAS_MAP', 1, 5, 1);
  gone(5);
  returned('IOMMU_IOAS_MAP', 'EEXIST');
  called('IOMMU_DESTROY', 1);
  by(1);
  called('IOMMU_IOAS_IOVA_RANGES', 1);
  returned('IOMMU_IOAS_IOVA_RANGES', null);
  by(0);
  returned('IOMMU_DESTROY', 'EBUSY');
  called('IOMMU_DESTROY', 1);
  erased(1);
  returned('IOMMU_DESTROY', 'ENOENT');
  expect(here.verdict()).toBeNull();
});

test('holds: what was made to fail may fail with anything', async () => {
  const { here, called, returned, published } = await setUp();
  published(1, Kind.IOAS);
  called('IOMMU_IOAS_MAP', 1, 5, 1);
  returned('IOMMU_IOAS_MAP', 'ENOENT', 1);
  expect(here.verdict()).toBeNull();
});

test('breaks: ENOENT for an IOAS that was there all the time', async () => {
  const { here, called, returned, published } = await setUp();
  published(1, Kind.IOAS);
  called('IOMMU_IOAS_MAP', 1, 5, 1);
  returned('IOMMU_IOAS_MAP', 'ENOENT');
  expect(here.verdict()?.message).toBe('IOMMU_IOAS_MAP says ENOENT, but IOAS 1 was there all the time');
});

test('breaks: EEXIST where the mapping was gone before the call', async () => {
  const { here, called, returned, published, placed, gone } = await setUp();
  published(1, Kind.IOAS);
  placed(5);
  gone(5);
  called('IOMMU_IOAS_MAP', 1, 5, 1);
  returned('IOMMU_IOAS_MAP', 'EEXIST');
  expect(here.verdict()?.message).toContain('nothing was mapped there');
});

test('breaks: EBUSY for an IOAS that nobody else can be using', async () => {
  const { here, called, returned, published } = await setUp();
  published(1, Kind.IOAS);
  called('IOMMU_DESTROY', 1);
  returned('IOMMU_DESTROY', 'EBUSY');
  expect(here.verdict()?.message).toContain('nothing holds IOAS 1');
});

test('breaks: an errno that the call never has', async () => {
  const { here, called, returned } = await setUp();
  called('close', 0);
  returned('close', 'EEXIST');
  expect(here.verdict()?.message).toBe('close says EEXIST, which it never may');
});

test('holds: IOAS_MAP says that its range is taken, outside of random programs too', async () => {
  const { here } = await setUp();
  MapReturned.emit(here.vmm.world.host.kernel, 2, 0, 0x1000, 1, errnoNumber('EEXIST'), process);
  expect(here.verdict()).toBeNull();
});

test('breaks: IOAS_MAP is refused for what a group does', async () => {
  const { here } = await setUp();
  MapReturned.emit(here.vmm.world.host.kernel, 2, 0, 0x1000, 1, errnoNumber('EBUSY'), process);
  expect(here.verdict()?.message).toContain('IOMMU_IOAS_MAP on IOAS 2 says EBUSY');
});
