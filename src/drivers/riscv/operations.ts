/** The functions of the RISC-V driver that a variant may replace; they are called through the table of the `Riscv` they are given. */
import { afterTimeOut, disableAts, drainPageRequests, enableAts } from './ats.ts';
import { flushDeviceTlb, flushIotlb, forgetKept } from './bonds.ts';
import { forgetDevice } from './context.ts';
import { markAborted } from './queue-fault-handler.ts';

export const riscvOperations = { forgetDevice, forgetKept, flushIotlb, flushDeviceTlb, enableAts, disableAts, drainPageRequests, afterTimeOut, markAborted };

export type RiscvOperations = typeof riscvOperations;
