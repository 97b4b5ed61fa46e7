/** The functions of the RISC-V driver that a variant may replace; they are called through the table of the `Riscv` they are given. */
import { forgetDevice } from './context.ts';

export const riscvOperations = { forgetDevice };

export type RiscvOperations = typeof riscvOperations;
