/** What a unit's tables say of a function's requests without PASID, read as no point: for oracles. */
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { DeviceTable, firstRootOf } from './amd/unit.ts';
import { PciFunction } from './function.ts';
import { nestedName } from './nested-line.ts';
import { noRequester } from './translation-unit.ts';
import { RiscvRequest, RiscvTranslation } from './riscv/translation.ts';
import { Streams } from './smmuv3/streams.ts';
import { IommuUnit, UnitKind } from './unit.ts';
import { VtdRequesters } from './vtd/requester.ts';
import { noPasid } from './vtd/scalable-requester.ts';

/** Requests reach memory untranslated. */
export const passesThrough = -1;

/** The root frame of the page tables in force, or the name of two stages (`nested-line.ts`); 0 when requests are blocked, or `passesThrough`. */
export function installedRoot(host: Host, pciFunction: Ref<'PciFunction'>): number {
  const kernel = host.kernel;
  const unit = PciFunction.unit.peek(kernel, pciFunction);
  const kind = IommuUnit.kind.peek(kernel, unit);
  if (kind === UnitKind.RISCV) return installedInRiscv(host, pciFunction, unit);
  if (kind === UnitKind.AMD) return installedInAmd(host, pciFunction, unit);
  if (kind === UnitKind.MOCK) return PciFunction.mockRoot.peek(kernel, pciFunction);
  if (kind === UnitKind.SMMUV3) return installedInSmmu(host, pciFunction, unit);
  const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
  const requester = noRequester();
  const fault = new VtdRequesters(host, registers, null).lookup(PciFunction.sourceId.peek(kernel, pciFunction), noPasid, requester);
  if (fault !== 0) return 0;
  if (requester.passThrough) return passesThrough;
  return requester.secondRoot === 0 ? requester.root : nestedName(requester.root, requester.secondRoot);
}

function installedInRiscv(host: Host, pciFunction: Ref<'PciFunction'>, unit: Ref<'IommuUnit'>): number {
  const translation = new RiscvTranslation(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'RiscvRegisters'>);
  const request = new RiscvRequest();
  request.deviceId = PciFunction.sourceId.peek(host.kernel, pciFunction);
  if (translation.find(request) !== 0) return 0;
  return translation.walkedFirst ? translation.root : passesThrough;
}

function installedInAmd(host: Host, pciFunction: Ref<'PciFunction'>, unit: Ref<'IommuUnit'>): number {
  const table = new DeviceTable(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'AmdRegisters'>, null);
  if (table.find(PciFunction.sourceId.peek(host.kernel, pciFunction)) !== 0) return 0;
  const { passThrough, permissions, root, levels } = table.requester;
  if (permissions === 0) return 0;
  return passThrough ? passesThrough : firstRootOf(host.ram, root, levels);
}

function installedInSmmu(host: Host, pciFunction: Ref<'PciFunction'>, unit: Ref<'IommuUnit'>): number {
  const streams = new Streams(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'SmmuRegisters'>, null);
  if (streams.find(PciFunction.sourceId.peek(host.kernel, pciFunction)) !== 0) return 0;
  return streams.passThrough ? passesThrough : streams.name;
}
