/** One random call of a table. */
import type { Vm } from '../vm.ts';
import { Storm, type StormCall, type StormStage } from './storm.ts';

export function stormStep(vm: Vm, stage: StormStage, calls: readonly StormCall[]): void {
  const storm = new Storm(vm, stage);
  storm.oneOf(calls)(storm);
}
