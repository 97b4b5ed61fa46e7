/** What a driver does about a device that has not answered an invalidation of its device TLB. */
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PciFunction } from '../hardware/function.ts';
import { IommuUnit } from '../hardware/unit.ts';

/** What becomes of a submission whose wait came to nothing. */
export const AfterTimeOut = { DONE: 0, AGAIN: 1, GIVE_UP: 2 } as const;
export type AfterTimeOut = (typeof AfterTimeOut)[keyof typeof AfterTimeOut];

/** Who is not there any more is not asked again. */
export function askAgain(kernel: Memory, unit: Ref<'IommuUnit'>, rid: number): AfterTimeOut {
  let at: Ref<'PciFunction'> = IommuUnit.firstFunction.peek(kernel, unit);
  while (at !== NULL && PciFunction.rid.peek(kernel, at) !== rid) at = PciFunction.nextOfUnit.peek(kernel, at);
  return at === NULL || PciFunction.gone.load(kernel, at) !== 0 ? AfterTimeOut.GIVE_UP : AfterTimeOut.AGAIN;
}
