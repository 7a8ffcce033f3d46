// Would you see it? Choosing a setting on few labelled queries, played through; explorer_deploy.py says exactly what.
(function () {
  "use strict";
  const NAME = "deploy";
  const REPETITIONS = 2000;
  const SEED = 1;
  const Z = 1.96;
  const LABELS = [20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000];
  const MOST = LABELS[LABELS.length - 1];
  const RULES = {
    mean: ["Best mean", "Deploy the setting with the best mean, if that mean is above 0."],
    interval: ["Interval above 0", "Deploy the setting with the best mean, if its 95 % interval lies above 0."],
    heldout: ["Held-out half", "One half of the labels chooses; deploy its choice if the 95 % interval on the other half lies above 0."],
  };

  function mulberry32(state) {
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let z = Math.imul(state ^ (state >>> 15), state | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  // The queries of every repetition, drawn once: more labels are the same ones and further ones. So one pass leaves, at
  // each number of labels and at half of it, the sums of the changes and of their squares, and no slider waits.
  function prepare({ settings, changes }) {
    const count = settings.length;
    const queries = changes[0].length;
    const rows = new Float64Array(queries * count);
    changes.forEach((column, k) => column.forEach((change, i) => (rows[i * count + k] = change)));
    const means = changes.map((column) => column.reduce((a, b) => a + b, 0) / queries);
    const stops = new Map(LABELS.flatMap((n) => [n >> 1, n]).map((n) => [n, null]));
    stops.forEach((_, n) => {
      stops.set(n, { sums: new Float64Array(REPETITIONS * count), squares: new Float64Array(REPETITIONS * count) });
    });
    const next = mulberry32(SEED);
    const [sums, squares] = [new Float64Array(count), new Float64Array(count)];
    for (let repetition = 0; repetition < REPETITIONS; repetition++) {
      sums.fill(0);
      squares.fill(0);
      for (let n = 1; n <= MOST; n++) {
        const query = Math.floor(next() * queries) * count;
        for (let k = 0; k < count; k++) {
          const change = rows[query + k];
          sums[k] += change;
          squares[k] += change * change;
        }
        const stop = stops.get(n);
        if (!stop) continue;
        stop.sums.set(sums, repetition * count);
        stop.squares.set(squares, repetition * count);
      }
    }
    return { count, means, stops };
  }

  // Every repetition of each rule for a true gain of 0, in points: the estimate, and the lower end that must be above 0.
  // Another gain moves both by itself, for all settings alike, so it changes no choice.
  function simulate({ count, means, stops }, labels, settings) {
    const half = labels >> 1;
    const [all, first] = [stops.get(labels), stops.get(half)];
    const best = (stop, n, from) => {
      let chosen = 0;
      for (let k = 1; k < settings; k++) {
        if (stop.sums[from + k] / n - means[k] > stop.sums[from + chosen] / n - means[chosen]) chosen = k;
      }
      return chosen;
    };
    const results = () => ({ estimate: new Float64Array(REPETITIONS), lower: new Float64Array(REPETITIONS) });
    const result = { mean: results(), interval: results(), heldout: results() };
    const judge = (rule, repetition, k, sum, square, n) => {
      const estimate = (sum / n - means[k]) / 100;
      // sums of whole numbers are exact, so queries that all changed alike have a variance of exactly 0: no interval
      const variance = (square - (sum * sum) / n) / (n - 1);
      const reach = variance > 0 ? (Z * Math.sqrt(variance / n)) / 100 : Infinity;
      result[rule].estimate[repetition] = estimate;
      result[rule].lower[repetition] = rule === "mean" ? estimate : estimate - reach;
    };
    for (let repetition = 0; repetition < REPETITIONS; repetition++) {
      const from = repetition * count;
      const k = best(all, labels, from);
      judge("mean", repetition, k, all.sums[from + k], all.squares[from + k], labels);
      judge("interval", repetition, k, all.sums[from + k], all.squares[from + k], labels);
      const l = best(first, half, from);
      const [sum, square] = [all.sums[from + l] - first.sums[from + l], all.squares[from + l] - first.squares[from + l]];
      judge("heldout", repetition, l, sum, square, labels - half);
    }
    return result;
  }

  // ---- Words and drawing.

  const points = (value, digits = 1) => `${value < 0 ? "−" : value > 0 ? "+" : ""}${Math.abs(value).toFixed(digits)}`;
  const size = (value) => `${Math.abs(value)} ${Math.abs(value) === 1 ? "point" : "points"}`;
  const percent = (share) => (share > 0 && share < 0.01 ? "less than 1 %" : share > 0.99 && share < 1 ? "more than 99 %" : `${Math.round(100 * share)} %`);
  const kind = (gain) => (gain < 0 ? "harm" : gain > 0 ? "gain" : "none");

  function verdict(gain, share, promised, idle) {
    const what =
      gain < 0
        ? `You would deploy a setting that costs ${size(gain)} in ${percent(share)} of cases.`
        : gain > 0
          ? `You would deploy a gain of ${size(gain)} in ${percent(share)} of cases, and a setting that does nothing in ${percent(idle)}.`
          : `You would deploy a setting that does nothing in ${percent(share)} of cases.`;
    return share > 0 ? `${what} When you deploy, your labels promise ${points(promised)} on average; the truth is ${points(gain)}.` : what;
  }

  const text = (x, y, words, more = "") => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${words}</text>`;

  // A hundred cases, those in which something is deployed first.
  function casesDrawing(share, gain) {
    const deployed = Math.round(100 * share);
    return Array.from({ length: 100 }, (_, i) => {
      const [x, y] = [16 * (i % 25), 16 * Math.floor(i / 25)];
      return `<rect class="${i < deployed ? kind(gain) : "kept"}" x="${x}" y="${y}" width="13" height="13" rx="2"/>`;
    }).join("");
  }

  function estimatesDrawing(estimates, deployed, gain) {
    const [left, top, width, height, bins] = [10, 26, 300, 130, 40];
    const sorted = Float64Array.from(estimates).sort();
    const reach = Math.max(-sorted[Math.floor(0.005 * REPETITIONS)], sorted[Math.ceil(0.995 * REPETITIONS) - 1], Math.abs(gain));
    const end = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24].find((each) => each >= reach) || 32;
    const counts = { yes: new Array(bins).fill(0), no: new Array(bins).fill(0) };
    estimates.forEach((estimate, r) => {
      const bin = Math.floor(((estimate + end) / (2 * end)) * bins);
      if (bin >= 0 && bin < bins) counts[deployed[r] ? "yes" : "no"][bin] += 1;
    });
    const tallest = Math.max(...counts.yes.map((count, bin) => count + counts.no[bin]));
    const xOf = (value) => left + (width * (value + end)) / (2 * end);
    const bars = counts.yes.map((yes, bin) => {
      const bar = (count, below, name) =>
        `<rect class="${name}" x="${(left + (width * bin) / bins).toFixed(2)}" width="${(width / bins - 0.6).toFixed(2)}" ` +
        `y="${(top + height * (1 - (below + count) / tallest)).toFixed(2)}" height="${((height * count) / tallest).toFixed(2)}"/>`;
      return bar(yes, 0, kind(gain)) + bar(counts.no[bin], yes, "kept");
    });
    const ticks = [-end, -end / 2, 0, end / 2, end].map((value) =>
      text(xOf(value), top + height + 17, points(value, Number.isInteger(value) ? 0 : Number.isInteger(2 * value) ? 1 : 2), 'text-anchor="middle"')
    );
    const side = gain > end / 2 ? 'text-anchor="end"' : gain < -end / 2 ? 'text-anchor="start"' : 'text-anchor="middle"';
    return (
      bars.join("") +
      `<line class="axis" x1="${left}" x2="${left + width}" y1="${top + height}" y2="${top + height}"/>` +
      `<line class="truth" x1="${xOf(gain)}" x2="${xOf(gain)}" y1="${top - 8}" y2="${top + height}"/>` +
      text(xOf(gain), top - 12, `truth ${points(gain)}`, side + ' class="strong"') +
      ticks.join("")
    );
  }

  const others = (rule) => Object.keys(RULES).filter((other) => other !== rule);

  function curveDrawing(lowers, rule, gain, share) {
    const [left, top, width, height] = [44, 14, 264, 142];
    const xOf = (value) => left + (width * (value + 2)) / 4;
    const yOf = (value) => top + height * (1 - value);
    const grid = Array.from({ length: 81 }, (_, i) => i / 20 - 2);
    const curve = (lower) => {
      const sorted = Float64Array.from(lower).sort();
      // deployed if lower + gain > 0
      let at = REPETITIONS;
      return grid.map((value) => {
        while (at > 0 && sorted[at - 1] + value > 0) at -= 1;
        return (REPETITIONS - at) / REPETITIONS;
      });
    };
    const path = (values, from = 0, to = 80) =>
      grid.slice(from, to + 1).map((value, i) => `${xOf(value).toFixed(1)},${yOf(values[from + i]).toFixed(1)}`).join(" ");
    const shown = curve(lowers[rule].lower);
    const area = (name, from, to) =>
      `<polygon class="${name} area" points="${xOf(grid[from])},${yOf(0)} ${path(shown, from, to)} ${xOf(grid[to])},${yOf(0)}"/>`;
    return (
      [0, 0.5, 1]
        .map(
          (value) =>
            `<line class="grid" x1="${left}" x2="${left + width}" y1="${yOf(value)}" y2="${yOf(value)}"/>` +
            text(left - 6, yOf(value) + 4, `${100 * value} %`, 'text-anchor="end"')
        )
        .join("") +
      area("harm", 0, 40) +
      area("gain", 40, 80) +
      others(rule).map((other, i) => `<polyline class="other ${["dashed", "dotted"][i]}" points="${path(curve(lowers[other].lower))}"/>`).join("") +
      `<line class="axis" x1="${xOf(0)}" x2="${xOf(0)}" y1="${top}" y2="${top + height}"/>` +
      `<polyline class="chosen" points="${path(shown)}"/>` +
      `<circle class="now" cx="${xOf(gain)}" cy="${yOf(share)}" r="5.5"/>` +
      text(xOf(-1), top + 14, "harm", 'text-anchor="middle" class="strong"') +
      text(xOf(1), top + 14, "a gain, taken", 'text-anchor="middle" class="strong"') +
      [-2, -1, 0, 1, 2].map((value) => text(xOf(value), top + height + 17, points(value, 0), 'text-anchor="middle"')).join("")
    );
  }

  // ---- The page.

  const STYLE = `
    [data-explorer=deploy] { --blue: #0072B2; --orange: #D55E00; }
    [data-theme=dark] [data-explorer=deploy] { --blue: #56B4E9; --orange: #E57A1F; }
    [data-explorer=deploy] .explorer-root { text-align: left; }
    [data-explorer=deploy] .explorer-controls > div { flex: 1 1 11rem; }
    [data-explorer=deploy] .explorer-controls > fieldset { flex: 1 1 100%; }
    [data-explorer=deploy] .explorer-buttons { display: flex; max-width: 28rem; }
    [data-explorer=deploy] .explorer-buttons button { flex: 1 1 auto; font-size: .82rem; padding: .15rem .4rem; }
    [data-explorer=deploy] .verdict { border-left: .25rem solid var(--verdict); display: block; font-weight: 600;
      line-height: 1.4; margin: 1rem 0; min-height: 4.2em; padding-left: .75rem; }
    [data-explorer=deploy] .panels { display: grid; gap: 1.5rem 2rem;
      grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
    [data-explorer=deploy] .panels > div { min-width: 0; }
    [data-explorer=deploy] .wide { margin-bottom: 1.5rem; }
    [data-explorer=deploy] .title { color: var(--pst-color-text-base); font-size: .9rem; font-weight: 600;
      line-height: 1.35; margin: 0 0 .4rem; }
    [data-explorer=deploy] .hint { color: var(--pst-color-text-muted); font-size: .8rem; line-height: 1.4; margin: .4rem 0 0; }
    [data-explorer=deploy] svg { display: block; height: auto; max-width: 25rem; width: 100%; }
    [data-explorer=deploy] .wide svg { max-width: none; }
    [data-explorer=deploy] svg text { fill: var(--pst-color-text-muted); font-size: 12px; }
    [data-explorer=deploy] svg text.strong { fill: var(--pst-color-text-base); font-weight: 600; }
    [data-explorer=deploy] .harm { fill: var(--orange); }
    [data-explorer=deploy] .gain { fill: var(--blue); }
    [data-explorer=deploy] .none { fill: var(--pst-color-text-muted); }
    [data-explorer=deploy] .kept { fill: var(--pst-color-border); }
    [data-explorer=deploy] .area { opacity: .35; }
    [data-explorer=deploy] .axis { stroke: var(--pst-color-text-muted); stroke-width: 1; }
    [data-explorer=deploy] .grid { stroke: var(--pst-color-border); stroke-width: 1; }
    [data-explorer=deploy] .truth { stroke: var(--pst-color-text-base); stroke-width: 2.5; }
    [data-explorer=deploy] polyline { fill: none; }
    [data-explorer=deploy] .chosen { stroke: var(--pst-color-text-base); stroke-width: 2.5; }
    [data-explorer=deploy] .other { stroke: var(--pst-color-text-muted); stroke-width: 1.2; }
    [data-explorer=deploy] .dashed { stroke-dasharray: 8 4; }
    [data-explorer=deploy] .dotted { stroke-dasharray: 2 3; }
    [data-explorer=deploy] .now { fill: var(--pst-color-text-base); stroke: var(--pst-color-background); stroke-width: 2; }
  `;

  const slider = (id, key, label, min, max, step, value) =>
    `<div><label for="${id}-${key}">${label} <output for="${id}-${key}" data-output="${key}"></output></label>` +
    `<input id="${id}-${key}" data-input="${key}" type="range" min="${min}" max="${max}" step="${step}" value="${value}"></div>`;

  const layout = (id, count) => `
    <div class="explorer-controls">
      ${slider(id, "labels", "labelled queries", 0, LABELS.length - 1, 1, LABELS.indexOf(100))}
      ${slider(id, "settings", "settings tried", 1, count, 1, count)}
      ${slider(id, "gain", "true effect, points", -2, 2, 0.1, -0.5)}
      <fieldset><legend>Rule of decision</legend><div class="explorer-buttons">
        ${Object.entries(RULES).map(([rule, [name]]) => `<button type="button" data-rule="${rule}">${name}</button>`).join("")}
      </div><p class="hint" data-words="rule"></p></fieldset>
    </div>
    <output class="verdict" aria-live="polite"></output>
    <div class="wide">
      <p class="title">Of a hundred teams that do this: those that deploy (coloured)</p>
      <svg data-drawing="cases" viewBox="0 0 397 61" role="img"></svg>
    </div>
    <div class="panels">
      <div>
        <p class="title">What the labels say about the chosen setting, points</p>
        <svg data-drawing="estimates" viewBox="0 0 320 180" role="img"></svg>
        <p class="hint">Coloured: deployed. Grey: left as it is.</p>
      </div>
      <div>
        <p class="title">How often something is deployed, by its true effect</p>
        <svg data-drawing="curve" viewBox="0 0 320 180" role="img"></svg>
        <p class="hint" data-words="others"></p>
      </div>
    </div>`;

  function start(figure) {
    const root = figure.querySelector(".explorer-root");
    const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const id = `${figure.id || NAME}-explorer`;
    root.innerHTML = layout(id, data.settings.length);
    const find = (what, name) => root.querySelector(`[data-${what}="${name}"]`);
    const number = (name) => Number(find("input", name).value);
    const ready = prepare(data);
    let rule = "mean";

    function show() {
      const [labels, settings, gain] = [LABELS[number("labels")], number("settings"), number("gain")];
      const outcome = simulate(ready, labels, settings);
      const estimates = outcome[rule].estimate.map((estimate) => estimate + gain);
      const deployed = Array.from(outcome[rule].lower, (lower) => lower + gain > 0);
      const share = deployed.filter(Boolean).length / REPETITIONS;
      const idle = outcome[rule].lower.filter((lower) => lower > 0).length / REPETITIONS;
      const promised = estimates.reduce((total, estimate, r) => total + (deployed[r] ? estimate : 0), 0) / (share * REPETITIONS);

      find("output", "labels").textContent = labels;
      find("input", "labels").setAttribute("aria-valuetext", `${labels} queries`);
      find("output", "settings").textContent = settings;
      find("input", "settings").setAttribute("aria-valuetext", data.settings.slice(0, settings).join(", "));
      find("output", "gain").textContent = points(gain);
      find("input", "gain").setAttribute("aria-valuetext", `${points(gain)} points`);
      root.querySelectorAll("[data-rule]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.rule === rule));

      const said = root.querySelector(".verdict");
      said.textContent = verdict(gain, share, promised, idle);
      find("words", "rule").textContent = RULES[rule][1];
      const [dashed, dotted] = others(rule).map((other) => RULES[other][0].toLowerCase());
      find("words", "others").textContent = `Dashed: ${dashed}. Dotted: ${dotted}.`;
      said.style.setProperty("--verdict", { harm: "var(--orange)", gain: "var(--blue)", none: "var(--pst-color-text-muted)" }[kind(gain)]);
      said.dataset.share = share;
      said.dataset.idle = idle;
      said.dataset.promised = share > 0 ? promised : "";
      said.dataset.average = estimates.reduce((a, b) => a + b, 0) / REPETITIONS;

      const draw = (name, inside, words) => {
        find("drawing", name).innerHTML = inside;
        find("drawing", name).setAttribute("aria-label", words);
      };
      draw("cases", casesDrawing(share, gain), `${Math.round(100 * share)} of 100 squares are coloured.`);
      draw("estimates", estimatesDrawing(estimates, deployed, gain), `Histogram of estimates around ${points(said.dataset.average * 1)}, with a line at the truth, ${points(gain)}.`);
      draw("curve", curveDrawing(outcome, rule, gain, share), `Rising curve; at ${points(gain)} points it is at ${percent(share)}.`);
    }

    root.addEventListener("input", show);
    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-rule]");
      if (!button) return;
      rule = button.dataset.rule;
      show();
    });
    show();
  }

  window.beginExplorers(NAME, start, STYLE);
})();
