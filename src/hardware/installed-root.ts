/** What a unit's tables say of a function's requests without PASID, read as no point: for oracles. */
import { peek } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { frameOf } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TableKind } from './events.ts';
import { PciFunction } from './function.ts';
import { noRequester } from './translation-unit.ts';
import { IommuUnit } from './unit.ts';
import { RootTableMode, rootTableModeOf, VtdRegisters } from './vtd/registers.ts';
import { contextAddress, VtdRequesters } from './vtd/requester.ts';
import * as scalable from './vtd/scalable-entry.ts';
import { noPasid } from './vtd/scalable-requester.ts';

/** Requests reach memory untranslated. */
export const passesThrough = -1;

/** The root frame of the page tables in force, 0 when requests are blocked, or `passesThrough`. */
export function installedRoot(host: Host, pciFunction: Ref<'PciFunction'>): number {
  const kernel = host.kernel;
  const unit = PciFunction.unit.peek(kernel, pciFunction);
  const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
  const requester = noRequester();
  const fault = new VtdRequesters(host, registers, null).lookup(PciFunction.sourceId.peek(kernel, pciFunction), noPasid, requester);
  if (fault !== 0) return 0;
  return requester.passThrough ? passesThrough : requester.root;
}

/** An entry by which requests of a function are translated: the low words of its quadwords. */
export interface InstalledEntry {
  readonly table: number;
  readonly word0: number;
  readonly word1: number;
  readonly word2: number;
}

/** The entries on the way of its requests that are present: of the context table, and in scalable mode of the PASID table. */
export function installedEntries(host: Host, pciFunction: Ref<'PciFunction'>): InstalledEntry[] {
  const { kernel, ram } = host;
  const registers = IommuUnit.registers.peek(kernel, PciFunction.unit.peek(kernel, pciFunction)) as Ref<'VtdRegisters'>;
  const rootTable = VtdRegisters.rootTable.peek(kernel, registers);
  const sourceId = PciFunction.sourceId.peek(kernel, pciFunction);
  const entry = (table: number, at: number): InstalledEntry => ({ table, word0: peek(ram, at), word1: peek(ram, at + 8), word2: table === TableKind.PASID ? peek(ram, at + 16) : 0 });
  if (rootTableModeOf(rootTable) === RootTableMode.LEGACY) {
    const at = contextAddress(ram, frameOf(rootTable), sourceId);
    return at === 0 ? [] : present([entry(TableKind.CONTEXT, at)]);
  }
  const half = peek(ram, scalable.rootHalfAt(frameOf(rootTable), sourceId));
  if ((half & scalable.present) === 0) return [];
  const context = entry(TableKind.SCALABLE_CONTEXT, scalable.contextEntryAt(frameOf(half), sourceId));
  const directory = (context.word0 & scalable.present) === 0 ? 0 : peek(ram, scalable.directoryEntryAt(frameOf(context.word0), context.word1 & scalable.ridPasidMask));
  if ((directory & scalable.present) === 0) return present([context]);
  return present([context, entry(TableKind.PASID, scalable.pasidEntryAt(frameOf(directory), context.word1 & scalable.ridPasidMask))]);
}

const present = (entries: readonly InstalledEntry[]): InstalledEntry[] => entries.filter(({ word0 }) => (word0 & scalable.present) !== 0);
