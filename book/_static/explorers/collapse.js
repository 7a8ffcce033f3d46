// The collapse explorer: 200 texts around the mean direction of their embeddings, at each length and setting.
(() => {
  "use strict";
  const SIZE = 440; // of the map, which shows angles up to REACH degrees from its centre
  const REACH = 104;
  const WIDE = 240; // of a chart
  const HIGH = 84; // without its lengths
  const BASE = { reading: "whole", temperature: 1 };
  const WORDS = { whole: "whole", pieces: "in pieces", projected: "whole, mean direction removed" };
  const scale = SIZE / 2 / REACH;
  let serial = 0;

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function draw(tag, attributes = {}, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  }

  function numbers(text, Kind) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return Kind === Uint8Array ? bytes : new Kind(bytes.buffer); // every browser's machine is little-endian
  }

  function explore(figure) {
    const data = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const root = figure.querySelector(".explorer-root");
    const id = `collapse-${serial++}`;
    const n = data.names.length;
    const angles = numbers(data.angle, Uint16Array);
    const azimuths = numbers(data.azimuth, Uint8Array);
    const firsts = numbers(data.first, Uint8Array);
    const steps = data.lengths.length;
    const state = { ...BASE, step: 0, chosen: -1, pointed: -1 };

    // Where a setting's numbers stand: pieces differ from a whole text only where there are several.
    const place = new Map();
    let maps = 0;
    for (const reading of Object.keys(WORDS))
      for (const temperature of data.temperatures)
        data.lengths.forEach((length, step) => {
          const key = [reading, temperature, step].join();
          const same = reading === "pieces" && length <= data.piece;
          place.set(key, same ? place.get(["whole", temperature, step].join()) : maps++);
        });
    const at = (step = state.step, { reading, temperature } = state) => place.get([reading, temperature, step].join());
    const angle = (text, map = at()) => angles[map * n + text] / 360;
    const position = (text, map = at()) => {
      const turn = (azimuths[map * n + text] / 128) * Math.PI;
      const far = Math.min(angle(text, map), REACH - 3) * scale;
      return [far * Math.cos(turn), -far * Math.sin(turn)];
    };
    const found = (text, map = at()) => firsts[map * n + text] === text;

    // --- controls
    const shown = make("output", { for: `${id}-length`, "aria-live": "off" }); // the slider says it itself
    const slider = make("input", { id: `${id}-length`, type: "range", min: 0, max: steps - 1, step: 1, value: 0 });
    const play = make("button", { type: "button", class: "collapse-play" });
    const ticks = make("div", { class: "collapse-ticks", "aria-hidden": "true" });
    data.lengths.forEach((length) => ticks.append(make("span", {}, String(length))));
    const group = (title, key, options) => {
      const row = make("div", { class: "explorer-buttons" });
      options.forEach(([value, words]) => {
        const button = make("button", { type: "button" }, words);
        button.addEventListener("click", () => set({ [key]: value }));
        row.append(button);
        watchers.push(() => button.setAttribute("aria-pressed", state[key] === value));
      });
      return make("fieldset", {}, make("legend", {}, title), row);
    };
    const watchers = [];
    const readings = [
      ["whole", "whole"],
      ["pieces", "in pieces"],
      ["projected", "mean removed"],
    ];
    const remedies = make(
      "details",
      figure.dataset.preset === "remedies=closed" ? {} : { open: "" },
      make("summary", {}, "Remedies"),
      make(
        "div",
        { class: "explorer-controls" },
        group("Each text is embedded", "reading", readings),
        group("Temperature", "temperature", data.temperatures.map((t) => [t, t.toFixed(1)])),
      ),
    );
    root.append(
      make(
        "div",
        { class: "explorer-controls" },
        make(
          "div",
          { class: "collapse-length" },
          make("label", { for: `${id}-length` }, "Tokens that the model reads of each text: ", shown),
          make("div", { class: "collapse-slide" }, play, make("div", {}, slider, ticks)),
        ),
        remedies,
      ),
    );

    // --- the map
    const half = SIZE / 2;
    const map = draw("svg", { viewBox: `${-half} ${-half} ${SIZE} ${SIZE}`, role: "img", class: "collapse-map" });
    const rings = [30, 60, 90];
    for (const degrees of rings)
      map.append(draw("circle", { class: `collapse-ring ring-${degrees}`, r: degrees * scale }));
    const disc = draw("circle", { class: "collapse-disc", r: 90 * scale });
    const trail = draw("polyline", { class: "collapse-trail" });
    const dots = data.names.map((_, text) => draw("circle", { class: `collapse-dot kind-${data.package[text]}`, r: 4.5 }));
    const ring = draw("circle", { class: "collapse-chosen", r: 9 });
    const inside = draw("text", { class: "collapse-inside", y: -16 });
    map.append(
      disc,
      draw("path", { class: "collapse-pole", d: "M-7 0H7M0-7V7" }),
      draw("text", { class: "collapse-words", y: 24 }, "mean direction"),
      inside,
      ...dots,
      ...rings.map((degrees) => draw("text", { class: "collapse-words", y: degrees * scale + 5 }, `${degrees}°`)),
      trail,
      ring,
    );

    // --- readouts, each with its course over the lengths
    const readout = (title, key, percent) => {
      const value = make("output");
      const range = make("span", { class: "collapse-interval" });
      const top = percent ? 1 : Math.max(...data.cosine.flat());
      const low = percent ? 0 : Math.min(0, ...data.cosine.flat());
      const x = (step) => 12 + (step / (steps - 1)) * (WIDE - 24);
      const y = (number) => HIGH - 6 - ((number - low) / (top - low)) * (HIGH - 12);
      const chart = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH + 18}`, role: "img", class: "collapse-chart" });
      const line = (setting) => data.lengths.map((_, s) => `${x(s)},${y(data[key][at(s, setting)][0])}`).join(" ");
      const band = draw("polygon", { class: "collapse-band" });
      const course = draw("polyline", { class: "collapse-course" });
      const mark = draw("circle", { class: "collapse-mark", r: 5 });
      chart.append(
        draw("line", { class: "collapse-zero", x1: 0, x2: WIDE, y1: y(0), y2: y(0) }),
        band,
        draw("polyline", { class: "collapse-base", points: line(BASE) }),
        course,
        mark,
        ...data.lengths.map((length, s) => draw("text", { x: x(s), y: HIGH + 14 }, String(length))),
      );
      const write = (number) => (percent ? (100 * number).toFixed(percent - 1) : number.toFixed(3)).replace("-", "−");
      watchers.push(() => {
        const [mean, from, to] = data[key][at()];
        value.textContent = write(mean) + (percent ? " %" : "");
        const bare = to === undefined; // a mean without an interval
        range.textContent = bare ? "" : ` [${write(from)}, ${write(to)}]`;
        const edge = (end) => data.lengths.map((_, s) => `${x(s)},${y(data[key][at(s)][end])}`);
        band.setAttribute("points", bare ? "" : [...edge(2), ...edge(1).reverse()].join(" "));
        course.setAttribute("points", line(state));
        mark.setAttribute("cx", x(state.step));
        mark.setAttribute("cy", y(mean));
        const all = data.lengths.map((length, s) => `${write(data[key][at(s)][0])} at ${length}`).join(", ");
        chart.setAttribute("aria-label", `${title}, by tokens: ${all}.`);
      });
      return make("div", {}, make("dt", {}, title), make("dd", {}, value, range, chart));
    };
    const legend = make("ul", { class: "collapse-legend" });
    data.packages.forEach((name, k) => legend.append(make("li", { class: `kind-${k}` }, name)));
    const side = make(
      "div",
      { class: "collapse-side" },
      make(
        "dl",
        { class: "explorer-readouts" },
        readout("Mean cosine of different texts", "cosine", 0),
        readout("Summaries that find their own text", "accuracy", 1),
      ),
      make("p", { class: "collapse-key" }, "Bands and brackets: 95 % intervals. Dashed: the model as it is."),
    );
    const note = make("p", { class: "collapse-note", "aria-live": "polite" });
    const key = make("p", { class: "collapse-key" }, "● found first by its own summary  ○ not");
    const view = make("div", { class: "collapse-view" }, make("div", {}, map, legend, key), side, note);
    root.append(view);

    // --- one text: by pointing, touching, or from the list
    const list = make("select", { id: `${id}-text` }, make("option", { value: -1 }, "none; point at a dot or choose"));
    data.packages.forEach((name, k) => {
      const part = make("optgroup", { label: name });
      data.names.forEach((full, text) => data.package[text] === k && part.append(make("option", { value: text }, full)));
      list.append(part);
    });
    list.addEventListener("change", () => set({ chosen: Number(list.value) }));
    const detail = make("p", { class: "collapse-detail", "aria-live": "polite" });
    view.append(make("div", { class: "collapse-text" }, make("label", { for: `${id}-text` }, "Follow a text"), list, detail));

    const nearest = (event) => {
      const box = map.getBoundingClientRect();
      const to = (value, start, length) => ((value - start) / length) * SIZE - half;
      const [x, y] = [to(event.clientX, box.left, box.width), to(event.clientY, box.top, box.height)];
      const distance = dots.map((_, text) => Math.hypot(position(text)[0] - x, position(text)[1] - y));
      const best = distance.indexOf(Math.min(...distance));
      return distance[best] < 20 ? best : -1;
    };
    map.addEventListener("pointermove", (event) => event.pointerType === "mouse" && set({ pointed: nearest(event) }));
    map.addEventListener("pointerleave", () => set({ pointed: -1 }));
    map.addEventListener("click", (event) => set({ chosen: nearest(event), pointed: -1 }));

    // --- play
    let timer = 0;
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "▶";
      play.setAttribute("aria-label", "Play: let the texts grow");
    };
    play.addEventListener("click", () => {
      if (timer) return stop();
      set({ step: state.step === steps - 1 ? 0 : state.step + 1 });
      play.textContent = "❚❚";
      play.setAttribute("aria-label", "Pause");
      timer = setInterval(() => {
        set({ step: state.step + 1 });
        if (state.step === steps - 1) stop();
      }, 1200);
    });
    slider.addEventListener("input", () => {
      stop();
      set({ step: Number(slider.value) });
    });
    stop();

    function sentence() {
      const length = data.lengths[state.step];
      const cooled = state.temperature === 1 ? "" : ` Attention logits are divided by ${state.temperature.toFixed(1)}.`;
      const read = {
        whole: `The model reads the first ${length} tokens of each text at once.`,
        pieces:
          length > data.piece
            ? `The first ${length} tokens, in pieces of at most ${data.piece}: each is embedded by itself, and their mean is the text's embedding.`
            : `Up to ${data.piece} tokens a text is a single piece, so this is the same as reading it whole.`,
        projected: `The first ${length} tokens are read at once. Then bodies and summaries each lose what they have in the direction of their own mean, which is that of the other half of the texts. Angles beyond ${REACH - 3}° are drawn at the border.`,
      };
      return read[state.reading] + cooled;
    }

    function describe(text) {
      if (text < 0)
        return [
          "A dot is a text. Its distance from the centre is its angle from the mean direction of the other texts; its " +
            "direction is taken on two fixed axes, on which the packages differ most.",
        ];
      const degrees = angle(text);
      const cosine = Math.cos((degrees * Math.PI) / 180).toFixed(2).replace("-", "−");
      const verdict = found(text) ? "Its summary finds it first" : `Its summary finds ${data.names[firsts[at() * n + text]]} first`;
      return [
        make("strong", {}, data.names[text]),
        ` “${data.summaries[text]}” ${degrees.toFixed(0)}° from the mean of the others, cosine ${cosine}. ${verdict}.`,
      ];
    }

    function set(change) {
      if (Object.entries(change).every(([name, value]) => state[name] === value)) return;
      Object.assign(state, change);
      show();
    }

    function show() {
      const length = data.lengths[state.step];
      const order = data.names.map((_, text) => angle(text)).sort((a, b) => a - b);
      const median = (order[n / 2 - 1] + order[n / 2]) / 2;
      dots.forEach((dot, text) => {
        const [x, y] = position(text);
        dot.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
        dot.classList.toggle("missed", !found(text));
      });
      inside.textContent = `half within ${median.toFixed(0)}°`;
      disc.style.transform = `scale(${(median / 90).toFixed(4)})`;
      map.setAttribute(
        "aria-label",
        `Map of ${n} texts, read ${WORDS[state.reading]}, ${length} tokens, temperature ${state.temperature.toFixed(1)}: ` +
          `half of them lie within ${median.toFixed(0)}° of the mean direction.`,
      );
      const text = state.pointed < 0 ? state.chosen : state.pointed;
      ring.classList.toggle("shown", text >= 0);
      trail.setAttribute("points", text < 0 ? "" : data.lengths.map((_, s) => position(text, at(s)).join()).join(" "));
      if (text >= 0) ring.style.transform = dots[text].style.transform;
      detail.replaceChildren(...describe(text));
      list.value = state.chosen;
      shown.textContent = length;
      slider.value = state.step;
      slider.setAttribute("aria-valuetext", `${length} tokens`);
      note.textContent = sentence();
      watchers.forEach((watch) => watch());
    }
    show();
  }

  window.beginExplorers("collapse", explore);
})();
