// Tables whose rows remain while their cells change. On a narrow screen, the style turns a row into a card.

import { sparkline } from "./charts.js";
import { element, setText, show } from "./dom.js";
import { NONE, bytes, count, latency, percent, rate } from "./format.js";

/** A column: its heading, and the text of a row's cell. `spark` names a series instead. */
const text = (label, of) => ({ label, of });
const number = (label, of) => ({ label, of, kind: "number" });
const spark = (label, of, ink) => ({ label, of, kind: "spark", ink });

export class Table {
  /** `caption` is for screen readers; `empty` is the text of a table without rows. */
  constructor(into, caption, columns, empty) {
    this.columns = columns;
    this.body = element("tbody", { role: "rowgroup" });
    this.heads = columns.map(({ label, kind }) => element("th", { scope: "col", role: "columnheader", class: kind ?? "text" }, label));
    this.table = element("table", { class: "cards", role: "table", "aria-label": caption },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...this.heads)), this.body);
    this.empty = element("p", { class: "help" }, empty);
    into.replaceChildren(this.empty, this.table);
    // Before the first state.
    this.empty.hidden = this.table.hidden = true;
  }

  show(rows, memory) {
    show(this.empty, rows.length === 0);
    show(this.table, rows.length > 0);
    while (this.body.rows.length > rows.length) this.body.lastChild.remove();
    while (this.body.rows.length < rows.length) this.body.append(this.row());
    // A status class without responses has no column.
    const isBare = this.columns.map(({ of, optional }) => optional === true && rows.every((row) => of(row) === ""));
    isBare.forEach((bare, column) => show(this.heads[column], !bare));
    rows.forEach((row, at) => {
      const cells = this.body.rows[at].cells;
      this.columns.forEach(({ of, kind }, column) => {
        const cell = cells[column];
        show(cell, !isBare[column]);
        const found = of(row);
        if (kind === "spark") sparkline(cell.firstChild, memory.of(found));
        else if (found?.nodeType) cell.replaceChildren(found);
        else if (setText(cell, String(found ?? NONE)) && column === 0) cell.dataset.value = cell.textContent;
      });
      const state = row.state ?? "";
      if (this.body.rows[at].dataset.state !== state) this.body.rows[at].dataset.state = state;
    });
  }

  row() {
    return element("tr", { role: "row" }, ...this.columns.map(({ label, kind, ink }, at) => {
      if (at === 0) return element("th", { scope: "row", role: "rowheader", "data-label": label });
      if (kind !== "spark") return element("td", { role: "cell", class: kind ?? "text", "data-label": label });
      const canvas = element("canvas", { class: `spark ink-${ink}`, "aria-hidden": "true" });
      return element("td", { role: "cell", class: kind, "data-label": label }, canvas);
    }));
  }
}

export const cores = (into) => new Table(into, "Cores", [
  text("core", (core) => `core ${core.core}`),
  number("CPU", (core) => core.cpu),
  number("accepted/s", (core) => rate(core.accepted)),
  spark("last minute", (core) => `core.${core.core}`, "a"),
  number("bytes/s", (core) => bytes(core.bytes)),
  number("listener busy", (core) => percent(core.busy)),
  number("connections", (core) => count(core.connections)),
  number("ack p50", (core) => latency(core.ack.p50)),
  number("p95", (core) => latency(core.ack.p95)),
  number("p99", (core) => latency(core.ack.p99)),
  number("since start", (core) => count(core.accepted_events)),
], "Cores require a key with the scope read, bound to all tenants.");

export const shards = (into) => new Table(into, "Shards", [
  text("shard", (shard) => `shard ${shard.shard}`),
  text("state", (shard) => shard.state),
  number("stored/s", (shard) => rate(shard.stored_rate)),
  spark("last minute", (shard) => `shard.${shard.shard}`, "b"),
  number("waiting", (shard) => count(shard.pending)),
  spark("last minute", (shard) => `waiting.${shard.shard}`, "c"),
  number("unstored", (shard) => bytes(shard.pending_bytes)),
  number("oldest", (shard) => (shard.behind_us === undefined ? NONE : shard.behind_us > 0 ? latency(shard.behind_us) : "0 s")),
  number("journal", (shard) => bytes(shard.journal_bytes)),
  number("database", (shard) => bytes(shard.database_bytes)),
  number("WAL", (shard) => bytes(shard.wal_bytes)),
  number("rows", (shard) => count(shard.rows)),
  number("partitions", (shard) => count(shard.partitions)),
  number("commits/s", (shard) => rate(shard.commit_rate)),
  number("commit p50", (shard) => latency(shard.commit.p50)),
  number("p95", (shard) => latency(shard.commit.p95)),
  number("p99", (shard) => latency(shard.commit.p99)),
], "No shards yet.");

const CLASSES = ["2xx", "3xx", "4xx", "5xx", "other"];

export const routes = (into) => new Table(into, "HTTP requests per second by route and status class", [
  text("route", (route) => route.route),
  ...CLASSES.map((name) => ({
    ...number(`${name}/s`, (route) => (route.total[name] === undefined ? "" : rate(route.rates[name]))), optional: true,
  })),
  number("since start", (route) => count(route.all)),
], "Requests require a key with the scope read, bound to all tenants.");

const change = (value) => (typeof value === "number" ? `${value > 0 ? "+" : ""}${value.toFixed(1)} %` : NONE);

export const anomalies = (into) => new Table(into, "Price anomalies", [
  text("observed", (anomaly) => anomaly.observed),
  text("product", (anomaly) => anomaly.product_id),
  number("change", (anomaly) => change(anomaly.change_percent)),
  number("baseline", (anomaly) => anomaly.baseline),
  number("threshold", (anomaly) => (anomaly.threshold_percent == null ? NONE : `${anomaly.threshold_percent} %`)),
  text("status", (anomaly) => anomaly.status),
], "None.");

export const exports = (into) => new Table(into, "Exports", [
  text("export", (one) => one.id),
  text("format", (one) => one.format),
  text("state", (one) => one.state),
  number("rows", (one) => count(one.rows)),
  number("size", (one) => bytes(one.bytes)),
  number("done", (one) => (typeof one.percent === "number" ? `${Math.floor(one.percent)} %` : NONE)),
], "None.");
