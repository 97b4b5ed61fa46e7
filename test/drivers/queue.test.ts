import { peek, poke } from '#hostmem/atomics';
import { InFlight, PciFunction } from '#src/hardware/function';
import { IommuUnit } from '#src/hardware/unit';
import { VtdRegisters } from '#src/hardware/vtd/registers';
import { Batch } from '#src/drivers/vtd/batch';
import { vtdOperations } from '#src/drivers/vtd/operations';
import { submit } from '#src/drivers/vtd/queue';
import { VtdUnitState } from '#src/drivers/vtd/unit-state';
import { Vtd } from '#src/drivers/vtd/vtd';
import type { Ref } from '#hostmem/object';
import { expect, test } from 'vitest';
import { Interposer, smallMachine } from '../hardware/small-machine.ts';

function queue(): { vtd: Vtd; submitOne: (batch: Batch) => ReturnType<typeof vtdOperations.submit>; free: () => number; head: () => number } {
  const small = smallMachine();
  const vtd = new Vtd(small.host, small.machine, vtdOperations);
  const unit = vtd.units[0]!;
  const state = IommuUnit.driverData.peek(vtd.kernel, unit.ref) as Ref<'VtdUnitState'>;
  return {
    vtd,
    submitOne: (batch) => submit(vtd, unit, batch),
    free: () => VtdUnitState.queueFree.peek(vtd.kernel, state),
    head: () => VtdRegisters.queueHead.peek(vtd.kernel, unit.registers) / 16,
  };
}

test('submissions go round the ring again and again, and all slots are free at rest', () => {
  const { vtd, submitOne, free, head } = queue();
  const batch = new Batch();
  let descriptors = 0;
  for (let round = 0; round < 400; round++) {
    batch.clear();
    for (let i = 0; i <= round % 7; i++) batch.iotlbOfDomain(i);
    expect(submitOne(batch)).toBe(0);
    descriptors += batch.length + 1;
    expect([head(), free()]).toEqual([descriptors % vtd.units[0]!.ringLength, vtd.units[0]!.ringLength]);
  }
});

test('who submits a descriptor that the unit refuses gets EINVAL, and the queue goes on', () => {
  const { vtd, submitOne, free } = queue();
  expect(submitOne(new Batch().iotlbOfDomain(1).push(0xf, 0, 0, 0).iotlbOfDomain(2))).toBe('EINVAL');
  expect(submitOne(new Batch().iotlbOfDomain(1))).toBe(0);
  expect(free()).toBe(vtd.units[0]!.ringLength);
});

test('a submission is two points: the tail, and the wait', () => {
  const { vtd, submitOne } = queue();
  const interposer = new Interposer(vtd.host);
  interposer.during(() => void submitOne(new Batch().iotlbAll()), 'VtdQueue.status', () => vtd.units[0]!.queue.help());
  expect(interposer.points).toEqual(['VtdRegisters.queueTail', 'VtdQueue.status']);
});

test('a device that is gone answers nothing: the wait is dropped, its submitter is told, and what comes behind is carried out', () => {
  const { host, machine, functions, engines, registers } = smallMachine({ ats: true }, [{ rid: 0x108, ats: true }, { rid: 0x110, ats: true }]);
  const vtd = new Vtd(host, machine, vtdOperations);
  const unit = vtd.units[0]!;
  const batch = new Batch();
  const flush = (rid: number) => submit(vtd, unit, batch.clear().deviceTlb(rid, 0, 0, 52));
  expect(flush(0x108)).toBe(0);
  engines[0]!.leave();
  expect(flush(0x108)).toBe('ETIMEDOUT');
  expect([VtdRegisters.faultStatus.peek(vtd.kernel, registers), VtdRegisters.timedOutSource.peek(vtd.kernel, registers)]).toEqual([0, 0x108]);
  expect([flush(0x110), submit(vtd, unit, batch.clear().iotlbAll())]).toEqual([0, 0]);
  engines[0]!.comeBack();
  expect([flush(0x108), PciFunction.gone.peek(vtd.kernel, functions[0]!)]).toEqual([0, 0]);
  expect(VtdUnitState.queueFree.peek(vtd.kernel, unit.state)).toBe(256);
});

test('who comes back after the time-out is asked again', () => {
  const { host, machine, engines } = smallMachine({ ats: true }, [{ rid: 0x108, ats: true }]);
  let timeOuts = 0;
  const afterTimeOut: typeof vtdOperations.afterTimeOut = (...args) => {
    timeOuts++;
    engines[0]!.comeBack();
    return vtdOperations.afterTimeOut(...args);
  };
  const vtd = new Vtd(host, machine, { ...vtdOperations, afterTimeOut });
  engines[0]!.leave();
  expect(submit(vtd, vtd.units[0]!, new Batch().deviceTlb(0x108, 0, 0, 52))).toBe(0);
  expect(timeOuts).toBe(1);
});

test('who has to wait for a device lets go of the queue meanwhile', () => {
  const { host, machine, functions } = smallMachine();
  const vtd = new Vtd(host, machine, vtdOperations);
  const unit = vtd.units[0]!;
  const inFlight = PciFunction.inFlight.address(host.kernel, functions[0]!);
  const held: number[] = [];
  const help = unit.queue.help.bind(unit.queue);
  unit.queue.help = () => {
    held.push(peek(host.kernel, unit.lockAt));
    // The transaction is over while somebody waits for it.
    if (held.length === 3) poke(host.kernel, inFlight, 0);
    help();
  };
  poke(host.kernel, inFlight, InFlight.BUSY);
  expect(submit(vtd, unit, new Batch().iotlbAll())).toBe(0);
  expect([held, peek(host.kernel, unit.lockAt)]).toEqual([[1, 0, 0], 0]);
});
