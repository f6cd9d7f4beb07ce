"use strict";
(() => {
  const evidence = JSON.parse(document.getElementById("evidence").textContent);
  const PATHS = {  // in a box from -5 to 5
    circle: "M0-4.2A4.2 4.2 0 1 1 0 4.2A4.2 4.2 0 1 1 0-4.2Z", square: "M-4-4H4V4H-4Z", diamond: "M0-5L5 0L0 5L-5 0Z",
    star: "M0-5L1.3-1.6L5-1.5L2.1.8L3.1 4.4L0 2.3L-3.1 4.4L-2.1.8L-5-1.5L-1.3-1.6Z", x: "M-4-4L4 4M-4 4L4-4",
    cross: "M0-4.5V4.5M-4.5 0H4.5", "triangle-up": "M0-4.5L4.6 3.8H-4.6Z", "triangle-down": "M0 4.5L4.6-3.8H-4.6Z",
    "line-ew": "M-5 0H5",
  };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const isNarrow = () => window.innerWidth < 640;
  const drawn = new Map();

  // ------------------------------------------------------------------------------------------------------- drawing

  const clean = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  function rowText(figure, row, joint = "<br>") {
    const table = evidence.tables[figure.table];
    const cells = row === undefined ? [] : table.rows[row];
    const escape = joint === "<br>" ? clean : (text) => text;
    return cells.map((cell, i) => [table.headers[i], cell]).filter(([, cell]) => cell)
      .map(([header, cell], i) => {
        const text = cell.length > 70 && joint === "<br>" ? wrap(cell) : cell;
        return i ? `${header}: ${escape(text)}` : joint === "<br>" ? `<b>${escape(text)}</b>` : escape(text);
      }).join(joint).replaceAll("\n", "<br>");
  }

  const wrap = (text) => text.replace(/(.{50,70}) /g, "$1\n");

  function trace(figure, series, visible) {
    const { colour, symbol, size, opacity } = evidence.looks[series.role];
    const shade = css(colour);
    const hover = series.rows.map((row) => rowText(figure, row));
    const common = {
      name: series.name, x: series.x, y: series.y, visible, showlegend: false, text: hover, textposition: "none",
      hovertemplate: hover.length ? "%{text}<extra></extra>" : undefined, hoverinfo: hover.length ? undefined : "skip",
    };
    if (series.kind === "bars") return { ...common, type: "bar", marker: { color: shade }, width: 0.82 };
    const spread = series.low.length && {
      type: "data", symmetric: false, color: shade, thickness: 1.6, width: 4,
      array: series.high.map((high, i) => high - series.y[i]), arrayminus: series.low.map((low, i) => series.y[i] - low),
    };
    const thick = symbol.endsWith("open") || symbol === "x" || symbol === "cross";
    return {
      ...common, type: "scatter", mode: series.kind === "line" ? "lines+markers" : "markers", error_y: spread || undefined,
      line: { color: shade, width: 2 },
      marker: {
        color: shade, symbol, size: isNarrow() || series.x.length > 80 ? size * 0.75 : size, opacity,
        line: { color: thick ? shade : css("sheet"), width: symbol === "line-ew-open" ? 2.5 : symbol === "x-thin-open" ? 1.1 : thick ? 1.8 : 0.6 },
      },
    };
  }

  function ticks(axis, width) {
    if (!axis.labels.length) return {};
    const every = Math.ceil(axis.labels.length * 58 / width);
    const places = axis.labels.map((_, i) => i).filter((i) => i % every === 0);
    return { tickmode: "array", tickvals: places, ticktext: places.map((i) => axis.labels[i]), zeroline: false };
  }

  // On a short logarithmic axis powers of ten are too few: 1, 2 and 5 of each.
  function axisOf(axis, values, width) {
    const made = {
      title: { text: axis.title, standoff: 8, font: { size: 13 } }, type: axis.labels.length ? "linear" : axis.scale,
      gridcolor: css("grid"), linecolor: css("line"), zerolinecolor: css("grid"), automargin: true, ...ticks(axis, width),
    };
    if (axis.whole && Math.max(...values) - Math.min(...values) < 12) made.dtick = 1;
    const known = values.filter((value) => value > 0);
    if (axis.scale !== "log" || !known.length) return made;
    const low = Math.min(...known), high = Math.max(...known);
    const pad = Math.max(0.04, 0.06 * Math.log10(high / low));
    const vals = [];
    const steps = high / low > 300 ? [1] : high / low > 12 ? [1, 2, 5] : high / low > 3 ? [1, 1.5, 2, 3, 5, 7] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++) {
      for (const step of steps) vals.push(step * 10 ** power);
    }
    return {
      ...made, range: [Math.log10(low) - pad, Math.log10(high) + pad], tickmode: "array", tickvals: vals,
      ticktext: vals.map((value) => value >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M` : value >= 1e4 ? `${value / 1e3}k`
        : `${+value.toPrecision(3)}`),
    };
  }

  // The common range of both axes of a plot with the line x = y, whatever is shown or hidden.
  function square(figure) {
    if (!figure.rules.some((rule) => rule.along === "diagonal")) return [];
    const all = figure.series.flatMap((series) => [...series.x, ...series.y]);
    const low = Math.min(...all), high = Math.max(...all), pad = 0.04 * (high - low || 1);
    return [low - pad, high + pad];
  }

  // The range of an axis that counts, with room at its left end for the names of horizontal lines.
  function counted(figure) {
    const n = figure.x.labels.length;
    if (!n || !figure.series.some((series) => series.kind === "line")) return {};
    return { range: [-0.5 - 0.12 * n, n - 0.5] };
  }

  function layout(figure, shown, width) {
    const seen = figure.series.filter((_, i) => shown[i]);
    const values = (key) => [
      ...seen.flatMap((series) => [...series[key], ...(key === "y" ? [...series.low, ...series.high] : [])]),
      ...figure.rules.filter((rule) => rule.along === key).map((rule) => rule.value),
    ];
    const bars = figure.series.some((series) => series.kind === "bars");
    const shapes = [], notes = [], upright = figure.rules.some((rule) => rule.along === "x");
    const [low, high] = square(figure);
    for (const rule of figure.rules) {
      const across = rule.along === "y";
      if (rule.along === "diagonal") {
        shapes.push({ type: "line", layer: "above", line: { color: css("vermillion"), width: 1.4, dash: "dash" }, x0: low, y0: low, x1: high, y1: high });
        notes.push({ text: clean(rule.label), showarrow: false, font: { size: 11, color: css("faint") }, bgcolor: css("sheet"), borderpad: 1,
          x: high, y: high, xanchor: "right", yanchor: "top" });
        continue;
      }
      shapes.push({
        type: "line", layer: bars ? "above" : "between", line: { color: css("vermillion"), width: 1.4, dash: "dash" },
        ...(across ? { xref: "paper", x0: 0, x1: 1, y0: rule.value, y1: rule.value }
          : { yref: "paper", y0: 0, y1: 1, x0: rule.value, x1: rule.value }),
      });
      const log = (across ? figure.y : figure.x).scale === "log";
      const value = log ? Math.log10(rule.value) : rule.value;
      notes.push({
        text: clean(rule.label), showarrow: false, font: { size: 11, color: css("faint") }, bgcolor: css("sheet"), borderpad: 1,
        ...(across ? { xref: "paper", x: upright ? 0.5 : +(rule.side === "right"), xanchor: upright ? "center" : rule.side, y: value, yanchor: rule.below ? "top" : "bottom" }
          : { yref: "paper", y: 1, yanchor: bars ? "bottom" : "top", x: value, xanchor: "center", textangle: bars ? 0 : -90 }),
      });
    }
    const same = low === undefined ? {} : { range: [low, high], constrain: "domain", tick0: 0, dtick: high - low > 9 ? 2 : 1 };
    return {
      xaxis: { ...axisOf(figure.x, values("x"), width), ...same, ...counted(figure) },
      yaxis: {
        ...axisOf(figure.y, values("y"), width), ...same, ...(bars || figure.y.from_zero ? { rangemode: "tozero" } : {}),
        ...(low === undefined ? {} : { scaleanchor: "x" }),
      },
      shapes, annotations: notes, barmode: "overlay", hovermode: "closest", showlegend: false, autosize: true,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      margin: { l: 50, r: 14, t: bars && upright ? 28 : 14, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "inherit", size: 12, color: css("ink") },
      hoverlabel: { bgcolor: css("sheet"), bordercolor: css("line"), font: { color: css("ink"), size: 12.5 }, align: "left" },
    };
  }

  function draw(element, width) {
    const figure = evidence.figures[element.dataset.figure];
    const canvas = element.querySelector(".canvas");
    const state = drawn.get(element) || { shown: figure.series.map((series) => !series.hidden), at: -1 };
    drawn.set(element, state);
    const traces = figure.series.map((series, i) => trace(figure, series, state.shown[i]));
    const made = { ...layout(figure, state.shown, width || canvas.clientWidth), ...(width ? { width, height: canvas.clientHeight, autosize: false } : {}) };
    return Plotly.react(canvas, traces, made, { displayModeBar: false, responsive: true })
      .then(() => placeLabels(canvas, figure, state.shown, made.annotations));
  }

  // ------------------------------------------------- labels where they cover no mark and no other label, else none at all

  const MOST_MARKS = 1500;
  const ruler = document.createElement("canvas").getContext("2d");
  const overlaps = (a, b) => a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;

  // In pixels from the top left corner of the plot.
  function boxAt(x, y, text, upright, xanchor, yanchor) {
    ruler.font = "11px system-ui, sans-serif";
    const long = ruler.measureText(text).width * 1.12 + 6, high = 17;
    const [width, height] = upright ? [high, long] : [long, high];
    const x0 = x - { left: 0, center: width / 2, right: width }[xanchor];
    const y0 = y - { top: 0, middle: height / 2, bottom: height }[yanchor];
    return { x0, y0, x1: x0 + width, y1: y0 + height };
  }

  // Where a rule's label may stand: along a line across the plot, above or below it; at either end of an upright one.
  function placesOf(note) {
    if (note.yref === "paper") return [note, { ...note, y: 0, yanchor: "bottom" }, { ...note, y: 0.5, yanchor: "middle" }];
    if (note.xref !== "paper") return [note];
    const ends = [[note.x, note.xanchor], [1, "right"], [0, "left"], [0.5, "center"], [0.25, "center"], [0.75, "center"]];
    return ends.flatMap(([x, xanchor]) => [note.yanchor, note.yanchor === "top" ? "bottom" : "top"].map((yanchor) => ({ ...note, x, xanchor, yanchor })));
  }

  function placeLabels(canvas, figure, shown, notes) {
    const { xaxis, yaxis } = canvas._fullLayout;
    const taken = [], placed = [];
    const free = (box) => box.x0 >= 0 && box.y0 >= 0 && box.x1 <= xaxis._length && box.y1 <= yaxis._length && !taken.some((one) => overlaps(one, box));
    const marks = figure.series.flatMap((series, i) => {
      if (!shown[i] || series.kind === "bars") return [];
      const reach = evidence.looks[series.role].size / 2 + 2;
      return series.x.map((value, place) => ({ x: xaxis.d2p(value), y: yaxis.d2p(series.y[place]), reach, name: series.names[place] }));
    });
    if (marks.length > MOST_MARKS) return;  // drawing twice would take a second, and no place is free
    taken.push(...marks.map(({ x, y, reach }) => ({ x0: x - reach, y0: y - reach, x1: x + reach, y1: y + reach })));
    for (const note of notes) {
      const found = placesOf(note).map((one) => {
        const x = one.xref === "paper" ? one.x * xaxis._length : xaxis.l2p(one.x);
        const y = one.yref === "paper" ? (1 - one.y) * yaxis._length : yaxis.l2p(one.y);
        return [one, boxAt(x, y, one.text, one.textangle === -90, one.xanchor, one.yanchor)];
      });
      const [best, box] = found.find(([, one]) => free(one)) || found[0];
      if (!figure.series.some((series) => series.kind === "bars") && !free(box) && found.length > 1) continue;
      placed.push(best);
      taken.push(box);
    }
    for (const { x, y, name } of marks.filter((mark) => mark.name)) {
      const reach = Math.max(...marks.filter((mark) => Math.hypot(mark.x - x, mark.y - y) < 3).map((mark) => mark.reach)) + 1;
      const places = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]].map(([right, down]) => {
        const xanchor = { "-1": "right", 0: "center", 1: "left" }[right], yanchor = { "-1": "bottom", 0: "middle", 1: "top" }[down];
        return { xanchor, yanchor, xshift: right * reach, yshift: -down * reach };
      });
      const place = places.find((one) => free(boxAt(x + one.xshift, y - one.yshift, name, false, one.xanchor, one.yanchor)));
      if (!place) continue;
      taken.push(boxAt(x + place.xshift, y - place.yshift, name, false, place.xanchor, place.yanchor));
      placed.push({ ...place, text: clean(name), showarrow: false, x: xaxis.p2l(x), y: yaxis.p2l(y), font: { size: 11, color: css("ink") } });
    }
    return Plotly.relayout(canvas, { annotations: placed });
  }

  // ------------------------------------------------------------------------------- keys that show and hide, by hand too

  function icon(role) {
    const { colour, symbol } = evidence.looks[role];
    const name = symbol.replace("-open", "").replace("-thin", "");
    const open = symbol.endsWith("open") || name === "x" || name === "cross";
    const paint = open ? 'fill="none"' : "fill='currentColor'";
    return `<svg width="14" height="14" viewBox="-6.5 -6.5 13 13" aria-hidden="true" style="color:var(--${colour})">` +
      `<path d="${PATHS[name]}" ${paint} stroke="currentColor" stroke-width="${open ? 1.6 : 0.4}"/></svg>`;
  }

  function addKeys(element) {
    const figure = evidence.figures[element.dataset.figure];
    const keys = element.querySelector(".keys");
    if (figure.series.length < 2 && figure.series[0].kind === "bars") return;
    figure.series.forEach((series, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = icon(series.role);
      button.append(series.kind === "line" ? series.name : `${series.name} (${series.x.length.toLocaleString("en")})`);
      button.setAttribute("aria-pressed", String(!series.hidden));
      button.addEventListener("click", () => {
        const state = drawn.get(element);
        state.shown[i] = !state.shown[i];
        button.setAttribute("aria-pressed", String(state.shown[i]));
        draw(element);
      });
      keys.append(button);
    });
  }

  function addArrows(element) {
    const figure = evidence.figures[element.dataset.figure];
    const canvas = element.querySelector(".canvas"), told = element.querySelector(".told");
    const marks = figure.series.flatMap((series, curve) => series.x.map((x, point) => ({ x, curve, point })))
      .filter(({ curve }) => figure.series[curve].rows.length).sort((a, b) => a.x - b.x);
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const state = drawn.get(element);
      const open = marks.filter(({ curve }) => state && state.shown[curve]);
      if (!step || !open.length) return;
      event.preventDefault();
      state.at = (state.at + step + open.length) % open.length;
      const { curve, point } = open[state.at];
      Plotly.Fx.hover(canvas, [{ curveNumber: curve, pointNumber: point }]);
      told.textContent = `${figure.series[curve].name}. ${rowText(figure, figure.series[curve].rows[point], ", ")}`;
    });
    canvas.addEventListener("blur", () => { Plotly.Fx.unhover(canvas); told.textContent = ""; });
  }

  // --------------------------------------------------------------------------------------------------------- tables

  const PAGE = 100;
  const UNITS = { ms: 1e-3, s: 1, min: 60, h: 3600, days: 86400, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, k: 1e3, M: 1e6 };

  // Numbers by their size in the unit that follows, then other texts by their letters; nothing comes last.
  function compared(a, b) {
    const [one, other] = [a, b].map((text) => {
      const found = /^[~−-]?([\d,]*\.?\d+)\s*([a-zA-Z]*)/.exec(text);
      return found ? +found[1].replaceAll(",", "") * (UNITS[found[2]] || 1) * (/^[−-]/.test(text) ? -1 : 1) : NaN;
    });
    if (!a || !b) return a ? -1 : b ? 1 : 0;
    return isNaN(one) || isNaN(other) ? a.localeCompare(b) : one - other;
  }

  function fillTable(details) {
    const table = evidence.tables[details.dataset.table];
    const find = document.createElement("div"), place = document.createElement("div");
    find.className = "find";
    find.innerHTML = '<label>Find <input type="search"></label> <button type="button">Before</button> ' +
      '<button type="button">Next</button> <span aria-live="polite"></span>';
    place.className = "scroll wide";
    place.tabIndex = 0;
    const [input, [before, next], count] = [find.querySelector("input"), find.querySelectorAll("button"), find.querySelector("span")];
    let start = 0, by = -1, falling = false;
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = table.rows.filter((row) => words.every((word) => row.join(" ").toLowerCase().includes(word)));
      if (by >= 0) rows.sort((a, b) => (falling ? -1 : 1) * compared(a[by], b[by]));
      start = Math.max(0, Math.min(start, Math.floor((rows.length - 1) / PAGE) * PAGE));
      const head = table.headers.map((header, i) => `<th scope="col" aria-sort="${i === by ? (falling ? "descending" : "ascending") : "none"}">` +
        `<button type="button" data-column="${i}">${clean(header)}${i === by ? (falling ? " ↓" : " ↑") : ""}</button></th>`).join("");
      const body = rows.slice(start, start + PAGE).map((row) =>
        `<tr>${row.map((cell, i) => i ? `<td>${clean(cell)}</td>` : `<th scope="row">${clean(cell)}</th>`).join("")}</tr>`).join("");
      place.innerHTML = `<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
      count.textContent = rows.length ? `${start + 1} to ${Math.min(start + PAGE, rows.length)} of ${rows.length}` : "none";
      before.disabled = start === 0;
      next.disabled = start + PAGE >= rows.length;
    };
    place.addEventListener("click", (event) => {
      const column = event.target.closest("[data-column]")?.dataset.column;
      if (column === undefined) return;
      falling = by === +column && !falling;
      by = +column;
      start = 0;
      show();
      place.querySelector(`[data-column="${column}"]`).focus();
    });
    input.addEventListener("input", () => { start = 0; show(); });
    before.addEventListener("click", () => { start -= PAGE; show(); });
    next.addEventListener("click", () => { start += PAGE; show(); });
    details.append(find, place);
    show();
  }

  // --------------------------------------------------------------------------------------------------- what starts it

  const plots = [...document.querySelectorAll(".plot")];
  plots.forEach((element) => { addKeys(element); addArrows(element); });
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !drawn.has(target)) draw(target);
    }
  }, { rootMargin: "300px" });
  plots.forEach((element) => watcher.observe(element));

  document.querySelectorAll(".tabs").forEach((tabs) => {
    const all = [...tabs.querySelectorAll('[role="tab"]')];
    const open = (chosen) => all.forEach((tab) => {
      const is = tab === chosen;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !is;
    });
    all.forEach((tab, i) => {
      tab.addEventListener("click", () => open(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = all[(i + step + all.length) % all.length];
        open(next);
        next.focus();
      });
    });
  });

  document.querySelectorAll("details[data-table]").forEach((details) => details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector("table")) fillTable(details);
  }));

  const redraw = () => drawn.forEach((_, element) => draw(element));
  document.getElementById("theme").addEventListener("click", () => {
    const dark = css("page") === "#14171c";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // On paper plots are light and as wide as a page, whatever they were on the screen.
  const root = document.documentElement;
  let theme;
  window.addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    plots.filter((element) => element.offsetParent).forEach((element) => draw(element, 640));
  });
  window.addEventListener("afterprint", () => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    redraw();
  });
})();
