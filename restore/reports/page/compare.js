"use strict";
(() => {
  const names = JSON.parse(document.getElementById("names").textContent);
  const root = document.documentElement;
  root.classList.add("live");
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  /* One image: layers of one size under one transform, and a divider that clips the left one. */
  class Compare {
    constructor(stage) {
      this.stage = stage;
      this.card = stage.closest(".card");
      this.layers = new Map([...stage.querySelectorAll(".layer")].map((layer) => [layer.dataset.kind, layer]));
      this.split = 0.5;
      this.pointers = new Map();
      this.reset();
      stage.addEventListener("pointerdown", (event) => this.press(event));
      stage.addEventListener("pointermove", (event) => this.drag(event));
      for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => this.release(event));
      stage.addEventListener("dblclick", (event) => this.doubleClick(event));
      stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      stage.addEventListener("keydown", (event) => this.key(event));
      stage.querySelector(".tools").addEventListener("click", (event) => this.tool(event));
      new ResizeObserver(() => this.draw()).observe(stage);
    }
    get wide() { return this.card.classList.contains("wide"); }
    get box() { return this.stage.getBoundingClientRect(); }
    get fit() { return this.box.width / this.stage.dataset.width; } // screen pixels for one image pixel at zoom 1
    get limit() { return Math.max(8, 16 / this.fit); }

    show(left, right) {
      this.left = this.layers.has(left) ? left : right;
      this.right = right;
      for (const [kind, layer] of this.layers) layer.classList.toggle("shown", kind === this.left || kind === right);
      this.stage.querySelector(".tag.left").textContent = names[this.left];
      this.stage.querySelector(".tag.right").textContent = names[right];
      this.draw();
    }
    reset() { this.zoom = 1; this.x = 0; this.y = 0; this.draw(); }
    zoomTo(zoom, x = this.box.width / 2, y = this.box.height / 2) {
      zoom = clamp(zoom, 1, this.limit);
      const ratio = zoom / this.zoom;
      this.x = x - (x - this.x * this.box.width) * ratio;
      this.y = y - (y - this.y * this.box.height) * ratio;
      this.zoom = zoom;
      this.x /= this.box.width;
      this.y /= this.box.height;
      this.draw();
    }
    pan(dx, dy) { this.x += dx / this.box.width; this.y += dy / this.box.height; this.draw(); }
    splitAt(share) { this.split = clamp(share, 0, 1); this.draw(); }

    draw() {
      if (!this.right) return;
      const { width, height } = this.box;
      this.x = clamp(this.x, 1 - this.zoom, 0);
      this.y = clamp(this.y, 1 - this.zoom, 0);
      const transform = `translate(${this.x * width}px, ${this.y * height}px) scale(${this.zoom})`;
      for (const [kind, layer] of this.layers) {
        layer.firstElementChild.style.transform = transform;
        const onlyLeft = kind === this.left && kind !== this.right;
        layer.style.zIndex = onlyLeft ? 1 : 0;
        layer.style.clipPath = onlyLeft ? `inset(0 ${100 - this.split * 100}% 0 0)` : "none";
      }
      for (const part of this.stage.querySelectorAll(".divider, .tag, .tools")) part.style.zIndex = 2;
      this.stage.querySelector(".divider").style.left = `${this.split * 100}%`;
      this.stage.querySelector(".tag.left").classList.toggle("out", this.split * width < 90);
      this.stage.querySelector(".tag.right").classList.toggle("out", (1 - this.split) * width < 90);
      this.stage.classList.toggle("zoomed", this.zoom > 1);
      this.stage.classList.toggle("pixels", this.zoom * this.fit * devicePixelRatio >= 3);
      this.stage.querySelector(".zoom").textContent = `${Math.round(this.zoom * this.fit * 100)} %`;
      this.stage.setAttribute("aria-valuenow", Math.round(this.split * 100));
      this.stage.setAttribute("aria-valuetext", `${Math.round(this.split * 100)} % ${names[this.left]}, the rest ${names[this.right]}`);
    }

    at(event) { const box = this.box; return [event.clientX - box.left, event.clientY - box.top]; }
    press(event) {
      if (event.target.closest(".tools") || event.button) return;
      this.stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.at(event));
      const [x] = this.at(event);
      const nearDivider = Math.abs(x - this.split * this.box.width) < 26;
      this.mode = this.pointers.size > 1 ? "pinch" : this.zoom > 1 && !nearDivider ? "pan" : "split";
      this.stage.classList.toggle("panning", this.mode === "pan");
      if (this.mode === "split" && event.pointerType === "mouse") this.splitAt(x / this.box.width);
    }
    drag(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = this.at(event);
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
      this.pointers.set(event.pointerId, now);
      if (this.mode === "split") return this.splitAt(now[0] / this.box.width);
      if (this.mode === "pan") return this.pan(now[0] - before[0], now[1] - before[1]);
      if (!others.length) return;
      const [ox, oy] = others[0][1];
      const spread = ([x, y]) => Math.max(20, Math.hypot(x - ox, y - oy));
      this.zoomTo(this.zoom * spread(now) / spread(before), (now[0] + ox) / 2, (now[1] + oy) / 2);
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    }
    release(event) { this.pointers.delete(event.pointerId); this.stage.classList.remove("panning"); }
    doubleClick(event) {
      if (event.target.closest(".tools")) return;
      if (this.zoom > 1) this.reset(); else this.zoomTo(Math.max(3, 4 / this.fit), ...this.at(event));
    }
    wheel(event) {
      if (!event.ctrlKey && !event.metaKey && !this.wide) return; // otherwise the page scrolls
      event.preventDefault();
      this.zoomTo(this.zoom * Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0025)), ...this.at(event));
    }
    tool(event) {
      const job = event.target.closest("button")?.dataset.do;
      if (job) this.act(job);
    }
    act(job) {
      if (job === "in") this.zoomTo(this.zoom * 1.6);
      if (job === "out") this.zoomTo(this.zoom / 1.6);
      if (job === "reset") this.reset();
      if (job === "wide") widen(this, !this.wide);
    }
    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const job = { "+": "in", "=": "in", "-": "out", "0": "reset", f: "wide", F: "wide" }[event.key];
      if (step && event.shiftKey) this.pan(-step[0] * 40, -step[1] * 40);
      else if (step && step[0]) this.splitAt(this.split + step[0] * 0.02);
      else if (event.key === "Home" || event.key === "End") this.splitAt(event.key === "End" ? 1 : 0);
      else if (job) this.act(job);
      else if (event.key === "p" || event.key === "P") nextPair();
      else if ("nN".includes(event.key) || "bB".includes(event.key)) neighbour(this, "nN".includes(event.key) ? 1 : -1);
      else if (event.key === "Escape" && this.wide) widen(this, false);
      else return;
      event.preventDefault();
    }
  }

  const all = [...document.querySelectorAll(".stage")].map((stage) => new Compare(stage));
  const buttons = [...document.querySelectorAll("[data-pair]")];
  const sides = [...document.querySelectorAll("[data-side]")]; // two lists of all pictures, in place of buttons

  function choose(button) {
    for (const other of buttons) {
      other.setAttribute("aria-checked", other === button);
      other.tabIndex = other === button ? 0 : -1;
    }
    const [left, right] = button.dataset.pair.split(" ");
    for (const item of all) item.show(left, item.layers.has(right) ? right : "restored");
  }
  function chooseSides() {
    const [left, right] = sides.map((side) => side.value);
    for (const item of all) item.show(left, item.layers.has(right) ? right : [...item.layers.keys()].at(-1));
  }
  function nextPair() {
    if (sides.length) {
      const [, right] = sides;
      right.selectedIndex = (right.selectedIndex + 1) % right.options.length;
      return chooseSides();
    }
    const now = buttons.findIndex((button) => button.getAttribute("aria-checked") === "true");
    if (buttons.length) choose(buttons[(now + 1) % buttons.length]);
  }
  function widen(item, on) {
    item.card.classList.toggle("wide", on);
    document.body.classList.toggle("covered", on);
    item.reset();
    item.stage.focus({ preventScroll: true });
  }
  function neighbour(item, step) {
    const next = all[(all.indexOf(item) + step + all.length) % all.length];
    const wide = item.wide;
    if (wide) widen(item, false);
    next.stage.focus();
    if (wide) widen(next, true);
  }
  for (const button of buttons) {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(buttons.indexOf(button) + step + buttons.length) % buttons.length];
      choose(next);
      next.focus();
    });
  }
  const showFirst = (item) => item.show(item.layers.has("baseline") ? "baseline" : "restored", "restored");
  for (const side of sides) side.addEventListener("change", chooseSides);
  if (sides.length) chooseSides();
  else if (buttons.length) choose(buttons[0]);
  else all.forEach(showFirst);

  /* For pages whose images come later. */
  window.addStage = (stage) => { all.push(new Compare(stage)); showFirst(all.at(-1)); };
  window.removeStage = (stage) => {
    const at = all.findIndex((item) => item.stage === stage);
    if (at < 0) return;
    if (all[at].wide) widen(all[at], false);
    all.splice(at, 1);
  };
})();
