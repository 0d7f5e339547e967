"use strict";
(() => {
  const root = document.documentElement;

  /* Tables: a click on a heading sorts, a second one turns the order round. */
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const value = (row, column) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? parseFloat(cell.dataset.value.replace("inf", "Infinity")) : cell.textContent.trim();
    };
    const compare = (a, b, sign) => typeof a === "string"
      ? sign * a.localeCompare(b, undefined, { numeric: true })
      : (isNaN(a) - isNaN(b)) || sign * (a - b); // what has no value comes last either way
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const now = head.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : numeric;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(value(a, column), value(b, column), descending ? -1 : 1));
      body.append(...rows);
    }));
  }

  /* Charts: the mark nearest to the pointer says what it is. */
  const NEAR_PX = 28;
  for (const chart of document.querySelectorAll(".chart")) {
    const box = chart.parentElement;
    const [, , width] = chart.getAttribute("viewBox").split(" ").map(Number);
    const marks = [...chart.querySelectorAll("circle, rect")].filter((mark) => mark.querySelector("title"));
    for (const mark of marks) {
      mark.dataset.text = mark.querySelector("title").textContent;
      mark.setAttribute("aria-label", mark.dataset.text);
      mark.querySelector("title").remove(); // the browser would show it a second time
    }
    const line = chart.querySelector("[data-values]");
    const places = line ? line.getAttribute("points").split(" ").map((pair) => pair.split(",").map(Number)) : [];
    const values = line ? line.dataset.values.split(" ") : [];
    const names = line ? line.dataset.names.split("|") : [];
    const cursor = line && chart.appendChild(document.createElementNS(chart.namespaceURI, "circle"));
    if (cursor) { cursor.setAttribute("class", "cursor"); cursor.setAttribute("r", 4); cursor.style.display = "none"; }
    const tip = box.appendChild(document.createElement("div"));
    tip.className = "tip";
    tip.hidden = true;

    const middle = (mark) => {
      if (mark.tagName === "circle") return [mark.cx.baseVal.value, mark.cy.baseVal.value];
      return [mark.x.baseVal.value + mark.width.baseVal.value / 2, mark.y.baseVal.value];
    };
    const nearest = (x, y) => {
      if (line) {
        let best = 0;
        places.forEach((place, number) => { if (Math.abs(place[0] - x) < Math.abs(places[best][0] - x)) best = number; });
        const [across, up] = values[best].split(",").map(Number);
        return { place: places[best], text: `${names[0]} ${across.toLocaleString("en")}: ${up}` };
      }
      let found = null, least = NEAR_PX;
      for (const mark of marks) {
        const [mx, my] = middle(mark);
        const inside = mark.tagName === "rect" && Math.abs(mx - x) <= mark.width.baseVal.value / 2 && y >= my && y <= my + mark.height.baseVal.value;
        const distance = mark.tagName === "circle" ? Math.hypot(mx - x, my - y) : inside ? 6 : Infinity;
        if (distance < least) { least = distance; found = { mark, place: [mx, my], text: mark.dataset.text }; }
      }
      return found;
    };
    let shown = null;
    const show = (found) => {
      shown?.mark?.classList.remove("near");
      shown = found;
      tip.hidden = !found;
      if (cursor) cursor.style.display = found ? "" : "none";
      if (!found) return;
      found.mark?.classList.add("near");
      if (cursor) { cursor.setAttribute("cx", found.place[0]); cursor.setAttribute("cy", found.place[1]); }
      tip.textContent = found.text;
      const scale = chart.clientWidth / width;
      const half = Math.min(tip.offsetWidth, box.clientWidth) / 2;
      tip.style.left = `${Math.min(Math.max(found.place[0] * scale, half), box.clientWidth - half)}px`;
      tip.style.top = `${found.place[1] * scale}px`;
    };
    const point = (event) => {
      const bounds = chart.getBoundingClientRect();
      const scale = width / bounds.width;
      show(nearest((event.clientX - bounds.left) * scale, (event.clientY - bounds.top) * scale));
    };
    chart.addEventListener("pointermove", point);
    chart.addEventListener("pointerdown", point);
    chart.addEventListener("pointerleave", () => show(null));
    for (const link of chart.querySelectorAll("a")) {
      const mark = link.querySelector("circle");
      link.addEventListener("focus", () => show({ mark, place: middle(mark), text: mark.dataset.text }));
      link.addEventListener("blur", () => show(null));
    }
  }

  const remembered = { get() { try { return localStorage.getItem("restore-theme"); } catch { return null; } },
                       set(value) { try { localStorage.setItem("restore-theme", value); } catch { /* a file without storage */ } } };
  if (remembered.get()) root.dataset.theme = remembered.get();
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remembered.set(root.dataset.theme);
  });
})();
