/**
 * PCI as the kernel finds it: what is plugged in where, under which requester id it reaches the IOMMU, which functions share a
 * group (SEMANTICS B2; `pci_device_group`) and which a reset (a.6). A description only; nothing here is shared memory.
 */

/** What a function is to the bus above it. */
export type PciKind =
  | 'endpoint'
  /** Ports of PCI Express forward requests under the requester's own id. */
  | 'root port' | 'upstream port' | 'downstream port'
  /** Puts function 0 of its secondary bus in place of every requester behind it. */
  | 'PCIe-to-PCI bridge'
  /** A conventional bridge, which puts its own id there. */
  | 'PCI bridge';

/** A function as a world describes it. */
export interface PciSlotFunction {
  readonly kind: PciKind;
  /** By this name a VFIO device is found; a function without one has no user. */
  readonly name: string | null;
  /**
   * ACS with source validation, request redirect, completion redirect and upstream forwarding. What it means for kinds that
   * cannot have it is the kernel's business.
   */
  readonly acs: boolean;
  /** The slots behind it can be reset by themselves. */
  readonly slotReset: boolean;
  /** What is behind a bridge, by device number. */
  readonly behind: PciBus;
}

/** Device number -> its functions, in order of function numbers. */
export type PciBus = Readonly<Record<number, readonly PciSlotFunction[]>>;

interface Options {
  readonly acs?: boolean;
  readonly slotReset?: boolean;
}

const pciFunction = (kind: PciKind, name: string | null, { acs = false, slotReset = false }: Options, behind: PciBus): PciSlotFunction =>
  ({ kind, name, acs, slotReset, behind });

/** A device of one function. */
export const endpoint = (name: string | null, options: Options = {}): PciSlotFunction[] => [pciFunction('endpoint', name, options, {})];

/** One device of several functions, function 0 first. */
export const multiFunction = (names: readonly string[], options: Options = {}): PciSlotFunction[] =>
  names.map((name) => pciFunction('endpoint', name, options, {}));

/** A port or bridge, and what is behind it. */
export const bridge = (kind: Exclude<PciKind, 'endpoint'>, behind: PciBus, options: Options = {}): PciSlotFunction[] =>
  [pciFunction(kind, null, options, behind)];

/** A function as the kernel found it. */
export interface FoundFunction {
  readonly kind: PciKind;
  readonly name: string | null;
  /** `bus << 8 | device << 3 | function`. */
  readonly rid: number;
  /** Under which id its requests reach the IOMMU. */
  readonly sourceId: number;
  /** Functions with one number are one group; groups are counted in the order in which they are found, from 0. */
  readonly group: number;
  /** Functions with one number share their reset. */
  readonly devSet: number;
}

/** A function and its way up, before its group is known. */
interface Node extends PciSlotFunction {
  readonly rid: number;
  readonly bus: number;
  /** The bridge whose secondary bus it is on; null on the root bus. */
  readonly above: Node | null;
  readonly isMultiFunction: boolean;
  /** Of a bridge. */
  readonly secondaryBus: number;
}

/** All functions of a root bus and below, by requester id, with what the kernel makes of them. Buses are numbered depth first. */
export function enumerate(root: PciBus): FoundFunction[] {
  const nodes = scan(root, 0, null, { next: 1 }).sort((a, b) => a.rid - b.rid);
  const groups = formGroups(nodes);
  const sets = new Map<string, number>();
  return nodes.map((node) => {
    const key = devSetKey(node);
    if (!sets.has(key)) sets.set(key, sets.size);
    return { kind: node.kind, name: node.name, rid: node.rid, sourceId: sourceIdOf(node), group: groups.get(node)!, devSet: sets.get(key)! };
  });
}

function scan(slots: PciBus, bus: number, above: Node | null, buses: { next: number }): Node[] {
  const found: Node[] = [];
  for (const [device, functions] of Object.entries(slots)) {
    for (const [index, described] of functions.entries()) {
      const rid = (bus << 8) | (Number(device) << 3) | index;
      const secondaryBus = described.kind === 'endpoint' ? bus : buses.next++;
      const node: Node = { ...described, rid, bus, above, isMultiFunction: functions.length > 1, secondaryBus };
      found.push(node, ...scan(described.behind, secondaryBus, node, buses));
    }
  }
  return found;
}

/** The id that a bridge puts in place of those behind it; null for a port, which leaves them. */
function aliasOf({ kind, rid, secondaryBus }: Node): number | null {
  if (kind === 'PCIe-to-PCI bridge') return secondaryBus << 8;
  return kind === 'PCI bridge' ? rid : null;
}

/** The bridge nearest to the root that gives a function its alias, or null (`pci_for_each_dma_alias`). */
function aliasingBridge(node: Node): Node | null {
  let found: Node | null = null;
  for (let at = node.above; at !== null; at = at.above) if (aliasOf(at) !== null) found = at;
  return found;
}

function sourceIdOf(node: Node): number {
  const by = aliasingBridge(node);
  return by === null ? node.rid : aliasOf(by)!;
}

/** In the order of discovery, which finds a bridge before what is behind it. */
function formGroups(nodes: readonly Node[]): Map<Node, number> {
  const groups = new Map<Node, number>();
  let next = 0;
  for (const node of nodes) groups.set(node, sharedGroup(node, nodes, groups) ?? next++);
  return groups;
}

/** The group that a function has to join, or null when it is kept apart from all that were found before. */
function sharedGroup(node: Node, nodes: readonly Node[], groups: ReadonlyMap<Node, number>): number | null {
  const by = aliasingBridge(node);
  if (by !== null) return groups.get(by)!;
  // From here up, requests may be turned around before they reach the IOMMU, unless every bridge on the way forbids it.
  if (node.above !== null && !isPathIsolated(node.above)) return groups.get(node.above)!;
  if (!node.isMultiFunction || isIsolated(node)) return null;
  const sibling = nodes.find((other) => other !== node && isSameSlot(other, node) && !isIsolated(other) && groups.has(other));
  return sibling === undefined ? null : groups.get(sibling)!;
}

const isSameSlot = (a: Node, b: Node): boolean => a.bus === b.bus && a.rid >>> 3 === b.rid >>> 3;

function isPathIsolated(from: Node): boolean {
  for (let at: Node | null = from; at !== null; at = at.above) if (!isIsolated(at)) return false;
  return true;
}

/** Whether a function keeps requests apart (`pci_acs_enabled`): some kinds never do, a single function has nobody to talk to. */
function isIsolated({ kind, acs, isMultiFunction }: Node): boolean {
  if (kind === 'PCIe-to-PCI bridge' || kind === 'PCI bridge') return false;
  if (kind === 'root port' || kind === 'downstream port') return acs;
  return isMultiFunction ? acs : true;
}

/** Alone on the root bus; else its slot, where that can be reset; else all of its bus (`vfio_pci_core_register_device`). */
function devSetKey(node: Node): string {
  if (node.above === null) return `function ${node.rid}`;
  return node.above.slotReset ? `slot ${node.rid >>> 3}` : `bus ${node.bus}`;
}
