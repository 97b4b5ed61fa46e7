/**
 * What a report's page does by itself: a cursor over the steps, moved by the keyboard, the pointer, a row of the table or an entry of a page table. It reads the steps
 * from the page's data block; the policy of the page names its hash.
 */
export const script = `
const { steps, held } = JSON.parse(document.getElementById('data').textContent);
const svg = document.getElementById('timeline'), cursor = document.getElementById('cursor'), now = document.getElementById('now'), scroll = document.querySelector('.scroll');
const rows = [...document.querySelectorAll('tbody tr')], column = Number(svg.dataset.column);
let at = 0;
function show(index, follow) {
  rows[at]?.classList.remove('at');
  at = Math.max(0, Math.min(steps.length - 1, index));
  const [step, actor, text] = steps[at], x = (step + 0.5) * column;
  for (const end of ['x1', 'x2']) cursor.setAttribute(end, x);
  rows[at].classList.add('at');
  now.textContent = 'step ' + step + ', ' + actor + ': ' + text + '\\n' + (held[at] === '' ? 'no lock is held' : 'held: ' + held[at]);
  if (!follow) return;
  rows[at].scrollIntoView({ block: 'nearest' });
  if (x < scroll.scrollLeft + 20 || x > scroll.scrollLeft + scroll.clientWidth - 20) scroll.scrollLeft = x - scroll.clientWidth / 2;
}
const nearest = (x) => { let best = 0; steps.forEach(([step], index) => { if (step <= x / column) best = index; }); return best; };
const moves = { ArrowRight: () => at + 1, ArrowLeft: () => at - 1, Home: () => 0, End: () => steps.length - 1,
  PageDown: () => { const a = steps[at][1]; const i = steps.findIndex(([, one], index) => index > at && one !== a); return i < 0 ? steps.length - 1 : i; },
  PageUp: () => { const a = steps[at][1]; return Math.max(0, steps.findLastIndex(([, one], index) => index < at && one !== a)); } };
scroll.addEventListener('keydown', (event) => { const move = moves[event.key]; if (move) { event.preventDefault(); show(move(), true); } });
svg.addEventListener('pointermove', (event) => show(nearest(event.clientX - svg.getBoundingClientRect().left), false));
rows.forEach((row, index) => row.addEventListener('click', () => show(index, true)));
for (const entry of document.querySelectorAll('[data-row]')) {
  const go = () => show(Number(entry.dataset.row), true);
  for (const event of ['pointerenter', 'focus']) entry.addEventListener(event, () => show(Number(entry.dataset.row), false));
  entry.addEventListener('click', go);
  entry.addEventListener('keydown', (event) => { if (event.key === 'Enter') go(); });
}
const first = rows.findIndex((row) => row.classList.contains('told'));
show(first < 0 ? steps.length - 1 : first, false);
scroll.scrollLeft = Number(cursor.getAttribute('x1')) - scroll.clientWidth / 2;
`;
