/** A host with a trusted side and one function behind it, mapped by the host and bound to a guest: what tests of the T bit start from. */
import { seenBy, type Visibility } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { LinkTsm, type TBitPolicy } from '#src/drivers/tsm/link-tsm';
import { PciFunction } from '#src/hardware/function';
import { Machine } from '#src/hardware/machine';
import { lockInterface, startInterface } from '#src/hardware/tdisp';

export const guest = 7;
/** Where the host's table has the frame, and where a guest's has it. */
export const hostIova = 0x1000;
export const guestIova = 0x2000;

export function confidentialMachine({ checksHits = true, reachesShared = true } = {}) {
  const host = Host.create(4 << 20, 2 << 20);
  Machine.create(host);
  const unit = Machine.addUnit(host);
  Machine.addTrustedSide(host, { checksHits, reachesShared });
  const pciFunction = Machine.addFunction(host, unit, { rid: 0x0108 });
  const machine = new Machine(host);
  VtdDriver.boot(host, machine);
  const driver = new VtdDriver(host, machine);
  driver.probe(pciFunction);
  const domain = driver.allocPagingDomain(pciFunction, 0);
  driver.attach(domain, pciFunction);
  const frame = host.frames.allocate(16 + guest);
  driver.map(domain, 0, hostIova, frame, 3);
  const tdi = PciFunction.tdi.peek(host.kernel, pciFunction);
  const tsm = LinkTsm.of(host)!;
  const dma = machine.dma(pciFunction);
  return {
    host, driver, domain, pciFunction, tdi, tsm, dma, frame,
    /** Binds the function to the guest, and has its table lead to the frame. */
    bind(policy: TBitPolicy, permissions: number = 3): void {
      tsm.bind(pciFunction, guest, policy);
      tsm.map(pciFunction, guestIova, frame, permissions);
    },
    run: () => startInterface(host.kernel, tdi, lockInterface(host.kernel, tdi)),
    see: (visibility: Visibility, of: number = guest, what: Frame = frame) => host.frames.pokeVisibility(what, seenBy(visibility, of)),
    read: (iova: number) => dma.read(0, iova, 4),
    readUntrusted(iova: number): number {
      dma.trusted!.untrusted = true;
      const reason = dma.read(0, iova, 4);
      dma.trusted!.untrusted = false;
      return reason;
    },
  };
}
