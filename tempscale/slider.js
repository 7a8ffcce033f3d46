(function (name, data) {
  "use strict";
  const root = document.getElementById(name);
  const input = root.querySelector("input");
  const canvases = root.querySelectorAll("canvas");
  const numbers = root.querySelectorAll("dd output");
  const position = root.querySelector("p output");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const colours = bytes(data.colours);
  const pixels = data.panels.map((panel) => bytes(panel.pixels));

  // The layout travels with the slider, so that it is the same in the book, in Jupyter and on Colab.
  root.querySelector(".panels").style.cssText = "display:flex;flex-wrap:wrap;gap:1rem";
  root.querySelectorAll(".panel").forEach((panel) => (panel.style.cssText = "flex:1 1 14rem;max-width:22rem"));
  root.querySelector("dl").style.cssText = "display:grid;grid-template-columns:max-content auto;gap:0 1rem;margin-top:1rem";
  root.querySelectorAll("dd").forEach((term) => (term.style.margin = "0"));
  input.style.cssText = "width:60%;max-width:24rem;vertical-align:middle";

  function draw(canvas, panel, frame) {
    const size = panel.rows * panel.columns;
    canvas.width = panel.columns;
    canvas.height = panel.rows;
    canvas.style.cssText = "width:100%;image-rendering:pixelated";
    const image = new ImageData(panel.columns, panel.rows);
    for (let i = 0; i < size; i++) {
      const colour = 3 * frame[i];
      image.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function show() {
    const t = Number(input.value);
    const value = data.values[t].toFixed(2);
    position.textContent = value;
    input.setAttribute("aria-valuetext", value);
    data.panels.forEach((panel, i) => {
      const size = panel.rows * panel.columns;
      draw(canvases[i], panel, pixels[i].subarray(t * size, (t + 1) * size));
      canvases[i].setAttribute("aria-label", panel.title + " at " + value);
    });
    data.readouts.forEach((readout, i) => (numbers[i].textContent = readout.numbers[t].toFixed(3)));
  }

  // Start at 1, the value that changes nothing, where there is one.
  const distance = data.values.map((value) => Math.abs(value - 1));
  input.value = String(distance.indexOf(Math.min(...distance)));
  input.addEventListener("input", show);
  show();
})
