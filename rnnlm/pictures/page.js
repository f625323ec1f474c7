"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const TYPES = { u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array };

  // Numbers come as base64 of little-endian integers: [type, text]
  function unpacked([type, text]) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new TYPES[type](bytes.buffer);
  }

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const level = (share, levels) => Math.max(0, Math.min(levels - 1, Math.floor(share * levels)));
  const strong = (share) => "q" + level(share, data.levels);
  const signed = (value) => "d" + (data.sides + Math.round(Math.max(-1, Math.min(1, value)) * data.sides));
  const bits = (value) => (value === 65535 ? "∞" : (value / 1000).toFixed(2) + " bits");
  const percent = (p) => (p < 0.0001 ? "< 0.01 %" : (100 * p).toFixed(p < 0.1 ? 2 : 1) + " %");

  function steps(names, low, high) {
    const row = element("span");
    for (const name of names) row.append(element("i", name));
    return [low, row, high];
  }
  const all = (kind, count) => Array.from({ length: count }, (_, k) => kind + k);
  const fill = (root, parts) => root.replaceChildren(...parts);

  // A text whose symbols can be chosen: with the pointer, a finger or the arrow keys
  class Text {
    constructor(root, from, to, choose) {
      this.root = root;
      this.from = from;
      this.choose = choose;
      this.spans = []; // of each symbol; those of one cluster have the same
      const joined = new Set(data.joined), marked = new Set(data.marked);
      const lines = document.createDocumentFragment();
      let line = null;
      for (let i = from; i < to; i++) {
        const piece = data.pieces[i];
        if (joined.has(i) && i > from) {
          const span = this.spans[this.spans.length - 1];
          span.textContent += piece;
          this.spans.push(span);
          continue;
        }
        if (!line) {
          line = element("div");
          line.dir = "auto";
          lines.append(line);
        }
        const newline = piece.endsWith("\n") && !marked.has(i);
        const span = element("span", "", newline ? piece.slice(0, -1) + "⏎" : piece);
        span.base = marked.has(i) ? "m" : newline ? "n" : piece === " " ? "w" : "";
        span.at = i;
        line.append(span);
        this.spans.push(span);
        if (newline) line = null;
      }
      root.append(lines);
      root.tabIndex = 0;
      const under = (event) => {
        const at = event.target.at;
        if (at !== undefined) this.select(at);
      };
      root.addEventListener("pointerover", under);
      root.addEventListener("click", under);
      root.addEventListener("keydown", (event) => this.key(event));
      this.on = null;
      this.at = from;
    }
    colour(named) {
      let before = null;
      this.spans.forEach((span, k) => {
        if (span !== before) this.paint(span, named(this.from + k));
        before = span;
      });
    }
    paint(span, name) {
      span.className = span.base + " " + name + (span === this.on ? " on" : "");
    }
    select(at, move) {
      at = Math.max(this.from, Math.min(this.from + this.spans.length - 1, at));
      if (this.on) this.on.classList.remove("on");
      this.at = at;
      this.on = this.spans[at - this.from];
      this.on.classList.add("on");
      if (move) {
        const box = this.root.getBoundingClientRect(), own = this.on.getBoundingClientRect();
        if (own.top < box.top) this.root.scrollTop -= box.top - own.top + 30;
        if (own.bottom > box.bottom) this.root.scrollTop += own.bottom - box.bottom + 30;
      }
      this.choose(at);
    }
    key(event) {
      const rtl = this.on && getComputedStyle(this.on.parentNode).direction === "rtl";
      const moves = {
        ArrowLeft: () => this.at + (rtl ? 1 : -1),
        ArrowRight: () => this.at + (rtl ? -1 : 1),
        ArrowUp: () => this.row(-1),
        ArrowDown: () => this.row(1),
        Home: () => this.spans.indexOf(this.on.parentNode.firstChild) + this.from,
        End: () => this.spans.indexOf(this.on.parentNode.lastChild) + this.from,
      };
      const move = moves[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.select(this.on ? move() : this.from, true);
    }
    // The symbol above or below: the nearest of the next row
    row(way) {
      const own = this.on.getBoundingClientRect();
      let best = this.at, distance = Infinity, row = null;
      for (let k = this.at - this.from + way; k >= 0 && k < this.spans.length; k += way) {
        const box = this.spans[k].getBoundingClientRect();
        if (way > 0 ? box.top < own.bottom - 4 : box.bottom > own.top + 4) continue;
        if (row === null) row = box.top;
        if (Math.abs(box.top - row) > 6) break;
        const away = Math.abs(box.left - own.left);
        if (away < distance) [best, distance] = [this.from + k, away];
      }
      return best;
    }
  }

  function fact(list, name, value, field) {
    const shown = element("dd", "", value);
    if (field) shown.dataset.field = field;
    list.append(element("dt", "", name), shown);
  }

  function heading(at, symbol) {
    const place = `${data.noun} ${(at + 1).toLocaleString("en")} of the text`;
    return [element("div", "big", symbol), element("div", "soft", place)];
  }

  function bar(name, share, value, hit) {
    const row = element("li", hit ? "hit" : "");
    const track = element("span"), filled = element("span", "bar");
    filled.style.display = "block";
    filled.style.width = Math.max(0.5, 100 * share) + "%";
    track.append(filled);
    row.append(element("span", "name", name), track, element("span", "value", value));
    return row;
  }

  function chooser(root, names, chosen) {
    const buttons = Object.entries(names).map(([key, name]) => {
      const button = element("button", "", name);
      button.type = "button";
      button.dataset.key = key;
      button.addEventListener("click", () => press(key));
      return button;
    });
    function press(key) {
      for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.key === key));
      chosen(key);
    }
    fill(root, buttons);
    return press;
  }

  const part = (section, name) => section.querySelector(`[data-part=${name}]`);

  function surprisal(section) {
    const d = data.surprisal, read = {};
    for (const name of ["nats", "rank", "entropy", "ids", "top", "p"]) read[name] = unpacked(d[name]);
    const other = d.other && unpacked(d.other), panel = part(section, "panel");
    const missing = (value) => value === 65535;
    const share = (values, most) => (i) => strong(missing(values[i]) ? 1 : values[i] / 1000 / most);
    const RANKS = [[1, 0], [3, 5], [10, 10], [Infinity, 15]];
    const difference = (i) => (missing(other[i]) || missing(read.nats[i]) ? 0 : (other[i] - read.nats[i]) / 1000);
    const modes = {
      surprisal: ["Surprisal", share(read.nats, 8), steps(all("q", data.levels), "0 bits", "8 and more")],
      rank: ["Rank", (i) => "q" + RANKS.find(([most]) => read.rank[i] <= most)[1],
        [["q0", "first"], ["q5", "2 or 3"], ["q10", "4 to 10"], ["q15", "beyond"]].map(([name, text]) => element("b", name, text))],
      entropy: ["Entropy", share(read.entropy, 6), steps(all("q", data.levels), "0 bits: certain", "6 and more")],
    };
    if (other)
      modes.difference = ["Difference", (i) => signed(difference(i) / 4),
        steps(all("d", 2 * data.sides + 1), `better: ${d.against}`, `better: this model, by 4 bits`)];
    const text = new Text(part(section, "text"), 0, data.pieces.length, (at) => {
      const k = d.k, list = element("dl"), rows = element("ol", "bars");
      fact(list, "surprisal", bits(read.nats[at]), "bits");
      fact(list, "rank", read.rank[at].toLocaleString("en"), "rank");
      fact(list, "entropy", bits(read.entropy[at]), "entropy");
      if (other) {
        fact(list, d.against, bits(other[at]), "other");
        fact(list, "difference", (difference(at) > 0 ? "+" : "") + difference(at).toFixed(2) + " bits", "difference");
      }
      for (let j = 0; j < k; j++) {
        const id = read.top[at * k + j], p = read.p[at * k + j] / 65535;
        rows.append(bar(data.labels[id], p, percent(p), id === read.ids[at]));
      }
      fill(panel, [...heading(at, data.labels[read.ids[at]]), list, element("div", "soft", d.expected), rows]);
    });
    const press = chooser(part(section, "modes"),
      Object.fromEntries(Object.entries(modes).map(([key, [name]]) => [key, name])),
      (key) => { text.colour(modes[key][1]); fill(part(section, "legend"), modes[key][2]); });
    press("surprisal");
    text.select(Math.min(data.pieces.length - 1, 1));
    return read;
  }

  function cells(section, ids) {
    const d = data.cells, h = unpacked(d.h), U = d.layers * d.units, panel = part(section, "panel");
    const gates = Object.fromEntries(Object.entries(d.gates).map(([key, packed]) => [key, unpacked(packed)]));
    const tracks = Object.fromEntries(Object.entries(d.correlations).map(([key, packed]) => [key, unpacked(packed)]));
    const named = (u) => `layer ${Math.floor(u / d.units) + 1}, unit ${(u % d.units) + 1}`;
    let unit = 0, show = "h";
    const share = (i, u) => h[u * d.symbols + i] / 127; // of the largest output of the unit, or of 1
    const value = (i, u) => share(i, u) * d.scales[u];
    const end = (u) => (d.scales[u] === 1 ? "1" : d.scales[u].toFixed(2));
    const gate = (name, i) => gates[`${name} ${unit}`] && gates[`${name} ${unit}`][i] / 255;
    const text = new Text(part(section, "text"), 0, d.symbols, (at) => {
      const list = element("dl");
      fact(list, "h", value(at, unit).toFixed(2), "h");
      for (const name of d.names) {
        const open = gate(name, at);
        if (open !== undefined) fact(list, `gate ${name}`, open.toFixed(2), name);
      }
      const tracked = element("dl");
      for (const [name, r] of Object.entries(tracks))
        if (Math.abs(r[unit]) >= 10) fact(tracked, name, (r[unit] / 100).toFixed(2));
      fill(panel, [...heading(at, data.labels[ids[at]]), list, element("div", "soft", `${named(unit)} goes along with`), tracked]);
    });
    const press = chooser(part(section, "modes"), Object.fromEntries([["h", "Output h"], ...d.names.map((n) => [n, `Gate ${n}`])]), (key) => {
      show = key;
      const known = show === "h" || gate(show, 0) !== undefined;
      text.colour(show === "h" ? (i) => signed(share(i, unit)) : (i) => (known ? strong(gate(show, i)) : "q0"));
      fill(part(section, "legend"), show === "h" ? steps(all("d", 2 * data.sides + 1), "−" + end(unit), "+" + end(unit))
        : known ? steps(all("q", data.levels), "0: closed", "1: open") : ["gates are kept for the units in the lists only"]);
    });
    const layer = part(section, "layer"), number = part(section, "unit");
    layer.max = d.layers;
    number.max = d.units;
    function take(u) {
      unit = u;
      [layer.value, number.value] = [Math.floor(u / d.units) + 1, (u % d.units) + 1];
      for (const b of part(section, "units").children) b.setAttribute("aria-pressed", String(+b.dataset.unit === u));
      press(show);
      text.select(text.at);
    }
    const typed = () => {
      const inside = (input) => Math.max(1, Math.min(+input.max, Math.round(+input.value) || 1)) - 1;
      take(inside(layer) * d.units + inside(number));
    };
    layer.addEventListener("change", typed);
    number.addEventListener("change", typed);
    const sort = part(section, "track");
    for (const name of Object.keys(tracks)) sort.append(new Option(name, name));
    const list = () => {
      const r = tracks[sort.value];
      if (!r) return;
      const order = Array.from({ length: U }, (_, u) => u).sort((a, b) => Math.abs(r[b]) - Math.abs(r[a])).slice(0, 12);
      fill(part(section, "units"), order.map((u) => {
        const button = element("button", "", `${Math.floor(u / d.units) + 1}·${(u % d.units) + 1}  ${(r[u] / 100).toFixed(2)}`);
        button.type = "button";
        button.title = named(u);
        button.dataset.unit = u;
        button.addEventListener("click", () => take(u));
        return button;
      }));
      take(order[0]);
    };
    sort.addEventListener("change", list);
    if (d.first) sort.value = d.first;
    take(0);
    list();
  }

  function memory(section, ids) {
    const d = data.memory, norms = unpacked(d.norms), K = d.lags, panel = part(section, "panel");
    const one = (i, k) => norms[(i - d.from) * K + k] / 255;
    let painted = [];
    const text = new Text(part(section, "text"), d.from, d.from + d.symbols, (at) => {
      for (const i of painted) text.paint(text.spans[i - d.from], "");
      painted = [];
      const rows = element("ol", "bars"), found = [];
      let sum = 0;
      for (let k = 0; k < K; k++) {
        const i = at - d.way * (k + 1);
        if (i < d.from || i >= d.from + d.symbols) break;
        sum += one(at, k);
        found.push([one(at, k), k, i]);
        text.paint(text.spans[i - d.from], strong(one(at, k)));
        painted.push(i);
      }
      found.sort((a, b) => b[0] - a[0]);
      for (const [norm, k, i] of found.slice(0, 8))
        rows.append(bar(data.labels[ids[i]], norm, `${k + 1} before`, false));
      const list = element("dl");
      fact(list, "half of it within", halfway(at, sum), "half");
      fill(panel, [...heading(at, data.labels[ids[at]]), list, element("div", "soft", "What changes this prediction most"), rows]);
    });
    function halfway(at, sum) {
      let part = 0;
      for (let k = 0; k < K && sum; k++) {
        part += one(at, k);
        if (2 * part >= sum) return `${k + 1} ${data.noun}${k ? "s" : ""}`;
      }
      return "–";
    }
    text.colour(() => "");
    fill(part(section, "legend"), steps(all("q", data.levels), "no influence", "the most"));
    text.select(d.from + (d.way > 0 ? Math.min(d.symbols - 1, 120) : Math.max(0, d.symbols - 120)));
  }

  // The page is painted first; then each part is made, the first one first
  const found = (name) => data[name] && document.getElementById(name);
  let ids = null;
  const work = [
    () => { if (found("surprisal")) ids = surprisal(found("surprisal")).ids; },
    () => { if (found("cells")) cells(found("cells"), ids); },
    () => { if (found("memory")) memory(found("memory"), ids); },
    () => { document.body.dataset.ready = "yes"; },
  ];
  const next = () => {
    work.shift()();
    if (work.length) setTimeout(next);
  };
  requestAnimationFrame(() => setTimeout(next));
})();
