/** The style of a report's page, light and dark. The policy of the page names its hash: no element has a style of its own. */
export const style = `
:root { color-scheme: light dark; --ink: #1c2330; --dim: #5c6675; --paper: #fbfbf9; --card: #ffffff; --line: #d9dce1; --run: #b9c3d3; --bad: #c2255c; --window: #ffe3ec;
  --c0: #1971c2; --c1: #2f9e44; --c2: #e8590c; --c3: #7048e8; --c4: #0c8599; --c5: #a67c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --dim: #9aa4b2; --paper: #14171c; --card: #1b1f26; --line: #343b46; --run: #4a5666; --bad: #ff6b9a; --window: #3d1f2b;
  --c0: #4dabf7; --c1: #69db7c; --c2: #ffa94d; --c3: #b197fc; --c4: #3bc9db; --c5: #ffd43b; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 20px clamp(12px, 3vw, 40px) 60px; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 20px; line-height: 1.3; margin: 0 0 6px; } h1 b { color: var(--bad); } h2 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 4px 0; max-width: 78ch; } .dim { color: var(--dim); } code, pre, .mono { font: 13px/1.5 ui-monospace, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px; overflow-x: auto; margin: 8px 0; }
.drawing { display: flex; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
.names { flex: none; max-width: 34%; padding: 18px 0 4px; border-right: 1px solid var(--line); }

.names span { padding-top: 4px; overflow: hidden; text-overflow: ellipsis; } .names div { display: flex; align-items: flex-start; padding: 0 10px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; font-weight: 600; font-size: 13px; }
.scroll { overflow-x: auto; flex: 1; min-width: 0; } .scroll:focus-visible, tr:focus-visible { outline: 2px solid var(--c0); outline-offset: -2px; }
svg { display: block; } text.tick { fill: var(--dim); font: 10px system-ui, sans-serif; text-anchor: middle; } line.tick { stroke: var(--line); }
.window { fill: var(--window); } .run { fill: var(--run); } .event { fill: var(--card); stroke: var(--ink); stroke-width: 1.5; } .write { fill: var(--bad); }
.dma { stroke: var(--card); stroke-width: 1; } .pause { stroke: var(--bad); stroke-width: 2; stroke-dasharray: 2 4; } .cursor { stroke: var(--ink); stroke-width: 1; }
.c0 { fill: var(--c0); } .c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); } .c4 { fill: var(--c4); } .c5 { fill: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 8px 0; color: var(--dim); font-size: 13px; align-items: center; } .legend svg { display: inline-block; vertical-align: -2px; margin-right: 5px; }
#now { min-height: 3em; } .table { overflow: auto; max-height: 420px; border: 1px solid var(--line); border-radius: 6px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 13px; } th, td { text-align: left; padding: 3px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { position: sticky; top: 0; background: var(--card); } td:first-child { text-align: right; font-variant-numeric: tabular-nums; } tr.at { background: var(--window); } tr.told td { font-weight: 600; }
.address { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 8px 12px; margin: 8px 0; } .address h3 { font: 600 14px/1.4 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
.way, .lines { list-style: none; margin: 6px 0 0; padding: 0; font: 13px/1.5 ui-monospace, monospace; } .way li { border-left: 3px solid var(--run); padding: 2px 8px; display: grid; grid-template-columns: minmax(0, 16em) 8em minmax(0, 1fr); gap: 0 12px; overflow-wrap: anywhere; }
.way li[data-row] { cursor: pointer; border-left-color: var(--c0); } .way li[data-row]:hover, .way li[data-row]:focus-visible { background: var(--window); outline: none; } .way li.end { display: block; border-left-color: var(--ink); font-weight: 600; } .way small { grid-column: 1 / -1; color: var(--dim); }
.lines li { padding: 2px 8px; border-left: 3px solid var(--c1); } .lines li.stale { border-left-color: var(--bad); background: var(--window); } .lines b { color: var(--bad); }
@media (max-width: 640px) { .way li { grid-template-columns: 1fr auto; } .way li span:nth-child(3) { grid-column: 1 / -1; } }
`;
