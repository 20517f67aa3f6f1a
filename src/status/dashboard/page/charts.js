// Charts over time, with the same numbers as text and as a table; sparklines.

import { element, setText } from "./dom.js";
import { NONE, clock, count, latency, rate } from "./format.js";

const HEIGHT = 168;
/** The minimum range of a chart, and its steps in time. */
const SPAN_S_MIN = 60;
const STEPS_S = [5, 10, 15, 30, 60, 120, 180, 300, 600];
/** Rows of the table next to a chart, and the seconds between them. */
const [ROWS, STEP_S] = [12, 5];

const CHARTS = [
  {
    title: "Events per second", form: rate, unit: "/s",
    series: [["accepted", "accepted", "a"], ["stored", "stored", "b"]],
  },
  {
    title: "Waiting to be stored", form: count, unit: " events",
    series: [["pending", "waiting", "c"]],
  },
  {
    title: "Ack latency", form: latency, unit: "", isLog: true,
    series: [["ack.p50", "p50", "b"], ["ack.p95", "p95", "a"], ["ack.p99", "p99", "c"]],
  },
  {
    title: "Commit latency", form: latency, unit: "", isLog: true,
    series: [["commit.p50", "p50", "b"], ["commit.p95", "p95", "a"], ["commit.p99", "p99", "c"]],
  },
];

/** Dashes, so that lines differ by more than colour. */
const DASHES = { a: [], b: [2, 2], c: [7, 3] };

const axisNumber = (value) => {
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= unit) return `${+(value / unit).toFixed(2)}${name}`;
  }
  return String(+value.toFixed(2));
};
const axisLatency = (us) => (us < 1e3 ? `${us} µs` : us < 1e6 ? `${us / 1e3} ms` : `${us / 1e6} s`);

const colorOf = (of) => getComputedStyle(of).color;

class Chart {
  constructor(what, at) {
    this.what = what;
    this.keys = what.series.map(([, label, ink]) => {
      const value = element("b", {}, NONE);
      const mark = element("i", { class: `mark mark-${ink}`, "aria-hidden": "true" });
      return { ink, value, item: element("li", { class: `ink-${ink}` }, mark, element("span", {}, label), value) };
    });
    this.when = element("span", { class: "when" });
    this.title = element("h3", { id: `chart-${at}` }, what.title);
    this.plot = element("div", { class: "plot", role: "img" });
    this.body = element("tbody");
    this.details = element("details", { class: "as-table" },
      element("summary", {}, "As a table", element("span", { class: "unseen" }, `: ${what.title}`)),
      element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Time"),
          ...what.series.map(([, label]) => element("th", { scope: "col", class: "number" }, label)))),
        this.body));
    this.figure = element("figure", { class: "panel chart", "aria-labelledby": `chart-${at}` },
      element("figcaption", {}, this.title, this.when, element("ul", { class: "keys" }, ...this.keys.map((key) => key.item))),
      this.plot, this.details);
  }

  /** Creates the chart, or recreates it in other colours. */
  build() {
    const { what } = this;
    this.drawn?.destroy();
    const [ink, faint] = [colorOf(this.when), colorOf(this.plot)];
    const axis = { stroke: ink, font: "11px system-ui, sans-serif", grid: { stroke: faint, width: 1 }, ticks: { stroke: faint, size: 4 } };
    const options = {
      width: this.width(), height: HEIGHT, legend: { show: false }, padding: [8, 26, 0, 0],
      cursor: { sync: { key: "firehose" }, drag: { x: false, y: false }, y: false, points: { size: 5 } },
      scales: {
        x: { time: true, range: () => [this.since, this.until] },
        y: what.isLog
          ? { distr: 3, log: 10, range: (_, least, most) => decades(least, most) }
          : { range: (_, least, most) => [0, Math.max(10, (most ?? 0) * 1.08)] },
      },
      axes: [
        {
          ...axis, size: 28, space: 62, incrs: STEPS_S,
          values: (_, ticks, __, ___, step) => ticks.map((tick) => clock(tick * 1e6).slice(0, step < 60 ? 8 : 5)),
        },
        // A logarithmic scale has a line at every decade only.
        {
          ...axis, size: 52, space: 26, values: (_, ticks) => ticks.map(what.isLog ? axisLatency : axisNumber),
          ...(what.isLog ? { splits: (_, __, least, most) => powers(least, most), filter: (_, ticks) => ticks } : {}),
        },
      ],
      series: [{}, ...this.keys.map((key, at) => ({
        label: what.series[at][1], stroke: colorOf(key.item.firstChild), width: 1.5, dash: DASHES[key.ink],
        points: { show: false }, spanGaps: false,
      }))],
      hooks: { setCursor: [() => this.tell()] },
    };
    this.drawn = new uPlot(options, this.data ?? [[], ...this.keys.map(() => [])], this.plot);
  }

  width() {
    return Math.max(160, Math.floor(this.plot.clientWidth));
  }

  resize() {
    if (this.drawn && this.drawn.width !== this.width()) this.drawn.setSize({ width: this.width(), height: HEIGHT });
  }

  show(memory, span) {
    const from = memory.from(span);
    [this.span, this.until] = [span, memory.times.at(-1) ?? 0];
    // A page that was just opened shows the available data instead of empty space.
    this.since = Math.max(this.until - span, Math.min(memory.times[from] ?? 0, this.until - SPAN_S_MIN));
    this.data = [memory.times.slice(from), ...this.what.series.map(([name]) => memory.of(name).slice(from))];
    this.drawn?.setData(this.data);
    this.tell();
    if (this.details.open) this.fill();
  }

  /** The values at the cursor, or the newest. */
  tell() {
    if (!this.data) return;
    const at = this.drawn?.cursor.idx ?? null;
    const row = at ?? this.data[0].length - 1;
    setText(this.when, at === null ? "" : clock(this.data[0][at] * 1e6));
    this.keys.forEach((key, of) => {
      const value = this.data[of + 1][row];
      setText(key.value, value == null ? NONE : this.what.form(value) + this.what.unit);
    });
  }

  /** A description of the chart for screen readers. */
  describe() {
    const { form, unit, series, title } = this.what;
    const told = series.map(([, label], at) => {
      const known = this.data[at + 1].filter((value) => value !== null);
      if (known.length === 0) return `${label}: no data yet`;
      const [least, most] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
      return `${label} ${form(known.at(-1))}${unit} now, between ${form(least)} and ${form(most)}`;
    });
    this.plot.setAttribute("aria-label", `${title}, the last ${Math.round(this.span / 60)} minutes. ${told.join(". ")}.`);
  }

  fill() {
    const [times, ...columns] = this.data;
    const rows = [];
    for (let at = times.length - 1, next = Infinity; at >= 0 && rows.length < ROWS; at -= 1) {
      if (times[at] > next || columns.every((values) => values[at] === null)) continue;
      next = times[at] - STEP_S + 0.5;
      const cells = columns.map((values) => element("td", { class: "number" }, values[at] === null ? NONE : this.what.form(values[at]) + this.what.unit));
      rows.push(element("tr", {}, element("th", { scope: "row" }, clock(times[at] * 1e6)), ...cells));
    }
    this.body.replaceChildren(...rows);
  }
}

function decades(least, most) {
  if (least === null || !(least > 0)) return [10, 10_000];
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  return [10 ** low, 10 ** Math.max(high, low + 1)];
}

function powers(least, most) {
  const found = [];
  for (let at = Math.ceil(Math.log10(least) - 1e-9); 10 ** at <= most * 1.001; at += 1) found.push(10 ** at);
  return found;
}

/** All charts; `update` draws them, `describe` updates their texts. */
export class Charts {
  constructor(into) {
    this.all = CHARTS.map((what, at) => new Chart(what, at));
    into.replaceChildren(...this.all.map((chart) => chart.figure));
    this.all.forEach((chart) => chart.build());
    // In the next frame: a size that is set during a resize notification would cause another one.
    new ResizeObserver(() => requestAnimationFrame(() => this.all.forEach((chart) => chart.resize()))).observe(into);
    for (const chart of this.all) chart.details.addEventListener("toggle", () => chart.data && chart.fill());
  }

  recolor() {
    this.all.forEach((chart) => chart.build());
  }

  update(memory, span) {
    this.all.forEach((chart) => chart.show(memory, span));
  }

  describe() {
    this.all.forEach((chart) => chart.data && chart.describe());
  }
}

/** Draws the last values of a series into a canvas, in its own colour. */
export function sparkline(canvas, values, kept = 60) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (width === 0) return;
  if (canvas.width !== Math.round(width * scale)) {
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const shown = values.slice(-kept);
  const most = shown.reduce((a, b) => Math.max(a, b ?? 0), 0) || 1;
  const x = (at) => width - 1 - (shown.length - 1 - at) * ((width - 2) / (kept - 1));
  const y = (value) => height - 1.5 - (value / most) * (height - 3);
  pen.strokeStyle = pen.fillStyle = colorOf(canvas);
  pen.lineWidth = 1.25;
  pen.lineJoin = "round";
  for (let from = 0; from < shown.length; from += 1) {
    if (shown[from] === null) continue;
    let to = from;
    while (shown[to + 1] != null) to += 1;
    pen.beginPath();
    for (let at = from; at <= to; at += 1) pen.lineTo(x(at), y(shown[at]));
    pen.stroke();
    pen.lineTo(x(to), height);
    pen.lineTo(x(from), height);
    pen.globalAlpha = 0.12;
    pen.fill();
    pen.globalAlpha = 1;
    from = to;
  }
}
