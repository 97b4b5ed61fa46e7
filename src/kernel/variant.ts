/**
 * A kernel that differs from Linux 7.2 in one function: a mistake to be caught, or a proposal to be judged.
 */
import { linux72, type Operations } from './operations.ts';

type Changes = { readonly [Table in keyof Operations]?: Partial<Operations[Table]> };

export interface Variant extends Changes {
  /** What it does wrong, in one sentence; null for one that holds. */
  readonly mistake: string | null;
  /** Commit, CVE or message that it is taken from. */
  readonly source: string;
  /** The id of the invariant that catches it; null for one that holds. */
  readonly caughtBy: string | null;
  /** Ids of invariants beyond the scenario's: what was wished of this design, and 7.2 does not promise. */
  readonly judgedBy?: readonly string[];
}

export function variant(definition: Variant): Variant {
  return Object.freeze(definition);
}

/** Linux 7.2 as the specification has it. */
export const correct: Variant = variant({ mistake: null, source: 'Linux 7.2.13', caughtBy: null });

/** The same, where a scenario meets what is wrong with it. */
export const as72 = (caughtBy: string): Variant => variant({ ...correct, mistake: 'has the faults of Linux 7.2 (docs/faults-of-7.2.md)', caughtBy });

/** The tables in force under a variant. */
export function operationsOf(changes: Variant): Operations {
  return Object.freeze({
    objects: Object.freeze({ ...linux72.objects, ...changes.objects }),
    group: Object.freeze({ ...linux72.group, ...changes.group }),
    attach: Object.freeze({ ...linux72.attach, ...changes.attach }),
    iopt: Object.freeze({ ...linux72.iopt, ...changes.iopt }),
    pages: Object.freeze({ ...linux72.pages, ...changes.pages }),
    access: Object.freeze({ ...linux72.access, ...changes.access }),
    vdevice: Object.freeze({ ...linux72.vdevice, ...changes.vdevice }),
    driver: Object.freeze({ ...linux72.driver, ...changes.driver }),
    tsm: Object.freeze({ ...linux72.tsm, ...changes.tsm }),
    confidential: Object.freeze({ ...linux72.confidential, ...changes.confidential }),
    dma: Object.freeze({ ...linux72.dma, ...changes.dma }),
    pasid: Object.freeze({ ...linux72.pasid, ...changes.pasid }),
    iopf: Object.freeze({ ...linux72.iopf, ...changes.iopf }),
    viommu: Object.freeze({ ...linux72.viommu, ...changes.viommu }),
    kvm: Object.freeze({ ...linux72.kvm, ...changes.kvm }),
    vtd: Object.freeze({ ...linux72.vtd, ...changes.vtd }),
    amd: Object.freeze({ ...linux72.amd, ...changes.amd }),
    smmuv3: Object.freeze({ ...linux72.smmuv3, ...changes.smmuv3 }),
    riscv: Object.freeze({ ...linux72.riscv, ...changes.riscv }),
    faults: Object.freeze({ ...linux72.faults, ...changes.faults }),
  });
}
