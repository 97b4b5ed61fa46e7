/** Every call, with every allocation of it failing in turn: ENOMEM, and nothing is left behind. */
import type { Frame } from '#hostmem/memory';
import { free, NULL, tryAllocate, typeNumber, type Ref } from '#hostmem/object';
import type { ErrnoName } from '#src/kernel/errno';
import { World } from '#src/world';
import { expect, test } from 'vitest';
import { errnoOf, page, Vmm } from './vmm.ts';

const filler = typeNumber('TestFiller');
const classBytes = [64, 128, 256, 512, 1024, 2048, 4096];

/** Uses up the heap but for `spare` blocks of one class, and plenty of the others. Returns how to give it back. */
function starve(vmm: Vmm, bytes: number, spare: number): () => void {
  const memory = vmm.world.host.kernel;
  const taken: Ref[] = [];
  const given: Ref[] = [];
  for (const one of classBytes) for (let i = 0; i < 24; i++) given.push(tryAllocate(memory, filler, one - 8));
  for (const one of [...classBytes].reverse()) {
    for (let block = tryAllocate(memory, filler, one - 8); block !== NULL; block = tryAllocate(memory, filler, one - 8)) taken.push(block);
  }
  const wanted = classBytes.indexOf(bytes);
  given.forEach((block, index) => {
    if (Math.floor(index / 24) !== wanted || index % 24 < spare) free(memory, block, filler);
    else taken.push(block);
  });
  return () => taken.forEach((block) => free(memory, block, filler));
}

interface Stage {
  readonly vmm: Vmm;
  readonly fd: number;
  readonly ids: readonly number[];
  readonly fds: readonly number[];
  readonly va: bigint;
  readonly spareVfio: number;
}

function build(): Stage {
  const vmm = new Vmm(new World({ ramBytes: 1 << 20, kernelBytes: 512 << 10 }));
  const group = vmm.world.group('A', 'B', 'C');
  const lone = vmm.world.group('L');
  const fd = vmm.iommufd();
  const va = vmm.process.memory(8 * page);
  const ids = [0, 1, 2].map(() => vmm.ioas(fd));
  for (const id of ids) for (const at of [0x1000, 0x5000]) vmm.map(fd, id, at, va, 2 * page);
  const fds = [group.vfio[0]!, group.vfio[1]!].map((number) => vmm.process.bind(number, fd));
  vmm.attach(fds[0]!, ids[0]!);
  vmm.attach(fds[1]!, ids[0]!);
  const alone = vmm.process.bind(lone.vfio[0]!, fd);
  return { vmm, fd, ids, fds: [...fds, alone], va, spareVfio: vmm.openVfio(group.vfio[2]!) };
}

const failed = (result: unknown): result is ErrnoName => typeof result === 'string';

const calls: Record<string, (stage: Stage) => unknown> = {
  'open of /dev/iommu': ({ vmm }) => errnoOf(() => vmm.iommufd()),
  'open of a device': ({ vmm }) => errnoOf(() => vmm.openVfio(0)),
  IOAS_ALLOC: ({ vmm, fd }) => errnoOf(() => vmm.ioas(fd)),
  'BIND of a member': ({ vmm, fd, spareVfio }) => vmm.bindTo(spareVfio, fd),
  'MAP with a domain': ({ vmm, fd, ids, va }) => vmm.map(fd, ids[0]!, 0x9000, va, 3 * page),
  'MAP without a domain': ({ vmm, fd, ids, va }) => vmm.map(fd, ids[1]!, 0x9000, va, 3 * page),
  'MAP of the kernel\'s choice': ({ vmm, fd, ids, va }) => vmm.place(fd, ids[0]!, va, page),
  ALLOW_IOVAS: ({ vmm, fd, ids }) => vmm.allow(fd, ids[0]!, [0x1000n, 0xffffn], [0x20000n, 0x2ffffn], [0x40000n, 0x4ffffn]),
  'first ATTACH': ({ vmm, fds, ids }) => vmm.attach(fds[2]!, ids[1]!),
  'HWPT_ALLOC with a queue': ({ vmm, fd, ids }) => {
    const queue = { flags: 0, outFaultId: 0, outFaultFd: 0 };
    const failedEarly = vmm.ioctl(fd, 'IOMMU_FAULT_QUEUE_ALLOC', queue);
    if (failedEarly !== null) return failedEarly;
    const result = vmm.ioctl(fd, 'IOMMU_HWPT_ALLOC', { flags: 4, devId: 4, ptId: ids[1]!, faultId: queue.outFaultId, outHwptId: 0 });
    vmm.close(queue.outFaultFd);
    if (result !== null) vmm.destroy(fd, queue.outFaultId);
    return result;
  },
  'COPY of two mappings': ({ vmm, fd, ids, va }) => {
    const third = vmm.map(fd, ids[1]!, 0x7000, va, page);
    if (third !== null) return third;
    const result = vmm.ioctl(fd, 'IOMMU_IOAS_COPY', { flags: 7, dstIoasId: ids[0]!, srcIoasId: ids[1]!, length: 0x3000n, dstIova: 0x9000n, srcIova: 0x5000n });
    if (result !== null) vmm.unmap(fd, ids[1]!, 0x7000, page);
    return result;
  },
  'replace of a group': ({ vmm, fds, ids }) => vmm.attach(fds[1]!, ids[1]!),
};

/** A claim that a failed bind forgot would keep other contexts out. */
function expectNobodyOwnsTheGroup({ vmm, fds, spareVfio }: Stage): void {
  for (const device of [...fds, spareVfio]) vmm.close(device);
  expect(vmm.bindTo(vmm.openVfio(0), vmm.iommufd())).toBe(1);
}

test.each(Object.keys(calls))('%s: without memory for one of its objects it is ENOMEM and leaves nothing behind', (name) => {
  let failures = 0;
  for (const bytes of classBytes) {
    for (let spare = 0; spare < 24; spare++) {
      const stage = build();
      const giveBack = starve(stage.vmm, bytes, spare);
      const before = stage.vmm.ledger();
      const ranges = stage.ids.map((id) => stage.vmm.ranges(stage.fd, id));
      const result = calls[name]!(stage);
      if (failed(result) && result === 'ENOMEM') {
        failures++;
        expect({ ...stage.vmm.ledger(), frames: 0 }).toEqual({ ...before, frames: 0 });
        expect(stage.ids.map((id) => stage.vmm.ranges(stage.fd, id))).toEqual(ranges);
      } else expect(failed(result)).toBe(false);
      giveBack();
      if (!failed(result)) break;
      expect(failed(calls[name]!(stage))).toBe(false);
      expectNobodyOwnsTheGroup(stage);
    }
  }
  expect(failures).toBeGreaterThan(0);
});

test.each(['MAP with a domain', 'first ATTACH', 'replace of a group'])('%s: without RAM for one of its tables it is ENOMEM and leaves no mapping', (name) => {
  let failures = 0;
  for (let spare = 0; ; spare++) {
    const stage = build();
    // Another gigabyte: its tables are still to be made.
    const [vmm, far] = [stage.vmm, { ...stage, va: stage.va }];
    if (name !== 'MAP with a domain') vmm.map(stage.fd, stage.ids[1]!, 0x40000000, stage.va, page);
    const { frames } = vmm.world.host;
    const taken: Frame[] = [];
    for (let frame = frames.allocate(1); frame !== 0; frame = frames.allocate(1)) taken.push(frame);
    for (let i = 0; i < spare; i++) frames.drop(taken.pop()!);
    const before = vmm.ledger();
    const call = name === 'MAP with a domain' ? () => vmm.map(far.fd, far.ids[0]!, 0x40000000, far.va, page) : () => calls[name]!(stage);
    const result = call();
    if (failed(result)) {
      expect(result).toBe('ENOMEM');
      failures++;
      expect({ ...vmm.ledger(), frames: 0 }).toEqual({ ...before, frames: 0 });
      for (const frame of taken) frames.drop(frame);
      expect(failed(call())).toBe(false);
      continue;
    }
    expect(failures).toBeGreaterThan(0);
    return;
  }
});

test('mmap without RAM or kernel memory is ENOMEM and gives everything back', async () => {
  const { mmap } = await import('#src/kernel/process');
  const { vmm } = build();
  const { kernel } = vmm.world;
  const before = vmm.ledger();
  expect(errnoOf(() => mmap(kernel, vmm.process.ref, 2 << 20, true, null))).toBe('ENOMEM');
  expect(vmm.ledger()).toEqual(before);
  for (let spare = 0; spare < 3; spare++) {
    const giveBack = starve(vmm, 64, spare);
    const starved = vmm.ledger();
    const errno = errnoOf(() => mmap(kernel, vmm.process.ref, page, true, null));
    if (errno !== null) expect([errno, vmm.ledger()]).toEqual(['ENOMEM', starved]);
    giveBack();
  }
});
