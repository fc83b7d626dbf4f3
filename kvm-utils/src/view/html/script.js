// What the page does beyond being read: values under the pointer or the arrow keys, one VM instead of all, one kind in
// the heat map, sorted tables. It draws and writes numbers by the rules of the Rust code that made the page (stack.rs,
// heat.rs, ledger.rs, columns.rs, units.rs), with the same integers, so that both give the same.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const HEIGHT = 1000, SHADES = 8, UNKNOWN = "-";

  // Numbers, as units.rs writes them.

  /** With so many digits; exactly between two, the even one, as Rust does. */
  const fixed = (value, digits) => {
    const [whole, rest] = value.toFixed(digits + 30).split(".");
    const text = value.toFixed(digits);
    if (!/^50*$/.test(rest.slice(digits))) return text;
    const last = digits > 0 ? rest[digits - 1] : whole[whole.length - 1];
    return last % 2 === 0 ? (digits > 0 ? whole + "." + rest.slice(0, digits) : whole) : text;
  };
  const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  const shortened = (n) => {
    const prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let value = n, prefix = 0;
    while (value >= 999.5 && prefix + 1 < prefixes.length) { value /= 1000; prefix += 1; }
    if (value >= 999.5) return n.toExponential(0).replace("+", "");
    return fixed(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0) + prefixes[prefix];
  };
  const SHORTENED_FROM = 1e15;
  const count = (n) => (n < SHORTENED_FROM ? grouped(n) : shortened(n));
  const rate = (r) => {
    if (!Number.isFinite(r) || r < 0) return UNKNOWN;
    if (r === 0) return "0";
    if (r < 0.05) return "<0.1";
    if (r < 9.95) return fixed(r, 1);
    return r < SHORTENED_FROM ? grouped(Math.round(r)) : shortened(r);
  };
  const percent = (share, gap) => {
    const p = share * 100;
    if (!Number.isFinite(p) || p < 0) return UNKNOWN;
    if (p === 0) return "0" + gap + "%";
    if (p < 0.05) return "<0.1" + gap + "%";
    return (p < 99999 ? fixed(p, 1) : shortened(p)) + gap + "%";
  };
  const duration = (ns) => {
    if (!Number.isFinite(ns) || ns < 0) return UNKNOWN;
    if (ns === 0) return "0ns";
    if (ns < 0.05) return "<0.1ns";
    for (const [size, limit, unit] of [[1, 999.5, "ns"], [1e3, 999.5, "us"], [1e6, 999.5, "ms"], [1e9, 99.5, "s"]]) {
      const value = ns / size;
      if (value < limit) return fixed(value, value < 9.95 && !(unit === "ns" && Number.isInteger(value)) ? 1 : 0) + unit;
    }
    const two = (n) => String(n).padStart(2, "0");
    const seconds = Math.round(ns / 1e9);
    if (seconds < 3600) return Math.floor(seconds / 60) + "m" + two(seconds % 60) + "s";
    const minutes = Math.round(ns / 60e9);
    if (minutes < 48 * 60) return Math.floor(minutes / 60) + "h" + two(minutes % 60) + "m";
    return count(Math.round(ns / 86400e9)) + "d";
  };
  /** Time since the beginning. */
  const clock = (seconds) => {
    const hundredths = Math.round(Math.max(seconds, 0) * 100), whole = Math.floor(hundredths / 100);
    const two = (n) => String(n).padStart(2, "0");
    const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    const text = h ? h + ":" + two(m) + ":" + two(s) : m ? m + ":" + two(s) : String(s);
    return hundredths % 100 ? text + ("." + two(hundredths % 100)).replace(/0+$/, "") : text;
  };

  // Pictures.

  const perSecond = (n, seconds) => (seconds > 0 ? n / seconds : 0);
  const sumOf = (counts, column) => counts.reduce((sum, area) => sum + area[column], 0);
  const highest = (counts, columns) =>
    columns.s.reduce((max, seconds, column) => Math.max(max, perSecond(sumOf(counts, column), seconds)), 0);
  const scale = (max) => {
    if (!(Number.isFinite(max) && max > 0)) return [1, 1];
    const quarter = max / 4;
    let power = 1;
    while (power * 10 <= quarter) power *= 10;
    while (power > quarter) power /= 10;
    const step = [1, 2, 5].map((m) => m * power).find((step) => step >= quarter) || 10 * power;
    return [step, Math.ceil(max / step)];
  };
  const band = (upper, lower, x) => {
    const n = upper.length;
    if (n === 0) return "";
    let at = lower[0], d = "M0 " + at;
    for (let i = 0; i < n; i++) {
      if (upper[i] !== at) d += "V" + (at = upper[i]);
      if (i === n - 1 || upper[i + 1] !== at) d += "H" + x[i + 1];
    }
    for (let i = n - 1; i >= 0; i--) {
      if (lower[i] !== at) d += "V" + (at = lower[i]);
      if (i === 0 || lower[i - 1] !== at) d += "H" + x[i];
    }
    return d + "z";
  };
  /** Outlines of areas upon each other; `share` tells how high the sum up to there is, 0 to 1. */
  const bands = (areas, columns, share) => {
    const below = columns.s.map(() => 0);
    let lower = columns.s.map(() => HEIGHT);
    return areas.map((area) => {
      const upper = below.map((_, i) => {
        below[i] += area[i];
        return Math.max(HEIGHT - Math.round(share(below[i], i) * HEIGHT), 0);
      });
      const path = upper.every((y, i) => y === lower[i]) ? "" : band(upper, lower, columns.x);
      lower = upper;
      return path;
    });
  };
  const stackPaths = (counts, columns) => {
    const [step, steps] = scale(highest(counts, columns)), top = step * steps;
    return bands(counts, columns, (n, i) => perSecond(n, columns.s[i]) / top);
  };
  const lanePaths = (ns, columns) => {
    const all = columns.s.map((_, i) => sumOf(ns, i));
    return bands(ns, columns, (n, i) => (all[i] > 0 ? n / all[i] : 0));
  };
  const digits = (n) => n.toString(2).length;
  const shade = (n, most) => Math.min(Math.floor(((digits(n) - 1) * SHADES) / digits(most)), SHADES - 1);
  const mostOf = (counts) => counts.reduce((most, column) => column.reduce((m, n, i) => (i > 0 ? Math.max(m, n) : m), most), 0);
  const heatPaths = (heat, counts, waiting, columns) => {
    const to = heat.range[waiting ? 1 : 0][1], most = mostOf(counts);
    const y = (line) => heat.log[to] - heat.log[Math.min(line, to)];
    const paths = Array(SHADES).fill("");
    counts.forEach((cells, column) => {
      const left = columns.x[column], width = columns.x[column + 1] - left;
      if (cells.length === 0 || width === 0) return;
      const of = (i) => (cells[i] > 0 ? shade(cells[i], most) : -1);
      for (let from = 1, until; from < cells.length; from = until) {
        for (until = from + 1; until < cells.length && of(until) === of(from); until++);
        if (of(from) < 0) continue;
        const top = y(cells[0] + until - 1), bottom = y(cells[0] + from - 1);
        paths[of(from)] += `M${left} ${top}h${width}v${bottom - top}h-${width}z`;
      }
    });
    return paths;
  };

  // The page.

  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const element = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
  let scope = 0;

  /** Marks of the upright axis, from texts and shares of the height above the ground. */
  const axis = (figure, marks) => figure.querySelector(".y").replaceChildren(...marks.map(([text, share]) => {
    const mark = element("span", text);
    mark.style.top = 100 - 100 * share + "%";
    return mark;
  }));
  const fill = (svg, classes, paths) => classes.forEach((name, i) => svg.querySelector("." + name).setAttribute("d", paths[i] || ""));
  const names = (letter, n) => Array.from({ length: n }, (_, i) => letter + i);
  const began = (columns, column) => columns.s.slice(0, column).reduce((sum, s) => sum + s, 0);
  const when = (noun, columns, column) => {
    const from = began(columns, column), to = from + columns.s[column];
    const at = noun.start === null ? "" : new Date(noun.start + from * 1000).toISOString().slice(11, 19) + " UTC";
    return [clock(from) + " to " + clock(to), at];
  };

  /** Lets pointer and arrow keys choose a column of a plot. */
  const follow = (plot, columnsOf, show) => {
    const area = plot.querySelector(".area"), cursor = plot.querySelector(".cursor");
    let column = -1;
    const choose = (to) => {
      const columns = columnsOf();
      column = columns ? Math.max(-1, Math.min(to, columns.s.length - 1)) : -1;
      cursor.classList.toggle("on", column >= 0);
      if (column >= 0) cursor.style.left = (columns.x[column] + columns.x[column + 1]) / 200 + "%";
      show(column);
    };
    const point = (event) => {
      const columns = columnsOf(), box = area.getBoundingClientRect();
      if (!columns) return;
      const x = ((event.clientX - box.left) / box.width) * 10000;
      choose(columns.x.findIndex((edge, i) => i > 0 && x < edge) - 1);
    };
    area.addEventListener("pointermove", point);
    area.addEventListener("pointerdown", point);
    area.addEventListener("pointerleave", () => choose(-1));
    plot.addEventListener("blur", () => choose(-1));
    plot.addEventListener("keydown", (event) => {
      const columns = columnsOf();
      if (!columns) return;
      const to = { ArrowLeft: column - 1, ArrowRight: column + 1, Home: 0, End: columns.s.length - 1, Escape: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(event.key === "ArrowLeft" ? Math.max(to, 0) : to);
    });
    return () => choose(-1);
  };

  const figures = [];

  const stackFigure = (figure, noun) => {
    const { stack } = noun, rows = all(".legend tbody tr", figure);
    const numbers = () => stack.of[scope], columns = () => numbers() && noun.columns[numbers().c];
    const write = (row, n, seconds) => {
      const cells = all("td", row);
      cells[0].textContent = count(n);
      cells[1].textContent = rate(n / seconds);
    };
    const show = (column) => {
      const { n, sum, len } = numbers() || { n: [], sum: stack.names.map(() => 0), len: 1 };
      const counts = column < 0 ? sum : n.map((area) => area[column]), seconds = column < 0 ? len : columns().s[column];
      const [span, at] = column < 0 ? ["whole run", ""] : when(noun, columns(), column);
      figure.querySelector(".when").textContent = at ? `${span} (${at})` : span;
      rows.forEach((row, i) => write(row, counts[i], seconds));
      write(figure.querySelector(".legend tfoot tr"), counts.reduce((sum, n) => sum + n, 0), seconds);
    };
    const leave = follow(figure.querySelector(".plot"), columns, show);
    return () => {
      const svg = figure.querySelector("svg"), classes = names("c", 8).filter((name) => svg.querySelector("." + name));
      const [step, steps] = numbers() ? scale(highest(numbers().n, columns())) : [1, 1];
      fill(svg, classes, numbers() ? stackPaths(numbers().n, columns()) : []);
      axis(figure, Array.from({ length: steps + 1 }, (_, i) => [rate(i * step), i / steps]));
      svg.querySelector(".grid").setAttribute("d", Array.from({ length: steps - 1 }, (_, i) => `M0 ${Math.floor((HEIGHT * (i + 1)) / steps)}h10000`).join(""));
      leave();
    };
  };

  const heatFigure = (figure, noun) => {
    const { heat } = noun, select = figure.querySelector("select"), read = figure.querySelector(".read");
    const choice = () => Number(select.value), waiting = () => heat.waiting[choice()];
    const counts = () => (heat.of[scope] ? heat.of[scope].n[choice()] : []), columns = () => heat.of[scope] && noun.columns[heat.of[scope].c];
    const show = (column) => {
      if (column < 0) { read.textContent = ""; return; }
      const [span, at] = when(noun, columns(), column), cells = counts()[column];
      const sum = cells.slice(1).reduce((sum, n) => sum + n, 0), top = cells.slice(1).reduce((best, n, i, all) => (n > all[best] ? i : best), 0);
      const range = (line) => duration(heat.low[line]) + " to " + duration(heat.low[line + 1]);
      read.textContent = `${span}${at && ` (${at})`}: ${count(sum)} ${sum === 1 ? noun.one : noun.many}` +
        (sum > 0 ? `, from ${duration(heat.low[cells[0]])} to ${duration(heat.low[cells[0] + cells.length - 1])}; most of them, ${count(cells[top + 1])}, took ${range(cells[0] + top)}` : "");
    };
    const leave = follow(figure.querySelector(".plot"), columns, show);
    const draw = () => {
      const [from, to] = heat.range[waiting() ? 1 : 0], svg = figure.querySelector("svg"), height = heat.log[to] - heat.log[from];
      svg.setAttribute("viewBox", `0 0 10000 ${Math.max(height, 1)}`);
      figure.classList.toggle("waits", waiting());
      fill(svg, names("h", SHADES), columns() ? heatPaths(heat, counts(), waiting(), columns()) : []);
      const marks = [];
      for (let ns = 1; ns <= heat.low[to]; ns *= 10) {
        if (ns >= heat.low[from]) marks.push([duration(ns), (Math.log2(ns) * 1000 - heat.log[from]) / height]);
      }
      axis(figure, marks);
      figure.querySelector(".most").textContent = count(mostOf(counts()));
      leave();
    };
    select.disabled = false;
    select.addEventListener("change", draw);
    return draw;
  };

  const ledgerFigure = (figure, noun) => {
    const { ledger } = noun, shares = all(".buckets span", figure), whole = shares.map((share) => share.textContent);
    const read = figure.querySelector(".read"), pattern = figure.querySelector(".lane").cloneNode(true);
    const columns = () => ledger.of[scope] && noun.columns[ledger.of[scope].c];
    const lane = ({ name, ns }) => {
      const lane = pattern.cloneNode(true), plot = lane.querySelector(".plot");
      lane.querySelector(".name").textContent = name;
      plot.setAttribute("aria-label", `Where the time of ${name} goes; arrow keys move through time`);
      fill(lane.querySelector("svg"), names("b", ledger.names.length), lanePaths(ns, columns()));
      follow(plot, columns, (column) => {
        const sum = column < 0 ? 0 : sumOf(ns, column);
        shares.forEach((share, i) => (share.textContent = column < 0 ? (scope === 0 ? whole[i] : "") : percent(sum > 0 ? ns[i][column] / sum : 0, " ")));
        read.textContent = column < 0 ? "" : `${name}, ${when(noun, columns(), column).filter(Boolean).join(", ")}`;
      });
      return lane;
    };
    return () => {
      const lanes = ledger.of[scope] ? ledger.of[scope].lanes : [];
      figure.querySelector(".lanes").replaceChildren(...lanes.map(lane));
      shares.forEach((share, i) => (share.textContent = scope === 0 ? whole[i] : ""));
    };
  };

  for (const figure of all("figure")) {
    const noun = data.nouns[Number(figure.dataset.noun)];
    const make = figure.classList.contains("stack") ? stackFigure : figure.classList.contains("heat") ? heatFigure : ledgerFigure;
    figures.push([figure, make(figure, noun)]);
  }

  const select = document.getElementById("scope");
  const choose = (to) => {
    scope = to;
    select.value = String(to);
    for (const [figure, draw] of figures) {
      figure.querySelector(".whose").textContent = data.scopes[scope];
      draw();
    }
    for (const part of all(".of")) {
      const of = Number(part.dataset.scope);
      part.hidden = of !== scope;
      if (part.tagName === "DETAILS") part.open = true;
    }
  };
  select.addEventListener("change", () => choose(Number(select.value)));
  document.querySelector("label.scope").hidden = data.scopes.length < 2;
  for (const link of all("a[data-scope]")) link.addEventListener("click", () => choose(Number(link.dataset.scope)));
  // A browser may have kept the choices of an earlier visit.
  choose(0);

  // Tables: a click on a title sorts by it, waiting rows stay last.
  for (const title of all("th[data-id]")) {
    const table = title.closest("table"), index = [...title.parentNode.children].indexOf(title);
    const button = element("button", title.textContent, { type: "button" });
    title.replaceChildren(button);
    button.addEventListener("click", () => {
      const upwards = title.getAttribute("aria-sort") === "descending" || (!title.classList.contains("n") && !title.hasAttribute("aria-sort"));
      const key = (body) => {
        const cell = body.rows[0].cells[index];
        return title.classList.contains("n") ? (cell.dataset.v === "" ? -1 : Number(cell.dataset.v)) : cell.textContent;
      };
      const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (upwards ? 1 : -1);
      const bodies = [...table.tBodies];
      bodies.sort((a, b) => a.classList.contains("waiting") - b.classList.contains("waiting") || order(key(a), key(b)));
      table.append(...bodies);
      all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", upwards ? "ascending" : "descending");
    });
  }
  addEventListener("beforeprint", () => all("details").forEach((details) => !details.hidden && (details.open = true)));

  window.kvmUtilsReport = Object.freeze({ data, count, rate, percent, duration, clock, choose });
})();
