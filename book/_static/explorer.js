// What every explorer needs to begin: its figures on the page, once it is there, and their style.
"use strict";
window.beginExplorers = (name, start, style = "") => {
  function begin() {
    const figures = document.querySelectorAll(`figure[data-explorer="${name}"]`);
    if (figures.length === 0) return;
    const sheet = document.createElement("style");
    sheet.textContent = style;
    document.head.append(sheet);
    figures.forEach((figure) => start(figure));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
};
