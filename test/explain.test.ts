/** Why a device reaches an address, and where that ends: on every IOMMU, and behind the schedule of a token. */
import { explain, tell } from '#src/commands/explain';
import { explainScenario, explainToken } from '#src/explain';
import { explore } from '#src/explore';
import { Terminal } from '#src/terminal';
import { iommus } from '#src/built-units';
import { expect, test } from 'vitest';

const scenario = 'map-unmap-under-dma';
const question = { device: 'A', pasid: null, iova: 0x10000123n };

test.each(iommus)('%s: the entries that lead to a page are named in the order in which hardware reads them', async (iommu) => {
  const reach = await explainScenario(scenario, iommu, question);
  expect(reach).toMatchObject({ group: 1, domain: 'HWPT 4 of IOAS 1 of process 1', permissions: 3, owner: 17, fault: 0, cached: [] });
  const leaf = reach.entries.at(-1)!;
  expect(leaf.name).toMatch(/level1$/);
  // PPN [53:10] of RISC-V, address [47:12] of all others; the mock's counts halves of a frame.
  const address = iommu === 'riscv' ? (leaf.value >> 10n) & 0xfff_ffff_ffffn : (leaf.value >> 12n) & 0xf_ffff_ffffn;
  expect(BigInt(reach.frame!)).toBe(iommu === 'mock' ? address / 2n : address);
  const lines = tell('A', question.iova, reach);
  expect(lines.length).toBeLessThanOrEqual(12);
  expect(lines.at(-2)).toContain(`is 0x${(reach.frame! * 4096 + 0x123).toString(16)}, frame`);
});

test.each(iommus)('%s: an address without a page ends at the entry that is missing', async (iommu) => {
  const reach = await explainScenario(scenario, iommu, { ...question, iova: 0x20000000n });
  expect(reach.frame).toBeNull();
  expect(reach.entries.at(-1)!.value).toBe(0n);
  expect(tell('A', 0x20000000n, reach).join('\n')).toContain('0x20000000 is not reached');
});

test('behind the schedule of a token the page is mapped that the mistake forgot, and cached', async () => {
  const options = { scenario: 'amd-increase-level', variant: 'buggy', seed: 1, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms: null };
  const { violation } = await explore(options);
  const reach = await explainToken(violation!.token, {}, { ...question, iova: 0x10000000n });
  expect(reach.entries.map(({ name }) => name)).toEqual(['DeviceTableEntry.low', 'AmdV1.level4', 'AmdV1.level3', 'AmdV1.level2', 'AmdV1.level1']);
  expect(reach.cached).toContainEqual({ cache: 'IOTLB', tag: 2, frame: reach.frame, permissions: 3 });
});

test('a PASID is on what was attached under it, and what another number has in caches does not lead it anywhere', async () => {
  const about = { device: 'nic', pasid: 5, iova: 0x10000000n };
  const reach = await explainScenario('pasid-lifecycle', null, about);
  expect(reach).toMatchObject({ pasid: 5, domain: 'HWPT 4 of IOAS 2 of process 1', permissions: 3, cached: [] });
  expect(reach.entries.map(({ name }) => name)).toContain('VtdPasidEntry.word0');
  expect(tell('nic', about.iova, reach)[0]).toContain('group 1, whose PASID 5 is on HWPT 4 of IOAS 2 of process 1');
  const other = await explainScenario('pasid-lifecycle', null, { ...about, pasid: 6 });
  expect([other.domain, other.frame]).toEqual(['nothing', null]);
  expect((await explainScenario('pasid-lifecycle', null, { ...about, pasid: null })).domain).toBe('HWPT 4 of IOAS 2 of process 1');
});

test('behind the schedule of a token a PASID is on what its user has replaced it by, while its entry and the caches are of the old one', async () => {
  // The device reads before the PASID is detached: the last thing that befell it is the replace.
  const options = { scenario: 'pasid-lifecycle', variant: 'pasid-replace-keeps-entry', seed: 2, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms: null };
  const { violation } = await explore(options);
  const about = { device: 'nic', pasid: 5, iova: 0x10000000n };
  const reach = await explainToken(violation!.token, {}, about);
  expect(reach.domain).toBe('HWPT 5 of IOAS 3 of process 1');
  expect(reach.frame).toBe((await explainScenario('pasid-lifecycle', null, about)).frame);
  expect(reach.cached).toContainEqual(expect.objectContaining({ cache: 'IOTLB', frame: reach.frame }));
  expect((await explainToken(violation!.token, {}, { ...about, pasid: null })).cached.filter(({ cache }) => cache === 'IOTLB')).toEqual([]);
});

test('of tables that devices share it says that a device reaches what its PASID is not on', async () => {
  const options = { scenario: 'seed-004-pasid-tables', variant: 'system-wide-table', seed: 1, strategy: 'portfolio', schedules: 1_000, budgetMs: null, vms: null };
  const { violation } = await explore(options);
  const pasid = Number(/PASID (\d+)/.exec(violation!.message)![1]);
  const reach = await explainToken(violation!.token, {}, { device: 'flawed', pasid, iova: 0x10000000n });
  expect(reach.frame).not.toBeNull();
  expect(reach.domain).not.toBe((await explainToken(violation!.token, {}, { device: 'nic', pasid, iova: 0x10000000n })).domain);
});

test.each([
  ['a device that is not there', { device: 'Z' }, "unknown device 'Z'"],
  ['no address', { iova: 'high' }, "--iova 'high' is no address of 64 bits"],
  ['an address of more bits', { iova: '0x10000000000000000' }, 'is no address of 64 bits'],
  ['a PASID where the unit takes none', { pasid: 3, iommu: 'amd' }, '--pasid'],
  ['a unit for a token', { state: 'v1.x.y.z.w', iommu: 'amd' }, 'the token says whose unit it is'],
])('%s is told in a line', async (_, changes, message) => {
  const options = { state: scenario, device: 'A', pasid: null, iova: '0x1000', iommu: null, ...changes };
  await expect(explain(options, new Terminal(true))).rejects.toThrow(message);
});
