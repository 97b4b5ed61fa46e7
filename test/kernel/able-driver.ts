/** A VT-d driver that pretends to have what none has in 7.2: nesting, dirty tracking, vIOMMUs. It counts what it is asked. */
import { copyStruct } from '#src/drivers/user-data';
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { DomainKind, IommuDomain } from '#src/drivers/domain';
import type { DirtyRanges, Invalidations, IommuDriver } from '#src/drivers/driver';
import type { ErrnoName } from '#src/kernel/errno';
import { Kernel } from '#src/kernel/kernel';
import { linux72, type Operations } from '#src/kernel/operations';
import { close, ioctl, type Commands } from '#src/kernel/syscalls';
import { errnoOf, page, Vmm } from './vmm.ts';

/** What it knows: pages that were written, vdevices and queues that it was told of. */
export class Pretended {
  readonly dirty = new Set<bigint>();
  readonly vdevices = new Set<bigint>();
  readonly queues = new Set<number>();
  viommus = 0;
  nested = 0;
}

/** The type of vIOMMU, of hardware queue and of data that it has. */
export const known = 7;

function extensions(host: Host, driver: IommuDriver, state: Pretended): Partial<IommuDriver> {
  const memory = host.kernel;
  const nest = (): Ref<'IommuDomain'> => {
    const domain = IommuDomain.create(memory);
    IommuDomain.kind.poke(memory, domain, DomainKind.NESTED);
    state.nested++;
    return domain;
  };
  const isNested = (domain: Ref<'IommuDomain'>): boolean => IommuDomain.kind.peek(memory, domain) === DomainKind.NESTED;
  /** Entries are bytes; 0 is done, anything else refused. */
  const invalidate = (_: unknown, asked: Invalidations): 0 | ErrnoName => {
    if (asked.type !== known) return 'EINVAL';
    for (; asked.handled < asked.count; asked.handled++) {
      if (asked.handled >= asked.bytes.length) return 'EFAULT';
      if (asked.bytes[asked.handled] !== 0) return 'EIO';
    }
    return 0;
  };
  return {
    allocPagingDomain(pciFunction, flags) {
      const domain = driver.allocPagingDomain(pciFunction, flags & ~3);
      IommuDomain.dirtyTracking.poke(memory, domain, flags & 2);
      return domain;
    },
    freeDomain(domain) {
      if (!isNested(domain)) return driver.freeDomain(domain);
      state.nested--;
      IommuDomain.free(memory, domain);
    },
    attach: (domain, pciFunction) => (isNested(domain) ? 0 : driver.attach(domain, pciFunction)),
    allocNestedDomain: nest,
    invalidateNested: invalidate,
    setDirtyTracking: () => 0,
    readAndClearDirty(_, iova, bytes, clear, found: DirtyRanges) {
      for (const at of state.dirty) {
        if (at < iova || at >= iova + bytes) continue;
        found.iovas.push(at);
        found.lengths.push(BigInt(page));
        if (clear) state.dirty.delete(at);
      }
      return 0;
    },
    hasViommu: (_, type) => type === known,
    viommuInit(_, _parent, data) {
      copyStruct(data, 0, 3);
      return { viommu: ++state.viommus, answer: Uint8Array.of(9, 9) };
    },
    viommuDestroy: () => void state.viommus--,
    viommuAllocNested: nest,
    viommuInvalidate: invalidate,
    vdeviceInit: (_, _function, virtId) => (state.vdevices.add(virtId), 0),
    vdeviceDestroy: (_, _function, virtId) => void state.vdevices.delete(virtId),
    hasHwQueue: (_, type) => type === known,
    hwQueueInit: (_, index) => (index > 1 ? 'EINVAL' : (state.queues.add(index), 0)),
    hwQueueDestroy: (_, index) => void state.queues.delete(index),
  };
}

/** A VMM whose kernel has such a driver, with a device of its own: IOAS 1, DEVICE 2. */
export class AbleVmm extends Vmm {
  readonly state = new Pretended();
  readonly kernel: Kernel;
  readonly fd: number;
  readonly vfio: number;
  readonly ioasId: number;

  constructor(operations: Operations = linux72) {
    super();
    const group = this.world.group('A');
    const { host } = this.world;
    const { driver } = this.world.kernel;
    const extra: Record<PropertyKey, unknown> = { ...extensions(host, driver, this.state) };
    const able = new Proxy(driver, {
      get(target, name) {
        const value: unknown = extra[name] ?? Reflect.get(target, name, target);
        return typeof value === 'function' && extra[name] === undefined ? (value.bind(target) as unknown) : value;
      },
    });
    this.kernel = new Kernel(host, operations, able);
    this.fd = this.iommufd();
    this.ioasId = this.ioas(this.fd);
    this.vfio = this.process.bind(group.vfio[0]!, this.fd);
  }

  override enter(): void {
    super.enter();
    // The constructor of the base does not come here.
    this.kernel?.enter(this.process.ref);
  }

  override ioctl<N extends keyof Commands>(fd: number, command: N, arg: Commands[N]): ErrnoName | null {
    this.enter();
    return errnoOf(() => ioctl(this.kernel, fd, command, arg));
  }

  override close(fd: number): void {
    this.enter();
    close(this.kernel, fd);
  }

  /** The id of a new HWPT on the IOAS, or of one nested on `ptId`; or the errno. */
  hwpt(flags: number, ptId: number = this.ioasId, data?: Uint8Array): number | ErrnoName {
    const arg = { flags, devId: 2, ptId, outHwptId: 0, ...(data === undefined ? {} : { dataType: known, dataLength: data.length, data }) };
    return this.ioctl(this.fd, 'IOMMU_HWPT_ALLOC', arg) ?? arg.outHwptId;
  }

  viommu(hwptId: number, type: number = known): number | ErrnoName {
    const arg = { flags: 0, type, devId: 2, hwptId, outViommuId: 0 };
    return this.ioctl(this.fd, 'IOMMU_VIOMMU_ALLOC', arg) ?? arg.outViommuId;
  }

  vdevice(viommuId: number, virtId: bigint): number | ErrnoName {
    const arg = { viommuId, devId: 2, virtId, outVdeviceId: 0 };
    return this.ioctl(this.fd, 'IOMMU_VDEVICE_ALLOC', arg) ?? arg.outVdeviceId;
  }
}
