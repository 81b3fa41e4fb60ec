"use strict";
// Search and order of the cards of an end point. Without this script all cards stand in the order of their numbers.
(() => {
  const list = document.querySelector(".channels"), tools = document.querySelector(".tools");
  const cards = [...list.children].map((card, number) => ({
    card, number, values: card.dataset.v.split(" ").map(Number), text: card.dataset.t,
  }));
  const search = tools.querySelector("input"), order = tools.querySelector("select"), said = tools.querySelector("output");
  tools.hidden = false;

  function fits(words, { number, text }) {
    return words.every(word => {
      const span = /^#?(\d+)(?:(?:-|\.\.)(\d+))?$/.exec(word);
      return span ? number >= +span[1] && number <= +(span[2] || span[1]) : text.includes(word);
    });
  }
  function show() {
    const words = search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    let shown = 0;
    for (const each of cards) {
      const fit = fits(words, each);
      each.card.hidden = !fit;
      shown += fit;
    }
    said.value = shown === cards.length ? `${shown} channels` : `${shown} of ${cards.length} channels`;
  }
  function sort() {
    const by = +order.value, rank = value => (Number.isNaN(value) ? -Infinity : value);
    const sorted = [...cards].sort((a, b) => (by < 0 ? 0 : rank(b.values[by]) - rank(a.values[by])) || a.number - b.number);
    const all = document.createDocumentFragment();
    for (const { card } of sorted) all.append(card);
    list.append(all);
  }
  function jump() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target) {
      target.hidden = false;
      target.scrollIntoView({ block: "center" });
    }
  }
  search.addEventListener("input", show);
  order.addEventListener("change", sort);
  addEventListener("hashchange", jump);
  document.addEventListener("keydown", event => {
    if (event.key === "/" && document.activeElement !== search) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && document.activeElement === search) {
      search.value = "";
      show();
    }
  });
  show();
  jump();
})();
