/** Why a device reaches an address through a guest's tables and its host's, or in which of the two that ends. */
import { highOf, lowOf } from '#hostmem/iova';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { layFirstStage, setLeaf } from '#src/actors/guest-first-stage';
import { descriptorGpa, layStage1, setStage1Leaf } from '#src/actors/virtual-smmu';
import { firstStageGpa, nestedFreeGpa, windowIova } from '#src/actors/virtual-vtd';
import { reachOf } from '#src/check/reach';
import { View } from '#src/check/view';
import { smmuViommuType } from '#src/drivers/smmuv3/viommu';
import { HwptFlag } from '#src/kernel/hwpt';
import { World } from '#src/world';
import { expect, test } from 'vitest';

const page = 4096;

/** A guest of 16 pages whose VMM maps all but the last; its device is on the guest's tables. */
function setUp() {
  const w = new World({ iommu: 'vtd-nested' });
  const vmm = w.guest('vm', 16);
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  vmm.map(iommufd, ioas, 0, BigInt(w.directory['vm.memory']!), 15 * page);
  const frames = w.directory['vm.frames'] as Ref<'Run'>;
  layFirstStage(w.host, frames);
  setLeaf(w.host, frames, windowIova, nestedFreeGpa);
  setLeaf(w.host, frames, windowIova + page, 15 * page);
  const { fd, deviceId } = vmm.bound(w.group('A').vfio[0]!, iommufd);
  vmm.attach(fd, vmm.nestedHwpt(iommufd, deviceId, vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT), firstStageGpa));
  const view = new View(w.host.buffers);
  const reach = (iova: number) => reachOf(view, w.directory['A'] as Ref<'PciFunction'>, -1, highOf(iova / page), lowOf(iova / page));
  return { w, frames, reach };
}

test('every entry of both stages is named, in the order in which hardware reads them', () => {
  const { w, frames, reach } = setUp();
  const found = reach(windowIova);
  expect([found.frame, found.permissions, found.fault, found.why]).toEqual([runGet(w.host.kernel, frames, nestedFreeGpa / page), 3, 0, null]);
  const names = found.entries.map(({ name }) => name).filter((name) => name.startsWith('VtdFirst') || name.startsWith('VtdSecond'));
  const second = [4, 3, 2, 1].map((level) => `VtdSecondStage.level${level}`);
  expect(names).toEqual([...[4, 3, 2, 1].flatMap((level) => [...second, `VtdFirstStage.level${level}`]), ...second]);
  expect(found.domain).toMatch(/^HWPT \d+ of IOAS \d+ of process 1$/);
});

test('where the way ends is said with the stage and the guest\'s address', () => {
  const { reach } = setUp();
  expect(reach(windowIova + 2 * page)).toMatchObject({ frame: null, why: "in the guest's first stage, whose table is at guest address 0x9000" });
  expect(reach(windowIova + page)).toMatchObject({ frame: null, why: 'not present in the second stage, on the way to the page at guest address 0xf000' });
  expect(reach(2 ** 40)).toMatchObject({ frame: null, why: "in the guest's first stage, whose table is at guest address 0x6000" });
});

/** The same on SMMUv3. */
function setUpSmmu() {
  const w = new World({ iommu: 'smmuv3' });
  const vmm = w.guest('vm', 16);
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  vmm.map(iommufd, ioas, 0, BigInt(w.directory['vm.memory']!), 15 * page);
  const frames = w.directory['vm.frames'] as Ref<'Run'>;
  layStage1(w.host, frames);
  setStage1Leaf(w.host, frames, windowIova, nestedFreeGpa);
  setStage1Leaf(w.host, frames, windowIova + page, 15 * page);
  const { fd, deviceId } = vmm.bound(w.group('A').vfio[0]!, iommufd);
  const viommu = vmm.viommu(iommufd, deviceId, vmm.hwpt(iommufd, deviceId, ioas, HwptFlag.NEST_PARENT), smmuViommuType);
  vmm.vdevice(iommufd, viommu, deviceId, 1);
  vmm.attach(fd, vmm.smmuNestedHwpt(iommufd, deviceId, viommu, descriptorGpa));
  const view = new View(w.host.buffers);
  return { w, frames, reach: (iova: number) => reachOf(view, w.directory['A'] as Ref<'PciFunction'>, -1, highOf(iova / page), lowOf(iova / page)) };
}

test('on SMMUv3: the descriptor is the guest\'s too, and where the way ends is said alike', () => {
  const { w, frames, reach } = setUpSmmu();
  const found = reach(windowIova);
  expect([found.frame, found.permissions, found.fault, found.why]).toEqual([runGet(w.host.kernel, frames, nestedFreeGpa / page), 3, 0, null]);
  const second = [4, 3, 2, 1].map((level) => `SmmuStage2.level${level}`);
  const tables = [...second, 'ContextDescriptor.word0', ...[4, 3, 2, 1].flatMap((level) => [...second, `SmmuStage1.level${level}`]), ...second];
  expect(found.entries.map(({ name }) => name).filter((name) => !name.startsWith('StreamTable'))).toEqual(tables);
  expect(reach(windowIova + 2 * page)).toMatchObject({ frame: null, why: "not present in the guest's stage 1" });
  expect(reach(windowIova + page)).toMatchObject({ frame: null, why: 'not present in stage 2, on the way to the page at guest address 0xf000' });
});
