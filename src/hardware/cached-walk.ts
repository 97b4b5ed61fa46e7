/**
 * What a unit of AMD or Arm does once it knows a requester's page tables: IOTLB, tables, fill. In a controlled run the points are the IOTLB,
 * each page-table entry, and the fill. Neither has a paging-structure cache here, which is always allowed.
 */
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Frame, Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { WalkFault, WalkResult, type PageWalker } from '#hostmem/page-walk';
import { tellDeadTable } from './dead-table.ts';
import { IotlbView } from './iotlb.ts';
import { IommuUnit } from './unit.ts';

/** Where a requester's translations come from. */
export interface Walked {
  tables: PageWalker;
  root: Frame;
  /** The table by which reports name the domain. */
  name: Frame;
  /** Number and stage of the IOTLB's tag. */
  tag: number;
  stageTag: number;
  /** `Access` bits that the requester's entry leaves. */
  permissions: number;
}

export class CachedWalk {
  /** Of the last translation. */
  frame = 0 as Frame;
  hit = false;
  readonly iotlb: IotlbView;
  readonly #kernel: Memory;
  readonly #frames: Frames;
  readonly #walk = new WalkResult();

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    this.#kernel = host.kernel;
    this.#frames = host.frames;
    this.iotlb = new IotlbView(host.kernel, IommuUnit.iotlb.peek(host.kernel, unit));
  }

  /** A hit without permission is walked: the tables, not a cached line, say why a request is refused. */
  translate(walked: Walked, sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): WalkFault {
    const iotlb = this.iotlb;
    this.hit = isTagged(iovaHigh) && iotlb.lookup(walked.tag, iovaHigh, iovaLow, walked.stageTag) && (iotlb.permissions & access) === access;
    if (this.hit) {
      this.frame = iotlb.frame;
      return WalkFault.NONE;
    }
    const walk = this.#walk;
    const fault = walked.tables.walk(walked.root, iovaHigh, iovaLow, access, walk);
    if (this.#kernel.history !== null) tellDeadTable(this.#kernel, this.#frames, sourceId, walk);
    if (fault !== WalkFault.NONE) return fault;
    const permissions = walk.permissions & walked.permissions;
    if ((access & ~permissions) !== 0) return access === Access.READ ? WalkFault.READ_DENIED : WalkFault.WRITE_DENIED;
    this.frame = walk.frame;
    if (isTagged(iovaHigh)) iotlb.fill(walked.tag, iovaHigh, iovaLow, walk.frame, permissions, walked.name, epoch, walked.stageTag);
    return WalkFault.NONE;
  }
}

/** A line of the IOTLB has room for 60 bits of IOVA. */
const isTagged = (iovaHigh: number): boolean => iovaHigh >>> 28 === 0;
