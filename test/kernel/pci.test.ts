/** Topologies and what the kernel makes of them: groups (SEMANTICS B2), requester ids, dev_sets (a.6). */
import { bridge, endpoint, enumerate, multiFunction, type PciBus } from '#src/kernel/pci';
import { IommuGroup, PciDevice } from '#src/kernel/iommu-group';
import { KernelRoot } from '#src/kernel/kernel';
import { World } from '#src/world';
import { expect, test } from 'vitest';
import { page, Vmm } from './vmm.ts';

/** Names by group, in the order in which groups are found; ports and bridges by their addresses. */
function groupsOf(root: PciBus): string[] {
  const groups: string[][] = [];
  for (const { name, rid, group } of enumerate(root)) (groups[group] ??= []).push(name ?? rid.toString(16).padStart(4, '0'));
  return groups.map((members) => members.join(' '));
}

const acs = { acs: true };

test.each<[string, PciBus, string[]]>([
  ['single functions on the root bus are kept apart', { 1: endpoint('a'), 2: endpoint('b') }, ['a', 'b']],
  ['functions of one device share a group without ACS', { 1: multiFunction(['a', 'b', 'c']), 2: endpoint('d') }, ['a b c', 'd']],
  ['functions of one device are kept apart by ACS', { 1: multiFunction(['a', 'b'], acs) }, ['a', 'b']],
  ['everything behind a PCIe-to-PCI bridge is in the group of the bridge', { 4: bridge('PCIe-to-PCI bridge', { 1: endpoint('a'), 2: endpoint('b') }) }, ['0020 a b']],
  ['ACS is nothing that a PCIe-to-PCI bridge could have', { 4: bridge('PCIe-to-PCI bridge', { 1: endpoint('a') }, acs) }, ['0020 a']],
  ['a conventional bridge is the same', { 4: bridge('PCI bridge', { 1: multiFunction(['a', 'b'], acs) }) }, ['0020 a b']],
  ['a root port with ACS keeps what is behind it apart', { 1: bridge('root port', { 0: endpoint('a') }, acs), 2: bridge('root port', { 0: endpoint('b') }, acs) }, ['0008', '0010', 'a', 'b']],
  ['a root port without ACS shares its group', { 1: bridge('root port', { 0: endpoint('a') }), 2: bridge('root port', { 0: endpoint('b') }) }, ['0008 a', '0010 b']],
  [
    'of a switch, a downstream port without ACS joins what is behind it to the port alone',
    { 1: bridge('root port', { 0: bridge('upstream port', { 0: bridge('downstream port', { 0: endpoint('a') }), 1: bridge('downstream port', { 0: endpoint('b') }, acs) }) }, acs) },
    ['0008', '0100', '0200 a', '0208', 'b'],
  ],
  [
    'a port without ACS higher up joins all that is below it',
    { 1: bridge('root port', { 0: bridge('upstream port', { 0: bridge('downstream port', { 0: endpoint('a') }, acs), 1: bridge('downstream port', { 0: endpoint('b') }, acs) }) }) },
    ['0008 0100 0200 0208 a b'],
  ],
  ['a device of several functions behind a port with ACS is one group of its own', { 1: bridge('root port', { 0: multiFunction(['a', 'b']) }, acs) }, ['0008', 'a b']],
  ['a bridge behind a root port without ACS joins that port', { 1: bridge('root port', { 0: bridge('PCIe-to-PCI bridge', { 1: endpoint('a') }) }) }, ['0008 0100 a']],
  ['a bridge behind a root port with ACS does not', { 1: bridge('root port', { 0: bridge('PCIe-to-PCI bridge', { 1: endpoint('a') }) }, acs) }, ['0008', '0100 a']],
])('%s', (_, root, groups) => {
  expect(groupsOf(root)).toEqual(groups);
});

test('behind a bridge requests have the id of function 0 of its bus, behind a conventional one that of the bridge, behind a port their own', () => {
  const found = enumerate({
    1: bridge('root port', { 0: endpoint('port') }),
    4: bridge('PCIe-to-PCI bridge', { 3: endpoint('alias'), 4: bridge('PCI bridge', { 1: endpoint('below') }) }),
    5: bridge('PCI bridge', { 1: endpoint('conventional') }),
  });
  const ids = Object.fromEntries(found.filter(({ name }) => name !== null).map(({ name, rid, sourceId }) => [name, [rid, sourceId]]));
  expect(ids).toEqual({ port: [0x100, 0x100], alias: [0x218, 0x200], below: [0x308, 0x200], conventional: [0x408, 0x28] });
});

test('a reset is shared by a bus, by a slot where that can be reset, on the root bus by nobody', () => {
  const found = enumerate({
    4: bridge('PCIe-to-PCI bridge', { 1: endpoint('a'), 2: endpoint('b') }),
    5: multiFunction(['c', 'd']),
    6: bridge('root port', { 0: multiFunction(['e', 'f']), 1: endpoint('g') }, { slotReset: true }),
  });
  const set = (name: string) => found.find((one) => one.name === name)!.devSet;
  expect(set('a')).toBe(set('b'));
  expect(set('e')).toBe(set('f'));
  expect(new Set(['a', 'c', 'd', 'e', 'g'].map(set)).size).toBe(5);
});

test('a world of a topology numbers groups as they are found and devices by their addresses, and aliases translate', () => {
  const world = new World();
  const groups = world.pci({ 4: bridge('PCIe-to-PCI bridge', { 1: endpoint('a'), 2: endpoint('b') }), 5: multiFunction(['c', 'd']) });
  expect(groups).toEqual([{ number: 1, vfio: [2, 3] }, { number: 2, vfio: [0, 1] }]);
  const vmm = new Vmm(world);
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  vmm.map(fd, ioas, 0x1000, vmm.process.memory(page, 7));
  vmm.attach(vmm.process.bind(2, fd), ioas);
  expect(['a', 'b', 'c'].map((name) => vmm.sees(name, 0x1000))).toEqual([7, 7, 'fault 6']);
});

test('a group moves in the order in which its members were found, the bridge first', () => {
  const world = new World();
  world.pci({ 4: bridge('PCIe-to-PCI bridge', { 1: endpoint('a') }) });
  const memory = world.host.kernel;
  const group = KernelRoot.groups.peek(memory, world.kernel.root);
  const first = IommuGroup.members.peek(memory, group);
  expect([first, PciDevice.nextInGroup.peek(memory, first)].map((member) => PciDevice.address.peek(memory, member))).toEqual([0x20, 0x108]);
});
