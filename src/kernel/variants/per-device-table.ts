/** Seed 004, what was merged: a table for each device, as Linux 7.2 has it. */
import { variant } from '../variant.ts';

export default variant({ mistake: null, source: 'per-device PASID tables, v4.19 (seed 004)', caughtBy: null });
