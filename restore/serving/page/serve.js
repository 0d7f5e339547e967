"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const POLL_MS = [250, 500, 1000];
  const AT_ONCE = 2;

  /* The token comes behind the # of the address that the server printed, and stays in this tab. */
  const held = { get() { try { return sessionStorage.getItem("restore-token"); } catch { return null; } },
                 set(value) { try { sessionStorage.setItem("restore-token", value); } catch { /* kept in memory alone */ } } };
  let token = new URLSearchParams(location.hash.slice(1)).get("token") || held.get();
  if (token) { held.set(token); history.replaceState(null, "", location.pathname); }

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  async function ask(path, options = {}) {
    const headers = { "X-Restore": "1", ...(token && { Authorization: `Bearer ${token}` }) };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer.");
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    const fault = new Error(told.error || `The server answers ${answer.status}.`);
    fault.status = answer.status;
    fault.after = Number(answer.headers.get("Retry-After"));
    throw fault;
  }

  let offered = { tasks: [], models: [], formats: [], limits: {} };
  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  const chosen = () => offered.models.find((model) => model.name === $("model").value);

  function level(model) {
    if (model.sigma != null) return `noise ${model.sigma}`;
    if (model.jpeg_quality != null) return `quality ${model.jpeg_quality}`;
    return model.scale > 1 ? `${model.scale}×` : "";
  }
  function showModels() {
    const models = offered.models.filter((model) => model.task === $("task").value);
    $("model").replaceChildren(...models.map((model) => option(model.name, [model.name, level(model)].filter(Boolean).join(" · "))));
    $("model").value = offered.tasks.find((task) => task.name === $("task").value)?.first;
    showModel();
  }
  function showModel() {
    const model = chosen();
    $("about").textContent = model ? [model.summary.replace(/\.?$/, "."), model.licence && `Licence: ${model.licence}.`].filter(Boolean).join(" ") : "";
    $("sigma-choice").hidden = !model?.told_sigma;
  }
  async function begin() {
    try {
      offered = await (await ask("/api/models")).json();
    } catch (error) {
      $("drop").hidden = true;
      return complain(error.status === 401 ? "This server needs a token: open the address that it printed when it started." : error.message);
    }
    const words = { png: "PNG", jpg: "JPEG", webp: "WebP", tif: "TIFF" };
    $("task").replaceChildren(...offered.tasks.map((task) => option(task.name, task.title)));
    $("format").replaceChildren(...offered.formats.map((name) => option(name, words[name] || name)));
    $("limits").textContent = `At most ${Math.round(offered.limits.upload_bytes / 2 ** 20)} MB each, results of at most ${Math.round(offered.limits.result_pixels / 1e6)} megapixels`;
    showModels();
  }
  function complain(words) { $("fault").textContent = words; $("fault").hidden = !words; }

  const queue = [];
  let active = 0;
  function next() {
    while (active < AT_ONCE && queue.length) {
      active += 1;
      queue.shift().run().finally(() => { active -= 1; next(); });
    }
  }

  /* One photograph, from its file to the slider. */
  class Photograph {
    constructor(file) {
      this.file = file;
      this.wish = { model: $("model").value, format: $("format").value, ...(chosen()?.told_sigma && { sigma: $("sigma").value }) };
      this.card = $("card").content.firstElementChild.cloneNode(true);
      this.stop = new AbortController();
      this.urls = [URL.createObjectURL(file)];
      this.find(".name b").textContent = file.name;
      this.find(".name span").textContent = this.wish.model;
      const image = this.find(".pending img");
      image.addEventListener("load", () => this.shape(image.naturalWidth, image.naturalHeight));
      image.addEventListener("error", () => image.removeAttribute("src")); // a kind that browsers do not show
      image.src = this.urls[0];
      this.shape(3, 2);
      this.say("waiting");
      this.card.addEventListener("click", (event) => this.act(event.target.dataset.act));
      $("gallery").prepend(this.card);
      $("photographs").hidden = false;
    }
    find(selector) { return this.card.querySelector(selector); }
    shape(width, height) { this.card.style.setProperty("--ratio", (width / height).toFixed(4)); }
    say(words, share) {
      this.find(".working p").textContent = words;
      const bar = this.find("progress");
      if (share > 0) bar.value = share; else bar.removeAttribute("value");
    }
    act(what) {
      if (what === "drop") this.drop();
      if (what === "again") { this.drop(); add([this.file]); }
    }
    drop() {
      this.stop.abort();
      if (this.id) ask(`/api/orders/${this.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
      this.id = null;
      window.removeStage(this.find(".stage"));
      this.urls.forEach((url) => URL.revokeObjectURL(url));
      this.card.remove();
      const at = queue.indexOf(this);
      if (at >= 0) queue.splice(at, 1);
      $("photographs").hidden = !$("gallery").childElementCount;
    }
    async run() {
      try {
        if (this.file.size > offered.limits.upload_bytes) throw new Error(`The file has ${(this.file.size / 2 ** 20).toFixed(1)} MB, which is more than this server takes.`);
        await this.follow(await this.send());
      } catch (error) {
        if (error.name !== "AbortError") this.fail(error.message);
      }
    }
    async send() {
      for (;;) {
        const form = new FormData();
        for (const [key, value] of Object.entries(this.wish)) form.append(key, value);
        form.append("image", this.file);
        this.say("sending");
        try {
          return await (await ask("/api/orders", { method: "POST", body: form, signal: this.stop.signal })).json();
        } catch (error) {
          if (!(error.status === 503 && error.after)) throw error;
          this.say(error.message);
          await pause(1000 * error.after);
          if (this.stop.signal.aborted) throw new DOMException("", "AbortError");
        }
      }
    }
    async follow(order) {
      this.id = order.id;
      const from = performance.now();
      let begun = null;
      for (let look = 0; order.state === "waiting" || order.state === "running"; look += 1) {
        if (order.state === "waiting") this.say(order.before ? `waiting, ${order.before} before this one` : "waiting");
        else {
          begun ??= performance.now();
          const spent = (performance.now() - begun) / 1000;
          const left = order.progress > 0.02 ? spent / order.progress - spent : null;
          this.say(`restoring ${Math.round(100 * order.progress)} %${left > 2 ? `, about ${span(left)} left` : ""}`, order.progress);
        }
        await pause(POLL_MS[Math.min(Math.floor(look / 8), POLL_MS.length - 1)]);
        order = await (await ask(`/api/orders/${this.id}`, { signal: this.stop.signal })).json();
      }
      if (order.state === "failed") { this.id = null; throw new Error(order.error); }
      this.say("fetching", 1);
      const blob = await (await ask(`/api/orders/${this.id}/result`, { signal: this.stop.signal })).blob();
      this.id = null;
      this.show(order, blob, (performance.now() - from) / 1000);
    }
    async show(order, blob, seconds) {
      const url = URL.createObjectURL(blob);
      this.urls.push(url);
      const save = this.find('[data-act="save"]');
      Object.assign(save, { href: url, download: order.name, hidden: false });
      this.find('[data-act="drop"]').textContent = "Remove";
      this.find(".name span").textContent = `${order.model} · ${order.width}×${order.height} → ${order.result_width}×${order.result_height} · ${span(seconds)}`;
      this.note(order.notes.join(". "));
      const stage = this.find(".stage");
      Object.assign(stage.dataset, { width: order.result_width, height: order.result_height });
      stage.setAttribute("aria-label", `${this.file.name}: share of the left image`);
      this.shape(order.result_width, order.result_height);
      const [before, after] = await Promise.all([["baseline", this.urls[0]], ["restored", url]].map(async ([kind, source]) => {
        const image = stage.querySelector(`[data-kind="${kind}"] img`);
        image.alt = `${this.file.name}, ${kind === "baseline" ? "before" : "restored"}`;
        image.src = source;
        try { await image.decode(); return true; } catch { image.closest(".layer").remove(); return false; }
      }));
      this.card.classList.add("done");
      if (!after) { this.card.classList.add("unshown"); return this.note("This browser does not show files of this kind: download it."); }
      if (!before) { this.card.classList.add("single"); this.note("This browser does not show the original, only the result."); }
      window.addStage(stage);
    }
    note(words) {
      if (!words) return;
      const note = this.find(".notes");
      note.textContent = [note.textContent, words.replace(/\.?$/, ".")].filter(Boolean).join(" ");
      note.hidden = false;
    }
    fail(words) {
      this.card.classList.add("failed");
      const note = this.find(".note.bad");
      note.textContent = words;
      note.hidden = false;
      this.find('[data-act="again"]').hidden = false;
      this.find('[data-act="drop"]').textContent = "Remove";
    }
  }
  function span(seconds) { return seconds < 90 ? `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`; }

  function add(files) {
    for (const file of files) queue.push(new Photograph(file));
    next();
  }

  $("task").addEventListener("change", showModels);
  $("model").addEventListener("change", showModel);
  $("files").addEventListener("change", () => { add([...$("files").files]); $("files").value = ""; });
  let depth = 0; // of the elements that a dragged file is over
  const over = (step) => { depth = Math.max(0, depth + step); $("drop").classList.toggle("over", depth > 0); };
  addEventListener("dragenter", (event) => { event.preventDefault(); over(1); });
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    if (!$("drop").hidden) add([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => { if (event.clipboardData.files.length && !$("drop").hidden) add([...event.clipboardData.files]); });
  begin();
})();
