/** Runs `fleet.ts` in a process of its own, and waits for it. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FleetReport } from './fleet.ts';

const program = fileURLToPath(new URL('./fleet.js', import.meta.url));

export function startFleet(vms: number, seconds: number): FleetReport {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, `${vms}`, `${seconds}`], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the fleet of ${vms} VMs ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as FleetReport;
}
