/** The functions of the AMD driver that a variant may replace; they call each other through the table of the `Amd` they are given. */
import { attachIdentity, attachPaging, block } from './attach.ts';
import { completionWait, queueCommand } from './commands.ts';
import { writeEntry } from './device-table.ts';
import { flushRange } from './flush.ts';
import { raiseTop, readTop } from './top.ts';

export const amdOperations = { queueCommand, completionWait, writeEntry, readTop, raiseTop, flushRange, block, attachPaging, attachIdentity };

export type AmdOperations = typeof amdOperations;
