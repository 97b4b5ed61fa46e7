/** Dirty tracking, with the faults of 7.2 and without them. */
import type { GetDirtyBitmap } from '#src/kernel/dirty';
import type { ErrnoName } from '#src/kernel/errno';
import { operationsOf, variant } from '#src/kernel/variant';
import type { FaultsOf72 } from '#src/kernel/faults-of-72';
import { expect, test } from 'vitest';
import { AbleVmm } from './able-driver.ts';
import { page } from './vmm.ts';

const DIRTY_TRACKING = 2;
const NO_CLEAR = 1;
const base = 0x100000n;

/** Pages 0-3 and 8-15 from `base` on are mapped, the rest is a hole. */
function setUp(faults: Partial<FaultsOf72> = {}) {
  const vmm = new AbleVmm(operationsOf(variant({ mistake: null, source: 'a test', caughtBy: null, faults })));
  const hwptId = vmm.hwpt(DIRTY_TRACKING) as number;
  vmm.map(vmm.fd, vmm.ioasId, base, vmm.process.memory(4 * page), 4 * page);
  vmm.map(vmm.fd, vmm.ioasId, base + 0x8000n, vmm.process.memory(8 * page), 8 * page);
  const track = (flags: number, id = hwptId): ErrnoName | null => vmm.ioctl(vmm.fd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', { flags, hwptId: id });
  const write = (...pages: number[]): void => {
    for (const at of pages) vmm.state.dirty.add(base + BigInt(at * page));
  };
  const query = (first: number, pages: number, change: Partial<GetDirtyBitmap> = {}): number[] | ErrnoName => {
    const arg = {
      hwptId, flags: 0, iova: base + BigInt(first * page), length: BigInt(pages * page), pageSize: 4096n, bitmap: new Uint8Array(2), ...change,
    };
    return vmm.ioctl(vmm.fd, 'IOMMU_HWPT_GET_DIRTY_BITMAP', arg) ?? [...arg.bitmap];
  };
  return { vmm, hwptId, track, write, query };
}

test('a page that was written is told once, and again while nobody clears', () => {
  const { track, write, query } = setUp();
  expect(track(1)).toBeNull();
  write(0, 2);
  expect(query(0, 4, { flags: NO_CLEAR })).toEqual([5, 0]);
  expect(query(0, 4)).toEqual([5, 0]);
  expect(query(0, 4)).toEqual([0, 0]);
});

test('bits are or-ed; a coarser page is dirty when a part is, an odd page size counts as its lowest bit', () => {
  const { track, write, query } = setUp();
  track(1);
  write(3);
  expect(query(0, 4, { flags: NO_CLEAR, bitmap: Uint8Array.of(1, 0) })).toEqual([9, 0]);
  expect(query(0, 4, { flags: NO_CLEAR, pageSize: 0x2000n })).toEqual([2, 0]);
  expect(query(0, 4, { flags: NO_CLEAR, pageSize: 0x800n })).toEqual([0xc0, 0]);
});

test('enabling forgets what was written before', () => {
  const { track, write, query } = setUp();
  write(0);
  expect(track(1)).toBeNull();
  expect(query(0, 4)).toEqual([0, 0]);
});

test('switching tracking off keeps what was written until it is switched on again', () => {
  const { track, write, query } = setUp();
  track(1);
  write(0);
  expect(track(0)).toBeNull();
  expect(query(0, 4)).toEqual([1, 0]);
  expect(track(1)).toBeNull();
  expect(query(0, 4)).toEqual([0, 0]);
});

test('an HWPT made without tracking has none, a nested one is not found', () => {
  const { vmm, track } = setUp();
  const plain = vmm.hwpt(0) as number;
  const nested = vmm.hwpt(0, vmm.hwpt(1) as number, new Uint8Array(8)) as number;
  expect([track(1, plain), track(0, plain), track(1, nested), track(1, 1), track(2)]).toEqual(['EOPNOTSUPP', 'EOPNOTSUPP', 'ENOENT', 'ENOENT', 'EOPNOTSUPP']);
});

test('K1: a query ends at the first hole without an error; mended, it goes on', () => {
  for (const [dirtyHoleStops, expected] of [[true, [0x0f, 0]], [false, [0x0f, 0xff]]] as const) {
    const { track, write, query } = setUp({ dirtyHoleStops });
    track(1);
    write(0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15);
    expect(query(0, 16)).toEqual(expected);
    expect(query(8, 8)).toEqual(dirtyHoleStops ? [0xff, 0] : [0, 0]);
  }
});

test('K1b: what the bitmap cannot take is lost and the call succeeds; mended, it is EFAULT and nothing is lost', () => {
  const broken = setUp();
  const mended = setUp({ dirtyBitmapFaultLosesDirt: false });
  for (const { track, write } of [broken, mended]) {
    track(1);
    write(8, 15);
  }
  expect(broken.query(8, 8, { writableBytes: 0 })).toEqual([0, 0]);
  expect(broken.query(8, 8)).toEqual([0, 0]);
  expect(mended.query(8, 8, { writableBytes: 0 })).toBe('EFAULT');
  expect(mended.query(8, 8)).toEqual([0x81, 0]);
});

test('K6: enabling once more loses what was written; mended, it does not', () => {
  for (const secondEnableLosesDirt of [true, false]) {
    const { track, write, query } = setUp({ secondEnableLosesDirt });
    track(1);
    write(1);
    expect(track(1)).toBeNull();
    expect(query(0, 4)).toEqual([secondEnableLosesDirt ? 0 : 2, 0]);
  }
});
