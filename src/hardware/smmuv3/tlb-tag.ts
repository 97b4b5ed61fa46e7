/**
 * How an SMMUv3's TLB tells address spaces apart, by VMID and ASID (SEMANTICS d.1), in lines that have a number of 16 bits and a PASID of 20
 * (`iotlb.ts`): a stage 1 alone by its ASID, a stage 2 alone by its VMID, a stage 1 on a stage 2 by both. A stage 1 alone has VMID 0, which no
 * stage 2 is ever given.
 */
import { firstStageTag } from '../iotlb.ts';

/** In place of a PASID: the ASID below it is one of a guest. */
const underVmid = 1 << 16;

export const numberOf = (vmid: number, asid: number): number => (vmid === 0 ? asid : vmid);
export const pasidOf = (vmid: number, asid: number): number => (vmid === 0 ? 0 : underVmid | asid);
/** The bits that all lines of stages 1 on a stage 2 have there, whichever ASID's. */
export const anyAsid = underVmid;

/** The stage word of a line of both stages. */
export const nestedTag = (vmid: number, asid: number): number => firstStageTag | pasidOf(vmid, asid);
/** Whether a line's number is a VMID. */
export const isUnderVmid = (firstStage: boolean, pasid: number): boolean => !firstStage || (pasid & underVmid) !== 0;
