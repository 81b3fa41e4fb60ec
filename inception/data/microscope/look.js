"use strict";
// The page of a picture: its maps over it, two pictures (or two networks) side by side. Data come by `look({...})`.
const looks = {}, waiting = {};
function look(data) {
  looks[data.page] = data;
  for (const told of waiting[data.page] || []) told(data);
}
(() => {
  const home = document.getElementById("look"), settings = JSON.parse(home.dataset.settings);
  const state = { point: "", kind: "channel", channel: -1, label: -1, order: "means" };
  const panels = [];

  function make(kind, parent, fields = {}, text = "") {
    const made = Object.assign(document.createElement(kind), fields);
    if (text) made.textContent = text;
    parent.append(made);
    return made;
  }
  function choice(parent, words, options, value, changed) {
    const label = make("label", parent, {}, words), select = make("select", label);
    for (const [key, name] of options) make("option", select, { value: key, selected: key === value }, name);
    select.addEventListener("change", () => changed(select.value));
    return select;
  }
  function loaded(page) {
    if (looks[page]) return Promise.resolve(looks[page]);
    return new Promise(told => {
      if (!waiting[page]) make("script", document.head, { src: `${page}.js` });
      (waiting[page] = waiting[page] || []).push(told);
    });
  }
  function bytes(text) {
    return Uint8Array.from(atob(text), c => c.charCodeAt(0));
  }
  function plane(point, index) {
    const [height, width] = point.side, size = height * width, step = Math.ceil(size / 3) * 4;
    return bytes(point.maps.slice(index * step, (index + 1) * step)).subarray(0, size);
  }
  function colour(value, anchors) {
    const at = value / 255 * (anchors.length - 1), low = Math.min(Math.floor(at), anchors.length - 2);
    return anchors[low].map((c, i) => c + (anchors[low + 1][i] - c) * (at - low));
  }
  function painted(values, [height, width], anchors, alpha) {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    Object.assign(canvas, { width, height });
    const image = pen.createImageData(width, height);
    values.forEach((value, i) => image.data.set([...colour(value, anchors), alpha(value)], 4 * i));
    pen.putImageData(image, 0, 0);
    return canvas;
  }

  class Panel {
    constructor(parent, page, side) {
      Object.assign(this, { page, side, cursor: null });
      const box = make("section", parent, { className: "panel" }), tools = make("div", box, { className: "tools" });
      this.box = box;
      box.setAttribute("aria-label", `Picture ${panels.length + 1}`);
      this.select = choice(tools, "Picture", settings.pages, page, value => this.show(value, this.side));
      this.sides = make("span", tools);
      const zoom = make("input", make("label", tools, {}, "Zoom"), { type: "range", min: 1, max: 6, step: 0.5, value: 1 });
      const stage = make("div", box, { className: "stage" });
      zoom.addEventListener("input", () => stage.style.setProperty("--zoom", zoom.value));
      this.canvas = make("canvas", stage, { tabIndex: 0 });
      this.canvas.setAttribute("role", "img");
      this.say = make("output", box, { className: "say" });
      this.grid = make("div", box, { className: "grid" });
      this.canvas.addEventListener("mousemove", event => {
        const { width, height } = this.canvas.getBoundingClientRect();
        this.point_at(event.offsetY / height, event.offsetX / width);
      });
      this.canvas.addEventListener("mouseleave", () => { this.cursor = null; this.draw(); });
      this.canvas.addEventListener("keydown", event => {
        const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!move || !this.point) return;
        event.preventDefault();
        const [height, width] = this.point.side, last = this.cursor || [Math.floor(height / 2), Math.floor(width / 2)];
        this.cursor = [Math.min(Math.max(last[0] + move[0], 0), height - 1), Math.min(Math.max(last[1] + move[1], 0), width - 1)];
        this.draw();
      });
      this.show(page, side);
    }
    async show(page, side) {
      const data = await loaded(page);
      Object.assign(this, { page, side: Math.min(side, data.sides.length - 1), data, cursor: null });
      this.photo = new Image();
      this.photo.src = `${page}.webp`;
      this.photo.alt = data.name;
      await this.photo.decode().catch(() => {});
      this.sides.replaceChildren();
      if (data.sides.length > 1) {
        const names = data.sides.map(({ name }, i) => [String(i), name]);
        choice(this.sides, "Network", names, String(this.side), value => this.show(this.page, +value));
      }
      if (!state.point) start(data);
      this.update();
    }
    get point() {
      return this.data && this.data.sides[this.side].points[state.point];
    }
    point_at(y, x) {
      const point = this.point, [top, left, bottom, right] = this.data.window;
      if (!point) return;
      const row = Math.floor((y - top) / (bottom - top) * point.side[0]);
      const column = Math.floor((x - left) / (right - left) * point.side[1]);
      const inside = row >= 0 && column >= 0 && row < point.side[0] && column < point.side[1];
      this.cursor = inside ? [row, column] : null;
      this.draw();
    }
    values() {
      const point = this.point;
      if (!point) return null;
      if (state.kind === "channel") {
        const index = point.channels.indexOf(state.channel);
        return index < 0 ? null : { bytes: plane(point, index), top: point.tops[index], anchors: settings.viridis };
      }
      const cam = point.cams.find(each => each.class === state.label);
      return cam && cam.map ? { bytes: bytes(cam.map).subarray(0, point.side[0] * point.side[1]), top: 1, anchors: settings.heat } : null;
    }
    update() {
      if (!this.data) return;
      const point = this.point;
      this.grid.replaceChildren();
      if (point) {
        const order = point.channels.map((_, i) => i).sort((a, b) => point[state.order][b] - point[state.order][a] || a - b);
        for (const i of state.order === "channels" ? order.reverse() : order) {
          const channel = point.channels[i], button = make("button", this.grid, { type: "button" });
          button.dataset.channel = channel;
          const tile = painted(plane(point, i), point.side, settings.viridis, () => 255);
          tile.setAttribute("aria-hidden", "true");
          button.append(tile);
          make("span", button, {}, `${channel}: ${point.tops[i].toPrecision(3)}`);
          button.title = `channel ${channel}: greatest ${point.tops[i]}, mean ${point.means[i]}`;
          button.addEventListener("click", () => set({ kind: "channel", channel }));
        }
      }
      this.draw();
    }
    draw() {
      if (!this.data) return;
      const [height, width] = this.data.size, pen = this.canvas.getContext("2d"), values = this.values(), point = this.point;
      if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
      pen.drawImage(this.photo, 0, 0, width, height);
      const [top, left, bottom, right] = this.data.window;
      const area = [left * width, top * height, (right - left) * width, (bottom - top) * height];
      if (values) {
        pen.fillStyle = "rgba(110, 110, 110, .35)";
        pen.fillRect(0, 0, width, height);
        const tile = painted(values.bytes, point.side, values.anchors, value => 40 + 0.75 * value);
        pen.imageSmoothingQuality = "high";
        pen.drawImage(tile, ...area);
      }
      if (point && this.cursor) {
        const [rows, columns] = point.side, [row, column] = this.cursor;
        pen.strokeStyle = "#fff";
        pen.lineWidth = 2;
        pen.strokeRect(area[0] + column / columns * area[2], area[1] + row / rows * area[3], area[2] / columns, area[3] / rows);
      }
      const what = state.kind === "channel" ? `channel ${state.channel} of ${state.point}` : `the class at ${state.point}`;
      let said = values ? "" : state.kind === "channel" ? `Channel ${state.channel} is not among the strongest here.`
        : "Nothing here speaks for the class.";
      if (values && this.cursor) {
        const value = values.bytes[this.cursor[0] * point.side[1] + this.cursor[1]] / 255 * values.top;
        said = `${value.toPrecision(3)} at row ${this.cursor[0]}, column ${this.cursor[1]} of ${point.side.join(" × ")}`;
      } else if (values) {
        said = `${what}: ${state.kind === "channel" ? `greatest ${values.top}` : "1 is most evidence"}`;
      }
      if (this.say.value !== said) this.say.value = said;
      this.canvas.setAttribute("aria-label", `${this.data.name}, with ${what} over it`);
      for (const button of this.grid.children) {
        button.setAttribute("aria-pressed", String(state.kind === "channel" && +button.dataset.channel === state.channel));
      }
    }
  }

  const tools = make("div", home, { className: "tools" });
  let cams;
  function set(changes) {
    const anew = changes.point || changes.order;
    Object.assign(state, changes);
    if (changes.point) strongest();
    cams.value = state.kind === "class" ? String(state.label) : "";
    for (const panel of panels) anew ? panel.update() : panel.draw();
  }
  function strongest() {
    const point = panels[0].point;
    if (point) state.channel = point.channels[point.means.indexOf(Math.max(...point.means))];
  }
  function start(data) {
    const points = settings.points.filter(name => data.sides[0].points[name]);
    state.point = points.includes("Mixed_5b") ? "Mixed_5b" : points[0] || "";
    choice(tools, "End point", points.map(name => [name, name]), state.point, point => set({ point }));
    const orders = [["means", "mean"], ["tops", "greatest value"], ["channels", "number"]];
    choice(tools, "Channels by", orders, "means", order => set({ order }));
    const named = data.sides.find(side => side.classes.length) || data.sides[0];
    const classes = named.classes.map(([number, name, score]) => [String(number), `${name} ${(100 * score).toFixed(1)} %`]);
    cams = choice(tools, "Grad-CAM of", [["", "no class: the channel"], ...classes], "", value =>
      set(value === "" ? { kind: "channel" } : { kind: "class", label: +value }));
    cams.parentElement.hidden = !classes.length;
    const two = make("button", tools, { type: "button" }, "Two side by side");
    two.setAttribute("aria-pressed", "false");
    two.addEventListener("click", () => {
      const on = panels.length === 1;
      if (on) {
        const others = settings.pages.map(([page]) => page), twin = data.sides.length > 1;
        const next = twin ? panels[0].page : others[(others.indexOf(panels[0].page) + 1) % others.length];
        panels.push(new Panel(both, next, twin ? 1 : 0));
      } else panels.pop().box.remove();
      two.setAttribute("aria-pressed", String(on));
    });
    queueMicrotask(() => { strongest(); panels.forEach(panel => panel.update()); });
  }
  const both = make("div", home, { className: "look" });
  panels.push(new Panel(both, settings.page, 0));
})();
