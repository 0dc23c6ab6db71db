"use strict";
// Draws the plots of the page, and lets mouse and keyboard work with them.
(function () {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  // A trace with the colours of its role in the present theme.
  function coloured(trace) {
    const role = trace.meta.role;
    if (role === "heat") return trace;
    if (role === "band") return { ...trace, fillcolor: colour("band"), line: { width: 0 } };
    const dashed = role.startsWith("dashed");
    const own = colour(dashed ? role.replace("dashed", "line") : role);
    const line = { color: own, width: role === "exact" ? 1.2 : 1.8, dash: dashed || role === "exact" ? "dash" : "solid" };
    const symbol = role === "outlier" ? "diamond" : "circle";
    const marker = { color: own, size: role === "node" ? 5 : 7, symbol, opacity: role === "node" ? 0.7 : 1 };
    const bars = trace.error_y ? { error_y: { ...trace.error_y, color: own, thickness: 1.2 } } : {};
    return { ...trace, line, marker, ...bars };
  }

  function layoutOf(view, state) {
    const axis = (own) => ({ gridcolor: colour("grid"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true, ...own });
    const xaxis = axis(view.layout.xaxis), yaxis = axis(view.layout.yaxis);
    if (state.range) xaxis.range = state.range.slice();
    if (state.log !== null) yaxis.type = state.log ? "log" : "linear";
    const narrow = window.innerWidth < 640;
    return {
      xaxis, yaxis, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("text"), size: narrow ? 11 : 13 }, margin: { l: narrow ? 48 : 64, r: 12, t: 12, b: 48 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, hovermode: "closest", dragmode: narrow ? "pan" : "zoom",
      hoverlabel: { bgcolor: colour("panel"), font: { color: colour("text") }, bordercolor: colour("line") },
    };
  }

  function setUp(figure) {
    const plot = JSON.parse(figure.querySelector("script").textContent);
    const target = figure.querySelector(".plot"), said = figure.querySelector(".said");
    const names = Object.keys(plot.views);
    const state = { view: names[0], range: null, log: null, point: -1 };
    const view = () => plot.views[state.view];
    const tools = figure.querySelector(".tools");

    function draw() {
      const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
      return Plotly.react(target, view().data.map(coloured), layoutOf(view(), state), config);
    }

    function button(text, pressed, action) {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = text;
      made.addEventListener("click", action);
      made.update = () => { const p = pressed(); if (p !== null) made.setAttribute("aria-pressed", String(p)); };
      tools.append(made);
      return made;
    }
    const buttons = [];
    const changed = () => { buttons.forEach((b) => b.update()); return draw(); };

    if (names.length > 1) {
      names.forEach((name) => buttons.push(button(name, () => state.view === name, () => {
        state.view = name; state.range = null; state.point = -1; changed();
      })));
    }
    Object.keys(plot.ranges[names[0]]).forEach((name) => buttons.push(button("zoom: " + name, () => null, () => {
      state.range = plot.ranges[state.view][name]; changed(); said.textContent = "showing " + name;
    })));
    if (plot.logarithmic) {
      const isLog = () => (state.log === null ? view().layout.yaxis.type === "log" : state.log);
      buttons.push(button("logarithmic height", isLog, () => { state.log = !isLog(); changed(); }));
    }
    if (!tools.children.length) tools.remove();

    // The points that the arrow keys go through: those of the traces that show something at a point, from left to right.
    function points() {
      const found = [];
      target._fullData.forEach((trace, curve) => {  // where plotly.js keeps what it read from binary arrays
        if (trace.hoverinfo === "skip" || trace.type === "heatmap") return;
        const xs = trace.x, marked = String(trace.mode).includes("markers");
        const step = marked ? 1 : Math.max(1, Math.floor(xs.length / 100));
        for (let i = 0; i < xs.length; i += step) if (isFinite(xs[i]) && isFinite(trace.y[i])) found.push({ curve, i, x: +xs[i], marked });
      });
      const wanted = found.some((p) => p.marked) ? found.filter((p) => p.marked) : found;
      return wanted.sort((a, b) => a.x - b.x);
    }

    function tell(move) {
      const all = points();
      if (!all.length) return;
      state.point = Math.min(all.length - 1, Math.max(0, state.point < 0 && move < 0 ? all.length - 1 : state.point + move));
      const { curve, i, x } = all[state.point], trace = target._fullData[curve];
      const [low, high] = target._fullLayout.xaxis.range;
      if (x < Math.min(low, high) || x > Math.max(low, high)) {
        const half = (high - low) / 2;
        state.range = [x - half, x + half];
      }
      Promise.resolve(state.range ? draw() : null).then(() => {
        Plotly.Fx.hover(target, [{ curveNumber: curve, pointNumber: i }]);
        const text = Array.isArray(trace.text) ? trace.text[i].replaceAll("<br>", ", ") : trace.name + ": " + x.toPrecision(6) + ", " + (+trace.y[i]).toPrecision(6);
        said.textContent = text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
      });
    }

    function zoom(factor) {
      const [low, high] = target._fullLayout.xaxis.range, middle = (low + high) / 2, half = ((high - low) / 2) * factor;
      state.range = [middle - half, middle + half];
      draw();
    }

    target.addEventListener("keydown", (event) => {
      const actions = {
        ArrowRight: () => tell(1), ArrowLeft: () => tell(-1), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2),
        "0": () => { state.range = null; state.point = -1; said.textContent = ""; draw(); },
      };
      if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
      event.preventDefault();
      actions[event.key]();
    });
    buttons.forEach((b) => b.update());
    return { draw, target };
  }

  const drawn = [];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  document.querySelectorAll("figure.interactive").forEach((figure) => {
    const ready = setUp(figure);
    drawn.push(ready);
    // Plots are drawn when they come near the screen, so that a long page opens at once.
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      ready.shown = true;
      ready.draw().then(() => figure.setAttribute("data-drawn", "yes"));
    }, { rootMargin: "600px" });
    watch.observe(figure);
  });
  dark.addEventListener("change", () => drawn.forEach((ready) => { if (ready.shown) ready.draw(); }));
  window.addEventListener("beforeprint", () => drawn.forEach((ready) => { if (!ready.shown) { ready.shown = true; ready.draw(); } }));
  document.documentElement.setAttribute("data-ready", "yes");
})();
