/** The device TLB that is emptied while the IOTLB can still fill it. */
import { NULL, type Ref } from '#hostmem/object';
import type { Memory } from '#hostmem/memory';
import { flushDeviceTlb as flushOfRiscv, flushIotlb as iotlbOfRiscv } from '../../drivers/riscv/bonds.ts';
import { CacheTag } from '../../drivers/domain.ts';
import { flushDeviceTlb as flushOfVtd, flushIotlb as iotlbOfVtd } from '../../drivers/vtd/invalidation.ts';
import { variant } from '../variant.ts';

/** Of the device TLBs behind a unit on a domain's list, the next one. */
function following(kernel: Memory, tag: Ref<'CacheTag'>): Ref<'CacheTag'> {
  const next = CacheTag.next.read(kernel, tag);
  return next === NULL || CacheTag.function.peek(kernel, next) === NULL ? NULL : next;
}

export default variant({
  mistake: "invalidates the device's own cache before the IOTLB, from which it is filled again",
  source: 'SEMANTICS d.2, its last line, the other way round (model-derived; of RISC-V forward-looking: 7.2 has no ATS there)',
  caughtBy: 'C4',
  vtd: {
    flushIotlb(vtd, domain, unitTag, high, low, order, leafOnly) {
      for (let tag = following(vtd.kernel, unitTag); tag !== NULL; tag = following(vtd.kernel, tag)) flushOfVtd(vtd, tag, high, low, order);
      iotlbOfVtd(vtd, domain, unitTag, high, low, order, leafOnly);
    },
    flushDeviceTlb: () => {},
  },
  riscv: {
    flushIotlb(riscv, unitTag, pscid, high, low, pages) {
      for (let tag = following(riscv.kernel, unitTag); tag !== NULL; tag = following(riscv.kernel, tag)) flushOfRiscv(riscv, tag, high, low, pages);
      iotlbOfRiscv(riscv, unitTag, pscid, high, low, pages);
    },
    flushDeviceTlb: () => {},
  },
});
