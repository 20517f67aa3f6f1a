// The page: loads the state once a second, shows it, and reports when the server does not respond.

import { Charts, sparkline } from "./charts.js";
import { byId, element, facts, setText, show } from "./dom.js";
import { NONE, bytes, clock, count, duration, latency, percent, rate } from "./format.js";
import { Outages } from "./outage.js";
import { Memory, fromHealth } from "./rates.js";
import * as tables from "./tables.js";
import { Tenant, showing } from "./tenant.js";

const EVERY_MS = 1000;
const TIMEOUT_MS = 5000;
/** The interval of chart updates with reduced motion. */
const CALM_TICKS = 5;

const memory = new Memory();
const charts = new Charts(byId("charts"));
const outages = new Outages(byId("outages"), (told) => setText(byId("said"), told));
const shown = {
  cores: tables.cores(byId("cores")),
  shards: tables.shards(byId("shards")),
  routes: tables.routes(byId("routes")),
};
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");

/** Word, value, the line below, series, ink. */
const TILES = [
  ["Accepted", (f) => `${rate(f.accepted)}/s`, (f) => (f.bytes === null ? "" : `${bytes(f.bytes)}/s`), "accepted", "a"],
  ["Stored", (f) => `${rate(f.stored)}/s`, (f) => `${count(f.shards.reduce((sum, shard) => sum + shard.rows, 0))} rows`, "stored", "b"],
  ["Waiting", (f) => count(f.pending), (f) => `${bytes(f.pending_bytes)}${f.behind_us > 0 ? `, ${latency(f.behind_us)} behind` : ""}`, "pending", "c"],
  ["Ack p99", (f) => latency(f.ack.p99), (f) => `p50 ${latency(f.ack.p50)}, p95 ${latency(f.ack.p95)}`, "ack.p99", "a"],
  ["Commit p99", (f) => latency(f.commit.p99), (f) => `p50 ${latency(f.commit.p50)}, p95 ${latency(f.commit.p95)}`, "commit.p99", "b"],
  ["Connections", (f) => count(f.connections), (f) => (f.requests === null ? "" : `${rate(f.requests)} requests/s`), "connections", "a"],
  ["CPU", (f) => percent(f.cpu), (f) => (f.cores.length ? `of ${f.cores.length * 100} %` : ""), "cpu", "c"],
  ["Memory", (f) => bytes(f.resident_bytes), (f) => (f.journal_bytes === null ? "" : `journals ${bytes(f.journal_bytes)}`), "resident", "b"],
];

const tiles = TILES.map(([word, value, below, series, ink]) => {
  const made = { value, below, series, big: element("span", { class: "big" }, NONE), small: element("span", { class: "small" }) };
  made.canvas = element("canvas", { class: `spark ink-${ink}`, "aria-hidden": "true" });
  byId("tiles").append(element("div", { class: "tile" }, element("dt", {}, word), element("dd", {}, made.big, made.small, made.canvas)));
  return made;
});

let span = 300;
let isPaused = false;
let refusedKey = null;
let failedSince = null;
let ticks = 0;
let latest = null;
let timer = null;
let asking = null;

const tenant = new Tenant(() => {
  refusedKey = null;
  memory.gap();
  ask();
});

/** The state, or the data of /health if the key does not permit the state. */
async function fetchState(signal) {
  const options = { signal, cache: "no-store" };
  if (refusedKey !== tenant.key) {
    const key = tenant.key;
    const answer = await fetch("/dashboard/state", { ...options, headers: showing(key) });
    if (answer.ok) return answer.json();
    if (answer.status !== 401 && answer.status !== 403) throw new Error(`status ${answer.status}`);
    refusedKey = key;
  }
  const answer = await fetch("/health", options);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return fromHealth(await answer.json());
}

/** Loads the state once, and again a second after the start of this call. A later call replaces a running one. */
async function ask() {
  clearTimeout(timer);
  asking?.abort();
  const mine = asking = new AbortController();
  if (isPaused || document.hidden) return link();
  const began = performance.now();
  try {
    const state = await fetchState(AbortSignal.any([mine.signal, AbortSignal.timeout(TIMEOUT_MS)]));
    if (mine.signal.aborted) return;
    if (failedSince !== null) setText(byId("said"), "The server is reachable again.");
    failedSince = null;
    latest = { state, figures: memory.take(state) };
  } catch {
    if (mine.signal.aborted) return;
    if (failedSince === null) {
      failedSince = Date.now() * 1e3;
      setText(byId("said"), "The server is unreachable.");
    }
    memory.gap();
  }
  draw();
  tenant.tick();
  timer = setTimeout(ask, Math.max(0, EVERY_MS - (performance.now() - began)));
}

function link() {
  const [word, state] = failedSince !== null ? [`unreachable since ${clock(failedSince)}`, "lost"]
    : isPaused ? ["paused", "paused"] : latest ? ["live", "live"] : ["connecting", "paused"];
  setText(byId("link-text"), word);
  byId("link").dataset.state = state;
  document.body.classList.toggle("stale", failedSince !== null);
}

function draw() {
  ticks += 1;
  link();
  const isRefused = refusedKey !== null && refusedKey === tenant.key;
  const notice = byId("notice");
  show(notice, failedSince !== null || isRefused);
  if (failedSince !== null) {
    setText(notice, `The server has been unreachable since ${clock(failedSince)}. The page retries every second and shows the last known figures.`);
  } else if (isRefused) {
    setText(notice, tenant.key
      ? "This key does not permit these figures. They require a key with the scope read, bound to all tenants. The page shows only the data of /health."
      : "This server requires a key. Without one, the page shows only the data of /health. Enter a key with the scope read, bound to all tenants, below.");
  }
  if (!latest) return;
  const { state, figures } = latest;
  const lasting = outages.update(figures);
  document.title = failedSince !== null ? "unreachable · firehose" : lasting > 0 ? "outage · firehose" : "firehose";
  facts(byId("about"), [
    ["version", state.version],
    ["runtime", state.runtime],
    ["cores", String(state.core_count ?? state.cores.length)],
    ["ack", state.ack],
    ["up", duration(state.uptime_s ?? (state.now_us - state.started_us) / 1e6)],
  ]);
  for (const tile of tiles) {
    setText(tile.big, tile.value(figures));
    setText(tile.small, tile.below(figures));
    sparkline(tile.canvas, memory.of(tile.series));
  }
  shown.cores.show(figures.cores, memory);
  shown.shards.show(figures.shards, memory);
  shown.routes.show(figures.routes.toSorted((a, b) => b.all - a.all), memory);
  const { process } = state;
  facts(byId("process"), [
    ["resident memory", bytes(process?.resident_bytes)],
    ["CPU", percent(figures.cpu)],
    ["CPU since start", duration(process?.cpu_seconds)],
    ["threads", count(process?.threads)],
    ["descriptors", process ? `${count(process.fds_open)} of ${count(process.fds_max)}` : NONE],
    ["free on the data disk", bytes(state.disk_free_bytes)],
  ]);
  if (!isCalm.matches || ticks % CALM_TICKS === 1) charts.update(memory, span);
  if (ticks % 5 === 1) charts.describe();
}

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  if (!isPaused) memory.gap();
  ask();
});
for (const radio of document.querySelectorAll("input[name=span]")) {
  radio.addEventListener("change", () => {
    span = Number(radio.value);
    charts.update(memory, span);
    charts.describe();
  });
}
window.addEventListener("theme", () => {
  charts.recolor();
  if (latest) draw();
});
window.addEventListener("pageshow", () => ask());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) memory.gap();
  ask();
});
