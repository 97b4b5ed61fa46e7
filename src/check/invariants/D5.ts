/** D5, hitless replace: where the unit promises it, what the old and the new domain both map is reached at every moment of the move. */
import { Hitless } from '../../hardware/unit.ts';
import { functionText, iovaText, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';
import { faultedMove, moveEvents, noMoves, type Moves } from '../moves.ts';

export default invariant<Moves>({
  id: 'D5',
  claim: 'where the unit is declared hitless, no DMA faults during a replace on what the old and the new domain both map',
  events: moveEvents,
  start: noMoves,
  step(moves, event, view) {
    const move = faultedMove(moves, event, view);
    if (move === null) return null;
    const declared = view.hitlessOf(ridOf(event));
    const [old, next] = move.roots.map((root) => moves.formatOfRoot.get(root));
    if (declared === Hitless.NEVER || (declared === Hitless.BETWEEN_STAGES && old === next)) return null;
    return breach(`a DMA of ${functionText(event)} faulted on ${iovaText(event)} during a move of its group between two domains that both map it`);
  },
});
