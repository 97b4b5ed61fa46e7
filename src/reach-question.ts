/** What a device of a world reaches: the question in a user's words, and its answer. */
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { reachOf, takesPasids, type Reach } from './check/reach.ts';
import { View } from './check/view.ts';
import { PciFunction } from './hardware/function.ts';
import { IommuUnit, type UnitKind } from './hardware/unit.ts';
import { InputError, unknownName } from './input-error.ts';
import { functionNames } from './world-names.ts';

export interface Question {
  /** The function, by its name in the world. */
  readonly device: string;
  /** Null for requests without one. */
  readonly pasid: number | null;
  readonly iova: bigint;
}

/** Throws `InputError` for a device that the world does not have, or one without a unit. */
export function answer(host: Host, directory: Readonly<Record<string, number>>, { device, pasid, iova }: Question): Reach {
  const names = [...functionNames(host, directory).values()];
  if (!names.includes(device)) throw unknownName('device', device, names);
  const pciFunction = directory[device] as Ref<'PciFunction'>;
  const unit = PciFunction.unit.peek(host.kernel, pciFunction);
  if (unit === 0) throw new InputError(`no unit stands before '${device}': the mock IOMMU has no hardware`);
  const kind = IommuUnit.kind.peek(host.kernel, unit) as UnitKind;
  if (pasid !== null && !takesPasids(kind)) throw new InputError('--pasid: this unit takes no requests with a PASID; leave it out');
  return reachOf(new View(host.buffers), pciFunction, pasid ?? -1, Number(BigInt.asIntN(32, iova >> 32n)), Number(BigInt.asIntN(32, iova)));
}
