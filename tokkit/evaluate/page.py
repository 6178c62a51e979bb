"""The style sheet and the script of the report; colours and charts apart, for drawings that stand alone."""

THEME = """
:root { color-scheme: light dark; --back:#f6f7f9; --card:#fff; --text:#1b1f24; --soft:#5b6573; --line:#dfe3e8;
  --accent:#2458d6; --bad:#b3261e;
  --series-0:#2458d6; --series-1:#d9622b; --series-2:#1b8a5a; --series-3:#8a3ffc; --series-4:#b8860b; --series-5:#c2185b;
  --series-6:#00838f; --series-7:#5d4037 }
@media (prefers-color-scheme: dark) { :root { --back:#0f1216; --card:#181c22; --text:#e7eaee; --soft:#9aa5b3; --line:#2b323b;
  --accent:#7aa2ff; --bad:#ff8a80;
  --series-0:#7aa2ff; --series-1:#ff9a66; --series-2:#5fd3a0; --series-3:#c4a3ff; --series-4:#f0c34e; --series-5:#ff7fab;
  --series-6:#4dd0e1; --series-7:#bcaaa4; } }
"""

CHART = """
.chart { width:100%; height:auto; display:block }
.chart .grid { stroke:var(--line); stroke-width:1 }
.chart .tick { fill:var(--soft); font-size:12px }
.chart .axis { fill:var(--text); font-size:13px }
.chart .line { fill:none; stroke:var(--own); stroke-width:2 }
.chart .strong { stroke-width:3 }
.chart .mark { fill:var(--own); stroke:var(--card); stroke-width:1.5 }
"""

STYLE = (
    f"{THEME}{CHART}"
    + """
* { box-sizing:border-box }
body { margin:0; background:var(--back); color:var(--text); font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
main { max-width:1180px; margin:0 auto; padding:28px 20px 60px }
h1 { font-size:26px; margin:0 0 4px; letter-spacing:-.01em; overflow-wrap:anywhere }
h2 { font-size:18px; margin:36px 0 10px }
p, li { max-width:80ch }
.soft { color:var(--soft) }
.bad { color:var(--bad) }
.card { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:16px 18px; overflow-x:auto }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(170px,1fr)); gap:12px; margin:20px 0 0 }
.tiles .card { padding:12px 16px }
.tiles b { display:block; font-size:24px; font-variant-numeric:tabular-nums; letter-spacing:-.01em }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th, td { text-align:right; padding:7px 10px; border-bottom:1px solid var(--line); vertical-align:top; white-space:nowrap }
th:first-child, td:first-child { text-align:left; white-space:normal; overflow-wrap:anywhere }
thead th { color:var(--soft); font-weight:600 }
tbody tr:last-child td { border-bottom:0 }
tr.judged td { font-weight:600 }
td small { display:block; color:var(--soft); font-weight:400 }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr)); gap:14px }
.legend { list-style:none; display:flex; flex-wrap:wrap; gap:4px 18px; margin:8px 0 0; padding:0; color:var(--soft) }
.swatch { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:7px; vertical-align:-1px }
.meter { display:inline-block; width:140px; height:10px; border-radius:5px; background:var(--line); overflow:hidden; margin-left:10px }
.meter i { display:block; height:100%; background:var(--series-0) }
.case { margin:0 0 14px }
.case h3 { font-size:15px; margin:0 0 10px; overflow-wrap:anywhere }
.case h3 .tag { font-size:12px; font-weight:600; color:var(--bad); border:1px solid currentColor; border-radius:20px; padding:1px 8px;
  margin-left:8px }
.strip { display:grid; grid-template-columns:repeat(auto-fill,minmax(200px,1fr)); gap:12px }
figure { margin:0 }
figure img { width:100%; height:auto; display:block; border-radius:6px; border:1px solid var(--line); cursor:zoom-in; background:#000 }
figure audio { width:100%; height:34px; margin-top:6px; display:block }
figcaption { font-size:13px; margin-top:5px }
figcaption small { display:block; color:var(--soft); font-size:12.5px; font-variant-numeric:tabular-nums }
button.open { all:unset; display:block; cursor:zoom-in; width:100% }
button.open:focus-visible img { outline:3px solid var(--accent); outline-offset:2px }
dialog { border:0; padding:0; margin:0; width:100vw; height:100vh; max-width:none; max-height:none; background:#0b0d10; color:#e7eaee }
dialog .bar { position:absolute; z-index:1; inset:0 0 auto 0; display:flex; flex-wrap:wrap; gap:8px; align-items:center; padding:10px 14px;
  background:rgba(11,13,16,.8); font-size:14px }
dialog .bar button { font:inherit; color:inherit; background:#242b34; border:1px solid #3a434f; border-radius:6px; padding:4px 10px;
  cursor:pointer }
dialog .bar button[aria-pressed=true] { background:#2f5fd8; border-color:#2f5fd8 }
dialog .bar .choices { display:flex; flex-wrap:wrap; gap:6px }
dialog .bar .hint { color:#9aa5b3 }
dialog .bar .close { margin-left:auto }
dialog .stage { position:absolute; inset:0; overflow:hidden; cursor:grab; touch-action:none }
dialog .stage img { position:absolute; left:0; top:0; transform-origin:0 0; image-rendering:pixelated; max-width:none; user-select:none }
dl.facts { display:grid; grid-template-columns:max-content 1fr; gap:4px 18px; margin:0 }
dl.facts dt { color:var(--soft) }
dl.facts dd { margin:0; overflow-wrap:anywhere }
code { font:13px ui-monospace,SFMono-Regular,Menlo,monospace }
"""
)

SCRIPT = """
(() => {
  const dialog = document.querySelector('dialog'), stage = dialog.querySelector('.stage'), picture = stage.querySelector('img');
  const bar = dialog.querySelector('.choices');
  let strip = [], shown = 0, scale = 1, x = 0, y = 0, drag = null;
  const place = () => { picture.style.transform = `translate(${x}px,${y}px) scale(${scale})`; };
  const show = index => {
    shown = (index + strip.length) % strip.length;
    picture.src = strip[shown].querySelector('img').src;
    picture.alt = strip[shown].querySelector('img').alt;
    [...bar.children].forEach((button, i) => button.setAttribute('aria-pressed', i === shown));
  };
  const zoom = (factor, cx, cy) => {
    const next = Math.min(64, Math.max(0.25, scale * factor));
    x = cx - (cx - x) * next / scale; y = cy - (cy - y) * next / scale; scale = next; place();
  };
  const open = figure => {
    strip = [...figure.parentElement.children];
    bar.replaceChildren(...strip.map((each, i) => {
      const button = document.createElement('button');
      button.textContent = `${i + 1} ${each.dataset.name}`;
      button.onclick = () => show(i);
      return button;
    }));
    dialog.showModal();
    const image = figure.querySelector('img');
    scale = Math.max(1, Math.floor(Math.min(innerWidth / image.naturalWidth, (innerHeight - 60) / image.naturalHeight)));
    x = (innerWidth - image.naturalWidth * scale) / 2; y = 60 + (innerHeight - 60 - image.naturalHeight * scale) / 2;
    show(strip.indexOf(figure)); place();
  };
  document.querySelectorAll('button.open').forEach(button => { button.onclick = () => open(button.closest('figure')); });
  dialog.querySelector('.close').onclick = () => dialog.close();
  dialog.querySelector('.in').onclick = () => zoom(2, innerWidth / 2, innerHeight / 2);
  dialog.querySelector('.out').onclick = () => zoom(0.5, innerWidth / 2, innerHeight / 2);
  dialog.addEventListener('keydown', event => {
    if (event.key === 'ArrowRight') show(shown + 1);
    else if (event.key === 'ArrowLeft') show(shown - 1);
    else if (event.key === '+' || event.key === '=') zoom(2, innerWidth / 2, innerHeight / 2);
    else if (event.key === '-') zoom(0.5, innerWidth / 2, innerHeight / 2);
    else if (event.key >= '1' && event.key <= String(strip.length)) show(Number(event.key) - 1);
    else return;
    event.preventDefault();
  });
  stage.addEventListener('wheel', event => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX, event.clientY); },
    { passive: false });
  stage.addEventListener('pointerdown', event => {
    drag = [event.clientX - x, event.clientY - y];
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener('pointermove', event => {
    if (drag) { x = event.clientX - drag[0]; y = event.clientY - drag[1]; place(); }
  });
  stage.addEventListener('pointerup', () => { drag = null; });
})();
"""

VIEWER = """<dialog aria-label="pictures, zoomed"><div class="bar"><span class="choices"></span><button class="out">&minus;</button>
<button class="in">+</button><span class="hint">wheel: zoom &middot; drag: move &middot; arrow keys or digits: switch in place</span>
<button class="close">Close (Esc)</button></div><div class="stage"><img alt="" draggable="false"></div></dialog>"""
"""The full-screen viewer: all pictures of a case at the same place, to switch between."""
