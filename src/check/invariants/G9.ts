/** G9, PASID isolation: what a request with a PASID reaches, somebody with both descriptors had authorised for that device and that number. */
import { pasidDma } from '../../hardware/events.ts';
import { PasidMoved, PasidMoves, PasidRevoked, PasidSubmitted } from '../../kernel/events.ts';
import { dmaPasid, frameText, functionText, ridOf } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** A PASID of a group goes through a domain, from the stamp where that became possible to the one where it ceased to be. */
interface Grant {
  readonly root: number;
  /** Who asked for it. */
  readonly process: number;
  readonly from: number;
  until: number;
}

/** Grants by group and PASID, oldest first; a transaction in flight spans few of them: old ones are dropped. */
type Grants = Map<string, Grant[]>;

const kept = 64;
/** No root table: what nothing is granted for. */
const nobody = 0;

export default invariant<Grants>({
  id: 'G9',
  claim: 'a DMA with a PASID reaches only the address space that the PASID of that device is authorised for, from the call that does it to the one that takes it back',
  events: [PasidMoves, PasidMoved, PasidRevoked, PasidSubmitted, pasidDma],
  start: (view) => new Map(view.beginning.pasids.map(({ group, pasid, root }) => [`${group}.${pasid}`, [{ root, process: view.processOwning(group), from: 0, until: Infinity }]])),
  step(grants, event, view) {
    if (event.kind === PasidMoves.kind) return begin(grants, `${PasidMoves.get.group(event)}.${PasidMoves.get.pasid(event)}`, PasidMoves.get.newRoot(event), PasidMoves.get.process(event), event.stamp);
    if (event.kind === PasidMoved.kind) return settle(grants, `${PasidMoved.get.group(event)}.${PasidMoved.get.pasid(event)}`, PasidMoved.get.root(event), event.stamp);
    if (event.kind === PasidSubmitted.kind) return judgeWork(grants, PasidSubmitted.get.group(event), PasidSubmitted.get.pasid(event), PasidSubmitted.get.process(event));
    if (event.kind === PasidRevoked.kind) return settle(grants, `${PasidRevoked.get.group(event)}.${PasidRevoked.get.pasid(event)}`, nobody, event.stamp);
    if (pasidDma.get.frame(event) === 0) return null;
    const pasid = dmaPasid(event);
    const known = grants.get(`${view.groupOf(ridOf(event))}.${pasid}`) ?? [];
    const begun = pasidDma.get.begin(event);
    if (known.some(({ root, from, until }) => root === pasidDma.get.root(event) && from <= event.stamp && until >= begun)) return null;
    return breach(`a DMA of ${functionText(event)} reached ${frameText(event)}, which nobody had authorised that PASID of that device for`);
  },
});

/** The shares of a device have one requester id: whose work it is, the tables cannot tell. */
function judgeWork(grants: Grants, group: number, pasid: number, process: number): Breach | null {
  const inForce = (grants.get(`${group}.${pasid}`) ?? []).filter(({ root, until }) => root !== nobody && until === Infinity);
  if (inForce.length === 0 || inForce.some((one) => one.process === process)) return null;
  return breach(`work of process ${process} was taken under PASID ${pasid}, which process ${inForce[0]!.process} had authorised for itself`);
}

function begin(grants: Grants, slot: string, root: number, process: number, stamp: number): null {
  const known = grants.get(slot);
  if (known === undefined) grants.set(slot, [{ root, process, from: stamp, until: Infinity }]);
  else known.push({ root, process, from: stamp, until: Infinity });
  return null;
}

/** Only the last grant of `root` is one from here on. */
function settle(grants: Grants, slot: string, root: number, stamp: number): null {
  const known = grants.get(slot) ?? [];
  const current = known.findLast((one) => one.root === root && one.until === Infinity);
  for (const one of known) if (one !== current && one.until === Infinity) one.until = stamp;
  if (known.length > kept) grants.set(slot, known.filter((one, index) => one === current || index >= known.length - kept / 2));
  return null;
}
