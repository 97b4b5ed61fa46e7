/** The functions of the RISC-V driver that a variant may replace; they are called through the table of the `Riscv` they are given. */
import { afterTimeOut, disableAts, enableAts } from './ats.ts';
import { flushDeviceTlb, flushIotlb } from './bonds.ts';
import { forgetDevice } from './context.ts';
import { markAborted } from './queue-fault-handler.ts';

export const riscvOperations = { forgetDevice, flushIotlb, flushDeviceTlb, enableAts, disableAts, afterTimeOut, markAborted };

export type RiscvOperations = typeof riscvOperations;
