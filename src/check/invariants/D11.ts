/**
 * D11, no break window: what a VMM would wish of a replace, and Linux 7.2 promises on no unit but SMMUv3's, between stages (D5 holds a unit to what it is declared to
 * do). Recorded of VT-d and AMD: a loop of replaces, and DMA beside it that faults now and then. What promises it is judged by it (`judgedBy`).
 */
import { DmaFlags, dma } from '../../hardware/events.ts';
import { functionText, iovaText } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';
import { faultedMove, moveEvents, noMoves, type Moves } from '../moves.ts';

export default invariant<Moves>({
  id: 'D11',
  claim: 'no DMA faults during a replace on what the old and the new domain both map, whatever the unit is declared to do',
  events: moveEvents,
  start: noMoves,
  step(moves, event, view) {
    if (faultedMove(moves, event, view) === null) return null;
    const reason = (dma.get.function(event) >>> DmaFlags.reasonShift).toString(16);
    return breach(`a DMA of ${functionText(event)} faulted on ${iovaText(event)}, reason 0x${reason}, which the old domain of its group maps and the new one too`);
  },
});
