/** One scenario on every IOMMU: what holds on one holds on all, and what a device reads is the same. */
import { choose, sizeOf, sizeWord } from '#src/chosen';
import { explore, replay } from '#src/explore';
import { Machine } from '#src/hardware/machine';
import { run } from '#src/run';
import { iommus, type Iommu } from '#src/built-units';
import { World } from '#src/world';
import type { Ref } from '#hostmem/object';
import { describe, expect, test } from 'vitest';

const scenario = 'map-unmap-under-dma';
const page = 4096;

describe.each(iommus)('%s', (iommu) => {
  test('the correct kernel is caught by nothing', async () => {
    const { violation, schedules } = await explore({ scenario, variant: 'correct', iommu, seed: 3, strategy: 'portfolio', schedules: 60, budgetMs: null, vms: null });
    expect([violation, schedules]).toEqual([null, 60]);
  });

  test('free, all make progress and nothing breaks', async () => {
    const { violation, counts } = await run({ scenario, variant: 'correct', iommu, seed: 1, durationMs: 500, vms: null });
    expect(violation).toBeNull();
    for (const count of [counts.rounds, counts.dma, counts.maps, counts.unmaps, counts.replaces]) expect(count).toBeGreaterThan(0);
  });

  test('mapped, moved, unmapped: a device reads what it reads on any other', () => {
    expect(outcomes(iommu)).toEqual(['fault', 0x1111, 0x1111, 0x2222, 'fault', 0x1111, 'fault', 'fault']);
  });
});

/** What device A reads at two addresses at each step of a script; a fault by no vendor's number. */
function outcomes(iommu: Iommu): (number | 'fault')[] {
  const world = new World({ iommu });
  const vmm = world.process('vmm');
  const iommufd = vmm.iommufd();
  const [first, second] = [0x1111, 0x2222].map((tag) => {
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, 0x10000000, vmm.memory(page, tag), page);
    return ioas;
  }) as [number, number];
  const fd = vmm.bind(world.group('A').vfio[0]!, iommufd);
  const dma = new Machine(world.host).dma(world.directory['A'] as Ref<'PciFunction'>);
  const read = (iova: number): number | 'fault' => (dma.read(0, iova, 4) === 0 ? dma.bufferWord(0) : 'fault');
  const seen = [read(0x10000000)];
  vmm.attach(fd, first);
  seen.push(read(0x10000000), read(0x10000000));
  vmm.attach(fd, second);
  seen.push(read(0x10000000), read(0x20000000));
  vmm.attach(fd, first);
  seen.push(read(0x10000000), read(0x10001000), read(0x20000000));
  return seen;
}

test.each(['vtd-scalable', 'amd'] as const)('%s has a window in a replace too, as was recorded', async (iommu) => {
  const options = { scenario: 'vtd-replace-break-window', iommu, seed: 1, strategy: 'portfolio', budgetMs: null, vms: null };
  expect((await explore({ ...options, variant: 'correct', schedules: 20 })).violation).toBeNull();
  expect((await explore({ ...options, variant: 'no-break-window', schedules: 1_000 })).violation?.invariant).toBe('D11');
});

describe('ATS and page requests, of a story that VT-d has too, on RISC-V', () => {
  const options = { iommu: 'riscv', seed: 1, strategy: 'portfolio', budgetMs: null, vms: null } as const;

  test.each(['ats-enabled-late', 'ats-device-gone', 'page-requests', 'reset-vs-attach'])('%s: the correct kernel is caught by nothing', async (name) => {
    const { violation, schedules } = await explore({ ...options, scenario: name, variant: 'correct', schedules: 60 });
    expect([violation, schedules]).toEqual([null, 60]);
  });

  test.each([
    ['ats-enabled-late', 'vtd-ats-on-no-tag', 'C1'],
    ['ats-device-gone', 'inval-timeout-treated-done', 'C3'],
    ['ats-device-gone', 'vtd-ats-inval-dead-device', 'LIVELOCK'],
    ['page-requests', 'iopf-no-drain', 'F3'],
    ['iopf-double-owner', 'buggy', 'F2'],
  ])('%s: %s is caught by %s', async (name, variant, invariant) => {
    expect((await explore({ ...options, scenario: name, variant, schedules: 1_000 })).violation?.invariant).toBe(invariant);
  });

  test.each(['ats-enabled-late', 'ats-device-gone', 'page-requests'])('%s, free: nothing breaks', async (name) => {
    const { violation, counts } = await run({ scenario: name, variant: 'correct', iommu: 'riscv', seed: 1, durationMs: 300, vms: null });
    expect([violation, counts.rounds > 0]).toEqual([null, true]);
  });
});

test.each(['vtd-legacy', 'vtd-scalable', 'vtd-first-stage'] as const)('what RISC-V has of ATS, of the same story on %s', async (iommu) => {
  const options = { scenario: 'ats-unmap-under-dma', iommu, seed: 1, strategy: 'portfolio', budgetMs: null, vms: null };
  expect((await explore({ ...options, variant: 'correct', schedules: 60 })).violation).toBeNull();
  for (const [variant, invariant] of [['ats-left-out', 'D1'], ['ats-before-iotlb', 'C4']] as const)
    expect((await explore({ ...options, variant, schedules: 1_000 })).violation?.invariant).toBe(invariant);
});

test('a token says whose unit it was', async () => {
  expect(sizeOf({ parameters: [sizeWord(3, 'smmuv3')] } as never)).toEqual({ vms: 3, iommu: 'smmuv3' });
  expect(sizeOf({ parameters: [] } as never)).toEqual({ vms: null, iommu: null });
  const options = { scenario, variant: 'xen-domid-recycle', iommu: 'vtd-scalable', seed: 1, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms: null };
  const { violation } = await explore(options);
  expect(violation?.invariant).toBe('C5');
  const again = await replay({ token: violation!.token, times: 10 });
  expect([again.hashes.length, again.violation?.invariant]).toEqual([1, 'C5']);
});

test('a unit that does not exist, and a scenario without one, are told in a line', async () => {
  await expect(choose({ scenario, variant: 'correct', iommu: 'arm' })).rejects.toThrow("unknown IOMMU 'arm'");
  await expect(choose({ scenario: 'selftest-storm', variant: 'correct', iommu: 'amd' })).rejects.toThrow('the mock IOMMU');
  await expect(choose({ scenario: 'ats-enabled-late', variant: 'correct', iommu: 'amd' })).rejects.toThrow('needs ats, which such a unit does not have here');
});
