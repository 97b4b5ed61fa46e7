/**
 * From the start of a process until a host with so many VMs is ready, each with a device and a vIOMMU on threads of their own: all have joined the
 * host, with the whole model loaded. One operation is one start.
 */
import type { Question, SampledRow } from '../question.ts';
import { startFleet } from '../start-fleet.ts';

function rowOf(vms: number): SampledRow {
  return {
    name: vms === 1 ? '1-vm' : `${vms}-vms`,
    sample() {
      const { threads, readyMs, residentMiB } = startFleet(vms, 0);
      return { value: readyMs * 1e6, checksum: threads, mib: residentMiB / threads };
    },
  };
}

export default {
  asks: 'how long does it take until VMs, devices and vIOMMUs are ready on threads of their own, and how much memory?',
  prepare: (tiny) => ({ rows: (tiny ? [1, 2] : [1, 8, 64]).map(rowOf), rounds: 3 }),
} satisfies Question;
