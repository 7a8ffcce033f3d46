// The attention sandbox: an editable matrix of logits, and live what its softmax does to the differences between tokens.
// A preset names a starting point, start=local, and values of other inputs, n=8; view=step leaves out all but one step.
(function () {
  "use strict";
  const NAME = "sandbox";
  const LARGEST = 8; // of a logit that a cell can be given
  const STEPS = 12; // of A^t x
  const FLOOR = 1e-3; // the bottom of the logarithmic axis

  // ---- Starting points: the logit of row i and column j of n; -Infinity masks.

  const gaussian = (seed) => (i, j) => {
    // a hash of the place, so that a longer text keeps the logits of a shorter one
    const next = mulberry32((seed * 1024 + i * 32 + j) * 0x9e3779b1);
    return Math.round(10 * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())) / 10;
  };

  const PRESETS = {
    hubs: ["Two hubs", (i, j, n) => (j === (2 * i < n ? 0 : 1) ? 6 : 0)],
    uniform: ["Uniform", () => 0],
    shift: ["Shift by one", (i, j, n) => (j === (i + 1) % n ? 6 : 0)],
    agree: ["Sink, rows agree", (i, j) => (j === 0 ? 4 : 0)],
    disagree: ["Sink, rows disagree", (i, j) => (j === 0 ? (i % 2 ? 5 : 2) : 0)],
    local: ["Local window", (i, j) => -1.5 * Math.abs(i - j)],
    causal: ["Causal, uniform", (i, j) => (j > i ? -Infinity : 0)],
    random: ["Random (Gaussian)", null],
  };
  const SIGNALS = {
    worst: "the one that A amplifies most",
    token: "one token: the chosen column",
    random: "random",
  };

  function mulberry32(state) {
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // ---- Algebra of small matrices, as arrays of rows.

  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const mean = (values) => sum(values) / values.length;
  const norm = (values) => Math.sqrt(sum(values.map((value) => value * value)));
  const times = (A, x) => A.map((row) => sum(row.map((weight, j) => weight * x[j])));
  const column = (A, j) => A.map((row) => row[j]);
  const centred = (x) => x.map((value) => value - mean(x));

  function softmax(row) {
    const top = Math.max(...row);
    const weights = row.map((logit) => Math.exp(logit - top));
    return weights.map((weight) => weight / sum(weights));
  }

  // The filter rate and its input pattern: the largest singular value of (I - J) A and the right vector, by one-sided
  // Jacobi rotations, which turn pairs of columns until all are orthogonal.
  function filterRate(A) {
    const n = A.length;
    const B = A.map((_, j) => centred(column(A, j))); // a column each
    const V = A.map((_, j) => A.map((_, i) => (i === j ? 1 : 0)));
    const rotate = (M, p, q, c, s) => {
      for (let i = 0; i < n; i++) [M[p][i], M[q][i]] = [c * M[p][i] - s * M[q][i], s * M[p][i] + c * M[q][i]];
    };
    for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
      turned = false;
      for (let p = 0; p < n; p++) {
        for (let q = p + 1; q < n; q++) {
          const [a, b, g] = [[p, p], [q, q], [p, q]].map(([k, l]) => sum(B[k].map((value, i) => value * B[l][i])));
          if (Math.abs(g) <= 1e-15 * Math.sqrt(a * b) || Math.abs(g) < 1e-30) continue;
          turned = true;
          const zeta = (b - a) / (2 * g);
          const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
          const c = 1 / Math.hypot(1, t);
          rotate(B, p, q, c, c * t);
          rotate(V, p, q, c, c * t);
        }
      }
    }
    const values = B.map(norm);
    const best = values.indexOf(Math.max(...values));
    const pattern = centred(V[best]); // orthogonal to 1 already, unless the rate is 0
    const heaviest = pattern.reduce((a, b) => (Math.abs(b) > Math.abs(a) + 1e-9 ? b : a), 0);
    return { value: values[best], pattern: pattern.map((x) => (heaviest < 0 ? -x : x)) };
  }

  // |lambda_2|: how A acts on the differences from token 0 is the matrix A_ij - A_0j, whose eigenvalues are all of A's
  // but the 1. Its spectral radius is the limit of |M^t|^(1/t) (Gelfand), and t = 2^40 takes 40 squarings; complex pairs
  // and Jordan blocks need no care.
  function secondEigenvalue(A) {
    let M = A.slice(1).map((row) => row.slice(1).map((weight, j) => weight - A[0][j + 1]));
    let logarithm = 0;
    for (let k = 0; k <= 40; k++) {
      const size = Math.max(...M.flat().map(Math.abs));
      if (size === 0) return 0;
      logarithm += Math.log(size) / 2 ** k;
      M = M.map((row) => row.map((value) => value / size));
      const columns = M.map((_, j) => column(M, j));
      M = M.map((row) => columns.map((other) => sum(row.map((value, i) => value * other[i]))));
    }
    return Math.exp(logarithm);
  }

  // Half the largest L1 distance between two rows.
  function dobrushin(A) {
    let largest = 0;
    A.forEach((row, i) =>
      A.slice(i + 1).forEach((other) => {
        largest = Math.max(largest, sum(row.map((weight, j) => Math.abs(weight - other[j]))) / 2);
      })
    );
    return largest;
  }

  // |F A F^H| with F_jk = exp(-2 pi i jk/n) / sqrt(n).
  function frequencies(A) {
    const n = A.length;
    return A.map((_, k) =>
      A.map((_, l) => {
        let [real, imaginary] = [0, 0];
        for (let i = 0; i < n; i++) {
          for (let j = 0; j < n; j++) {
            const angle = (2 * Math.PI * (j * l - i * k)) / n;
            real += A[i][j] * Math.cos(angle);
            imaginary += A[i][j] * Math.sin(angle);
          }
        }
        return Math.hypot(real, imaginary) / n;
      })
    );
  }

  // ---- Colours and words.

  const STOPS = // viridis
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
      .split(" ")
      .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

  // The square root makes small weights visible.
  function colour(value) {
    const place = 16 * Math.sqrt(Math.min(1, Math.max(0, value)));
    const low = Math.min(15, Math.floor(place));
    return STOPS[low].map((from, i) => Math.round(from + (place - low) * (STOPS[low + 1][i] - from)));
  }

  const rgb = (value) => `rgb(${colour(value)})`;

  function ink(value) {
    const [r, g, b] = colour(value).map((x) => (x <= 10 ? x / 3294 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff"; // the one of more contrast
  }

  const signed = (value) => (value < 0 ? "−" : "") + Math.abs(value);
  const logitText = (value) => (value === -Infinity ? "masked" : signed(value));
  const weightText = (value) => (value > 0.9949 ? "1" : value < 0.005 ? "0" : value.toFixed(2).slice(1));

  function verdict(rate, second) {
    const step =
      rate < 0.0005
        ? "All rows agree, so one step leaves the mean and nothing else."
        : rate > 1.0005
          ? `One step can amplify a difference between tokens, ${rate.toFixed(2)} times.`
          : rate > 0.9995
            ? "One step leaves some difference as large as it was."
            : `One step leaves at most ${percent(rate)} of any difference between tokens.`;
    const run =
      second === null || rate < 0.0005
        ? ""
        : second < 0.0005
          ? " Repeated, it leaves nothing."
          : second > 0.9995
            ? " Repeated, some difference never fades."
            : ` Repeated, each step leaves ${percent(second)} in the long run.`;
    return step + run;
  }

  const percent = (share) => `${(100 * share).toFixed(share < 0.0995 || share >= 0.99 ? 1 : 0)} %`;

  // ---- Drawing in SVG.

  const text = (x, y, words, more = "") => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${words}</text>`;

  function frequencyDrawing(R) {
    const n = R.length;
    const [left, top, side] = [44, 24, 272];
    const cell = side / n;
    const cells = R.flatMap((row, k) =>
      row.map(
        (value, l) =>
          `<rect x="${(left + l * cell).toFixed(2)}" y="${(top + k * cell).toFixed(2)}" width="${(cell + 0.3).toFixed(2)}" ` +
          `height="${(cell + 0.3).toFixed(2)}" fill="${rgb(value)}" data-value="${value}"/>`
      )
    );
    return (
      cells.join("") +
      `<rect class="frame" x="${left}" y="${top}" width="${side}" height="${cell}"/>` +
      text(left + cell / 2, top - 6, "0", 'text-anchor="middle"') +
      text(left + side, top - 6, "in: frequency", 'text-anchor="end"') +
      text(left - 8, top + cell / 2 + 4, "0", 'text-anchor="end"') +
      `<text transform="translate(${left - 10} ${top + side}) rotate(-90)">out: frequency</text>`
    );
  }

  function signalDrawing(x, scale) {
    const n = x.length;
    const [left, top, width, height] = [8, 10, 304, 150];
    const y = (value) => top + (height / 2) * (1 - value / scale);
    const slot = width / n;
    const bars = x.map((value, i) => {
      const [from, to] = [Math.min(y(0), y(value)), Math.max(y(0), y(value))];
      return (
        `<rect class="bar" x="${(left + (i + 0.15) * slot).toFixed(2)}" y="${from.toFixed(2)}" ` +
        `width="${(0.7 * slot).toFixed(2)}" height="${(to - from).toFixed(2)}" data-value="${value}"/>`
      );
    });
    const average = y(mean(x));
    return (
      bars.join("") +
      `<line class="axis" x1="${left}" x2="${left + width}" y1="${y(0)}" y2="${y(0)}"/>` +
      `<line class="dc" x1="${left}" x2="${left + width}" y1="${average}" y2="${average}"/>` +
      text(left, top + height + 20, "bar: a token") +
      text(left + width, top + height + 20, "orange line: their mean (DC)", 'text-anchor="end"')
    );
  }

  function decayDrawing(gains, rate, second, t) {
    const [left, top, width, height] = [40, 10, 270, 150];
    const high = 4;
    const xOf = (step) => left + (width * step) / STEPS;
    const share = (value) => Math.log(Math.max(1e-30, value) / FLOOR) / Math.log(high / FLOOR);
    const yOf = (value) => top + height * (1 - Math.max(0, Math.min(1, share(value))));
    const line = (values, kind) => {
      const points = values.map((value, step) => `${((width * step) / STEPS).toFixed(1)},${(height * (1 - share(value))).toFixed(1)}`);
      return `<polyline class="${kind}" points="${points.join(" ")}"/>`;
    };
    const steps = Array.from({ length: STEPS + 1 }, (_, step) => step);
    const ticks = [1, 0.1, 0.01, 0.001].map(
      (value) =>
        `<line class="${value === 1 ? "axis" : "grid"}" x1="${left}" x2="${left + width}" y1="${yOf(value)}" y2="${yOf(value)}"/>` +
        text(left - 5, yOf(value) + 4, value, 'text-anchor="end"')
    );
    return (
      ticks.join("") +
      `<svg x="${left}" y="${top}" width="${width}" height="${height}">` + // a nested one clips what leaves the axes
      line(steps.map((step) => rate ** step), "bound") +
      line(steps.map((step) => second ** step), "limit") +
      line(gains, "gain") +
      "</svg>" +
      `<circle class="now" cx="${xOf(t)}" cy="${yOf(gains[t])}" r="5"/>` +
      [0, 4, 8, 12].map((step) => text(xOf(step), top + height + 18, step, 'text-anchor="middle"')).join("") +
      text(xOf(10), top + height + 18, "steps", 'text-anchor="middle"')
    );
  }

  // ---- The page.

  const STYLE = `
    [data-explorer=sandbox] { --blue: #0072B2; --orange: #D55E00; }
    [data-theme=dark] [data-explorer=sandbox] { --blue: #56B4E9; --orange: #E57A1F; }
    [data-explorer=sandbox] .explorer-controls > * { flex: 1 1 8rem; }
    [data-explorer=sandbox] .explorer-root { text-align: left; }
    [data-explorer=sandbox] .explorer-controls > button { flex: 0 0 5.5rem; }
    [data-explorer=sandbox] select { background: var(--pst-color-background); border: 1px solid var(--pst-color-text-muted);
      border-radius: .35rem; color: var(--pst-color-text-base); font: inherit; font-size: .9rem; min-height: 2.1rem;
      padding: .15rem .4rem; width: 100%; }
    [data-explorer=sandbox] button { border-radius: .35rem; }
    [data-explorer=sandbox] .verdict { border-left: .25rem solid var(--orange); display: block; font-weight: 600;
      line-height: 1.4; margin: 1rem 0; min-height: 2.8em; padding-left: .75rem; }
    [data-explorer=sandbox] .panels { display: grid; gap: 1.5rem 2rem;
      grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
    [data-explorer=sandbox] .panels > div { min-width: 0; }
    [data-explorer=sandbox] .title { color: var(--pst-color-text-base); font-size: .9rem; font-weight: 600;
      line-height: 1.35; margin: 0 0 .4rem; }
    [data-explorer=sandbox] .hint { color: var(--pst-color-text-muted); font-size: .8rem; line-height: 1.4; margin: .4rem 0 0; }
    [data-explorer=sandbox] [role=grid] { display: grid; font-size: .72rem; gap: 1px; line-height: 1; max-width: 25rem; }
    [data-explorer=sandbox] [role=row] { display: contents; }
    [data-explorer=sandbox] [role=gridcell] { align-items: center; aspect-ratio: 1; cursor: pointer; display: flex;
      font-variant-numeric: tabular-nums; justify-content: center; min-width: 0; overflow: visible; position: relative;
      touch-action: manipulation; user-select: none; }
    [data-explorer=sandbox] [role=gridcell][aria-selected=true] { box-shadow: inset 0 0 0 2px var(--orange), inset 0 0 0 4px var(--pst-color-background); z-index: 1; }
    [data-explorer=sandbox] .explorer-controls > :has(> select) { flex: 1 1 14rem; }
    [data-explorer=sandbox] [role=gridcell]:focus-visible { outline: 3px solid var(--pst-color-link); outline-offset: 4px; z-index: 2; }
    [data-explorer=sandbox] [role=gridcell].masked { background: repeating-linear-gradient(135deg,
      var(--pst-color-surface) 0 4px, var(--pst-color-border) 4px 5px) !important; }
    [data-explorer=sandbox] .name { align-self: center; color: var(--pst-color-text-muted); justify-self: center; white-space: nowrap; }
    [data-explorer=sandbox] .mass { cursor: pointer; align-self: stretch; display: flex; flex-direction: column; height: 3.6rem; margin-top: 3px; position: relative; }
    [data-explorer=sandbox] .mass > i { background: var(--blue); display: block; }
    [data-explorer=sandbox] .even { border-top: 1px dashed var(--pst-color-text-base); left: 0; position: absolute; right: 0; }
    [data-explorer=sandbox] .edit { margin-top: .75rem; max-width: 25rem; }
    figure[data-explorer=sandbox] dl.meters.explorer-readouts { display: grid; gap: .6rem; margin-bottom: 1rem; }
    figure[data-explorer=sandbox] dl.meters.explorer-readouts > div { display: grid; gap: 0 .75rem; grid-template-columns: 5.2rem 1fr; }
    figure[data-explorer=sandbox] dl.meters.explorer-readouts dt { grid-column: 2; grid-row: 1; }
    figure[data-explorer=sandbox] dl.meters.explorer-readouts dt b { color: var(--pst-color-text-base); font-style: italic; }
    figure[data-explorer=sandbox] dl.meters.explorer-readouts dd { grid-column: 1; grid-row: 1 / 3; }
    [data-explorer=sandbox] .meter { background: var(--pst-color-surface); grid-column: 2; grid-row: 2; height: .6rem; position: relative; }
    [data-explorer=sandbox] .meter > i { background: var(--blue); display: block; height: 100%; }
    [data-explorer=sandbox] .meter > i.above { background: var(--orange); }
    [data-explorer=sandbox] .meter > span { border-left: 2px solid var(--pst-color-text-base); bottom: -3px; position: absolute; top: 0; }
    [data-explorer=sandbox] svg { display: block; height: auto; max-width: 25rem; width: 100%; }
    [data-explorer=sandbox] svg text { fill: var(--pst-color-text-muted); font-size: 12px; }
    [data-explorer=sandbox] svg .frame { fill: none; stroke: var(--orange); stroke-width: 2.5; }
    [data-explorer=sandbox] svg .bar { fill: var(--blue); }
    [data-explorer=sandbox] svg .dc { stroke: var(--orange); stroke-width: 2.5; }
    [data-explorer=sandbox] svg .axis { stroke: var(--pst-color-text-muted); stroke-width: 1; }
    [data-explorer=sandbox] svg .grid { stroke: var(--pst-color-border); stroke-width: 1; }
    [data-explorer=sandbox] svg svg { max-width: none; overflow: hidden; }
    [data-explorer=sandbox] svg polyline { fill: none; stroke-width: 2; }
    [data-explorer=sandbox] svg .gain { stroke: var(--blue); stroke-width: 3.5; }
    [data-explorer=sandbox] svg .bound { stroke: var(--orange); stroke-dasharray: 7 4; }
    [data-explorer=sandbox] svg .limit { stroke: var(--pst-color-text-base); stroke-dasharray: 1.5 4; stroke-linecap: round; }
    [data-explorer=sandbox] svg .now { fill: var(--blue); stroke: var(--pst-color-background); stroke-width: 2; }
    [data-explorer=sandbox] .key { display: flex; flex-wrap: wrap; gap: 0 1rem; }
    [data-explorer=sandbox] .key svg { display: inline-block; height: .6rem; margin-right: .3rem; vertical-align: middle; width: 2rem; }
    [data-explorer=sandbox] .time { align-items: end; display: flex; gap: .75rem; }
    [data-explorer=sandbox] .time > div { flex: 1; }
    @media (prefers-reduced-motion: reduce) { [data-explorer=sandbox] .play { display: none; } }
  `;

  const slider = (id, key, label, min, max, step, value) =>
    `<div><label for="${id}-${key}">${label} <output for="${id}-${key}" data-output="${key}"></output></label>` +
    `<input id="${id}-${key}" data-input="${key}" type="range" min="${min}" max="${max}" step="${step}" value="${value}"></div>`;

  const choice = (id, key, label, options) =>
    `<div><label for="${id}-${key}">${label}</label><select id="${id}-${key}" data-input="${key}">` +
    options.map(([value, name]) => `<option value="${value}">${name}</option>`).join("") +
    "</select></div>";

  const readout = (key, symbol, meaning) =>
    `<div><dt><b>${symbol}</b> ${meaning}</dt><dd data-number="${key}"></dd>` +
    `<div class="meter" aria-hidden="true" data-meter="${key}"><i></i><span></span></div></div>`;

  const key = (kind, words) =>
    `<span><svg viewBox="0 0 40 8" aria-hidden="true"><polyline class="${kind}" points="2,4 38,4"/></svg>${words}</span>`;

  const layout = (id) => `
    <div class="explorer-controls">
      ${choice(id, "preset", "Start from", Object.entries(PRESETS).map(([value, [name]]) => [value, name]))}
      ${slider(id, "n", "tokens <i>n</i>", 2, 16, 1, 8)}
      ${slider(id, "scale", "logit scale", 0, 3, 0.05, 1)}
      ${slider(id, "temperature", "temperature <i>τ</i>", -12, 12, 1, 0)}
    </div>
    <output class="verdict" aria-live="polite"></output>
    <div class="panels">
      <div>
        <p class="title" id="${id}-title">Attention <i>A</i>: how much each row looks at each column</p>
        <div role="grid" aria-labelledby="${id}-title" aria-describedby="${id}-hint"></div>
        <p class="hint">Bars: column masses <i>c<sub>j</sub></i>, what each token receives. Dashed: an even share, 1.
          <span data-words="mass"></span></p>
        <div class="edit explorer-controls">${slider(id, "logit", "", -LARGEST, LARGEST, 0.1, 0)}</div>
        <p class="hint" id="${id}-hint">Click or tap a cell to raise its logit by 1. The slider also lowers it, and so
          does Shift with a click. A bar chooses its column. Keys: arrows move,
          + and − change, 0 clears. <button type="button" data-button="reset">Undo all changes</button>
          <button type="button" data-button="draw">Draw again</button></p>
      </div>
      <div>
        <dl class="explorer-readouts meters">
          ${readout("rate", "σ<sub>a</sub>", "one step, at worst")}
          ${readout("second", "|λ<sub>2</sub>|", "a step, in the long run")}
          ${readout("dobrushin", "δ", "one step, max − min")}
        </dl>
        <p class="title">In the frequency domain: |<i>F A F<sup>H</sup></i>|</p>
        <svg data-drawing="frequency" viewBox="0 0 320 300" role="img"></svg>
        <p class="hint">Framed: what goes into frequency 0, the mean. Column 0 stays empty below it.</p>
      </div>
      <div data-part="signal">
        <div class="explorer-controls">${choice(id, "signal", "A signal <i>x</i> along the tokens", Object.entries(SIGNALS))}</div>
        <p class="title" style="margin-top: .75rem" data-words="signal">After <i>t</i> steps: <i>A<sup>t</sup>x</i></p>
        <svg data-drawing="signal" viewBox="0 0 320 186" role="img"></svg>
        <div class="explorer-controls time">${slider(id, "t", "steps <i>t</i>", 0, STEPS, 1, 1)}
          <button type="button" class="play" data-button="play">Play</button></div>
      </div>
      <div data-part="decay">
        <p class="title">What is left of the differences between tokens</p>
        <svg data-drawing="decay" viewBox="0 0 320 186" role="img"></svg>
        <p class="hint key">${key("gain", "this signal")}${key("bound", "σ<sub>a</sub><sup>t</sup>, the bound")}${key("limit", "|λ<sub>2</sub>|<sup>t</sup>")}</p>
        <p class="hint" data-words="decay"></p>
      </div>
    </div>`;

  function start(figure) {
    const root = figure.querySelector(".explorer-root");
    const id = `${figure.id || NAME}-explorer`;
    root.innerHTML = layout(id);
    const find = (kind, name) => root.querySelector(`[data-${kind}="${name}"]`);
    const input = (name) => find("input", name);
    const number = (name) => Number(input(name).value);
    const grid = root.querySelector("[role=grid]");
    const preset = new Map((figure.dataset.preset || "").split(",").map((pair) => pair.split("=")));
    const brief = preset.get("view") === "step";
    for (const [name, value] of preset) {
      if (find("input", name === "start" ? "preset" : name)) input(name === "start" ? "preset" : name).value = value;
    }
    if (brief) {
      ["second", "dobrushin"].forEach((name) => find("number", name).parentElement.remove());
      find("drawing", "signal").after(find("words", "decay"));
      find("words", "signal").innerHTML = "After <i>t</i> = 0 or 1 step: <i>x</i> or <i>Ax</i>";
      find("part", "decay").hidden = true;
      const signals = find("part", "signal");
      signals.firstElementChild.style.marginTop = "1.5rem";
      signals.previousElementSibling.append(...signals.children); // side by side with the matrix
      signals.hidden = true;
      find("button", "play").hidden = true;
      input("t").max = 1;
    }

    let n = 0; // of the cells that are there
    let seed = 1;
    let [row, col] = [0, 0]; // of the chosen cell
    let changed = new Map(); // logits that the reader gave, over those of the starting point
    let timer = null;

    const logit = (i, j) => {
      const own = changed.get(`${i},${j}`);
      if (own !== undefined) return own;
      const preset = input("preset").value;
      return (PRESETS[preset][1] || gaussian(seed))(i, j, n);
    };

    const change = (value) => {
      changed.set(`${row},${col}`, Math.round(10 * Math.max(-LARGEST, Math.min(LARGEST, value))) / 10);
      show();
    };

    const raise = (by) => {
      const now = logit(row, col);
      change(now === -Infinity ? 0 : now + by); // the first touch opens a masked cell
    };

    const cells = () => [...grid.querySelectorAll("[role=gridcell]")];
    const cellAt = (i, j) => cells()[i * n + j];
    const tokenName = (j) => (j === 0 && n <= 10 && /agree/.test(input("preset").value) ? "[CLS]" : String(j));

    function select(i, j, focus) {
      [row, col] = [Math.max(0, Math.min(n - 1, i)), Math.max(0, Math.min(n - 1, j))];
      cells().forEach((cell, at) => {
        const chosen = at === row * n + col;
        cell.tabIndex = chosen ? 0 : -1;
        cell.setAttribute("aria-selected", chosen);
      });
      if (focus) cellAt(row, col).focus();
    }

    // The cells of n tokens, without their values.
    function lay() {
      const numbers = [...Array(n).keys()];
      grid.style.gridTemplateColumns = `2.4rem repeat(${n}, minmax(0, 1fr))`;
      grid.innerHTML =
        `<span></span>${numbers.map((j) => `<span class="name" aria-hidden="true" data-token="${j}"></span>`).join("")}` +
        numbers
          .map(
            (i) =>
              `<div role="row"><span class="name" aria-hidden="true" data-token="${i}"></span>` +
              numbers.map((j) => `<div role="gridcell" data-row="${i}" data-column="${j}"></div>`).join("") +
              "</div>"
          )
          .join("") +
        `<span class="name" aria-hidden="true"><i>c<sub>j</sub></i></span>` +
        numbers.map((j) => `<div class="mass" aria-hidden="true" data-column="${j}"><i></i><span class="even"></span></div>`).join("");
      select(row, col, false);
    }

    function signal(A, pattern) {
      const kind = input("signal").value;
      if (kind === "worst") return pattern;
      if (kind === "token") return A.map((_, i) => (i === col ? 1 : 0));
      const next = gaussian(7);
      return A.map((_, i) => next(i, 0));
    }

    function show() {
      if (number("n") !== n) {
        n = number("n");
        lay();
      }
      const temperature = 2 ** (number("temperature") / 4);
      const beta = number("scale") / temperature;
      const logits = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => logit(i, j)));
      const A = logits.map((values) => softmax(values.map((value) => (value === -Infinity ? value : beta * value))));
      const masses = A.map((_, j) => sum(column(A, j)));
      const rate = filterRate(A);
      const second = secondEigenvalue(A);
      const numbers = { rate: rate.value, second, dobrushin: dobrushin(A) };

      find("output", "n").textContent = n;
      find("output", "scale").textContent = number("scale").toFixed(2);
      find("output", "temperature").textContent = temperature.toFixed(2);
      input("temperature").setAttribute("aria-valuetext", temperature.toFixed(2));
      find("output", "t").textContent = number("t");
      find("button", "reset").hidden = changed.size === 0;
      find("button", "draw").hidden = input("preset").value !== "random";

      grid.querySelectorAll("[data-token]").forEach((name) => (name.textContent = tokenName(Number(name.dataset.token))));
      cells().forEach((cell, at) => {
        const [i, j] = [Math.floor(at / n), at % n];
        cell.dataset.logit = logits[i][j];
        cell.dataset.weight = A[i][j];
        cell.style.background = rgb(A[i][j]);
        cell.style.color = ink(A[i][j]);
        cell.textContent = n <= 8 && logits[i][j] > -Infinity ? weightText(A[i][j]) : "";
        cell.classList.toggle("masked", logits[i][j] === -Infinity);
        const place = `row ${i}, column ${j}`;
        cell.setAttribute("aria-label", `${place}: logit ${logitText(logits[i][j])}, weight ${A[i][j].toFixed(2)}`);
      });
      const fullest = Math.max(2, ...masses);
      grid.querySelectorAll(".mass").forEach((bar, j) => {
        bar.dataset.mass = masses[j];
        bar.firstChild.style.height = `${(100 * masses[j]) / fullest}%`;
        bar.lastChild.style.top = `${100 / fullest}%`;
      });

      find("words", "mass").innerHTML = `Column ${col}: <i>c</i> = ${masses[col].toFixed(2)}.`;
      const chosen = logits[row][col];
      root.querySelector(`label[for="${id}-logit"]`).firstChild.textContent = `Logit of row ${row}, column ${col} `;
      find("output", "logit").textContent = logitText(chosen);
      input("logit").value = chosen === -Infinity ? -LARGEST : chosen;
      input("logit").setAttribute("aria-valuetext", logitText(chosen));

      const end = Math.max(1.25, Math.sqrt(n / 2)); // no rate of hard attention of n tokens is larger than sqrt(n/2)
      for (const [name, value] of Object.entries(numbers)) {
        if (!find("number", name)) continue;
        find("number", name).textContent = value.toFixed(2);
        find("number", name).dataset.value = value;
        const [bar, one] = find("meter", name).children;
        bar.style.width = `${Math.min(100, (100 * value) / end)}%`;
        bar.className = value > 1.0005 ? "above" : "";
        one.style.left = `calc(${100 / end}% - 1px)`;
      }
      root.querySelector(".verdict").textContent = verdict(rate.value, brief ? null : second);

      const draw = (name, inside, words) => {
        find("drawing", name).innerHTML = inside;
        find("drawing", name).setAttribute("aria-label", words);
      };
      const R = frequencies(A);
      const toMean = Math.max(...R[0].slice(1));
      draw("frequency", frequencyDrawing(R), `Heat map. The largest entry from a frequency into the mean is ${toMean.toFixed(2)}.`);

      const states = [signal(A, rate.pattern)];
      for (let step = 0; step < STEPS; step++) states.push(times(A, states[step]));
      const t = number("t");
      const sizes = states.map((state) => norm(centred(state)));
      const gains = sizes.map((size) => (sizes[0] > 0 ? size / sizes[0] : 0));
      const dc = Math.abs(mean(states[t])) * Math.sqrt(n);
      const largest = Math.max(...states[0].map(Math.abs)) || 1; // an average is never larger than what it averages
      draw("signal", signalDrawing(states[t], largest), `Bars of the signal after ${t} steps: ${states[t].map((x) => x.toFixed(2)).join(", ")}.`);
      draw("decay", decayDrawing(gains, rate.value, second, t), `Line on a logarithmic axis. After ${t} steps: ${gains[t].toPrecision(3)}.`);
      const ratio = dc > 1e-12 ? (sizes[t] / dc).toPrecision(2) : "∞";
      const words = find("words", "decay");
      words.textContent =
        `After ${t} ${t === 1 ? "step" : "steps"}: HC is ${gains[t].toPrecision(3)} times its first size` +
        (brief ? "." : `, HC/DC = ${ratio}.`);
      words.dataset.gain = gains[t];
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      find("button", "play").textContent = "Play";
    }

    root.addEventListener("input", (event) => {
      const name = event.target.dataset.input;
      if (name === "t" && timer) stop();
      if (name === "preset") changed = new Map();
      if (name === "logit") change(number("logit"));
      else show();
    });
    grid.addEventListener("click", (event) => {
      const bar = event.target.closest(".mass");
      if (bar) {
        select(row, Number(bar.dataset.column), false);
        return show();
      }
      const cell = event.target.closest("[role=gridcell]");
      if (!cell) return;
      select(Number(cell.dataset.row), Number(cell.dataset.column), true);
      raise(event.shiftKey ? -1 : 1);
    });
    grid.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -n], End: [0, n] };
      const changes = { "+": 0.5, "=": 0.5, "-": -0.5, "−": -0.5, Enter: 1, " ": 1 };
      if (moves[event.key]) {
        select(row + moves[event.key][0], col + moves[event.key][1], true);
        show();
      } else if (changes[event.key]) raise(changes[event.key]);
      else if (["0", "Delete", "Backspace"].includes(event.key)) change(0);
      else return;
      event.preventDefault();
    });
    find("button", "reset").addEventListener("click", () => {
      changed = new Map();
      input("preset").focus();
      show();
    });
    find("button", "draw").addEventListener("click", () => {
      seed += 1;
      show();
    });
    find("button", "play").addEventListener("click", () => {
      if (timer) return stop();
      if (number("t") >= STEPS) input("t").value = 0;
      find("button", "play").textContent = "Pause";
      timer = setInterval(() => {
        input("t").value = number("t") + 1;
        show();
        if (number("t") >= STEPS) stop();
      }, 450);
    });
    show();
  }

  window.beginExplorers(NAME, start, STYLE);
})();
