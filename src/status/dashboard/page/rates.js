// From counters to figures: the difference of two states, and a history of the figures.

/** Seconds kept for the charts. */
export const KEPT = 900;
/** Seconds that percentiles cover. */
const WINDOW_S = 10;
/** A longer difference says nothing about the present. */
const GAP_S = 8;
/** Buckets per doubling, as in the server. */
const PER_DOUBLING = 8;

const sum = (list, of) => list.reduce((total, item) => total + (of(item) ?? 0), 0);

/** Counts of `newer` that `older` does not have, by bucket. */
export function between(newer, older) {
  const before = new Map(older ?? []);
  return (newer ?? []).map(([bucket, count]) => [bucket, count - (before.get(bucket) ?? 0)]).filter(([, count]) => count > 0);
}

/** Several histograms as one. */
export function together(histograms) {
  const all = new Map();
  for (const [bucket, count] of histograms.flat()) all.set(bucket, (all.get(bucket) ?? 0) + count);
  return [...all].sort(([a], [b]) => a - b);
}

/** The value in microseconds at a rank of 0 to 1; null without values. */
export function quantile(histogram, rank) {
  const total = sum(histogram, ([, count]) => count);
  if (total === 0) return null;
  let wanted = rank * total;
  for (const [bucket, count] of histogram) {
    if (wanted <= count) return 2 ** ((bucket - 1 + wanted / count) / PER_DOUBLING);
    wanted -= count;
  }
  return 2 ** (histogram.at(-1)[0] / PER_DOUBLING);
}

export const percentiles = (histogram) => ({
  p50: quantile(histogram, 0.5),
  p95: quantile(histogram, 0.95),
  p99: quantile(histogram, 0.99),
  count: sum(histogram, ([, count]) => count),
});

/** The data of `/health` in the shape of the state, for pages without a key. */
export function fromHealth(health) {
  const now_us = Date.now() * 1e3;
  return {
    now_us,
    started_us: null,
    uptime_s: health.uptime_seconds,
    monotonic_us: performance.now() * 1e3,
    version: health.version,
    runtime: health.runtime,
    ack: health.ack,
    core_count: health.cores,
    process: null,
    cores: [],
    requests: [],
    shards: health.shards.map((shard) => ({
      shard: shard.shard,
      state: shard.state,
      reason: shard.reason,
      received: shard.received,
      stored: shard.processed,
      pending: shard.pending,
      pending_bytes: shard.pending_bytes,
      rows: shard.database_events,
    })),
  };
}

const classOf = (status) => (status >= 100 && status < 600 ? `${Math.floor(status / 100)}xx` : "other");

function byClass(statuses) {
  const classes = {};
  for (const [status, count] of statuses ?? []) {
    classes[classOf(status)] = (classes[classOf(status)] ?? 0) + count;
  }
  return classes;
}

/** The figures of `now`. `before` is the state of a second ago, `base` that of ten seconds ago. */
export function figures(now, before, base) {
  const seconds = before ? (now.monotonic_us - before.monotonic_us) / 1e6 : null;
  const perSecond = (newer, older) => (seconds > 0 && newer != null && older != null ? Math.max(0, newer - older) / seconds : null);
  const cores = now.cores.map((core, at) => {
    const old = before?.cores[at];
    return {
      ...core,
      accepted: perSecond(core.accepted_events, old?.accepted_events),
      bytes: perSecond(core.accepted_bytes, old?.accepted_bytes),
      busy: old ? perSecond(core.busy_us, old.busy_us) / 1e6 : null,
      ack: percentiles(base ? between(core.ack_us, base.cores[at]?.ack_us) : []),
    };
  });
  const shards = now.shards.map((shard, at) => {
    const old = before?.shards[at];
    return {
      ...shard,
      accepted_rate: perSecond(shard.received, old?.received),
      stored_rate: perSecond(shard.stored, old?.stored),
      rows: shard.rows ?? shard.clicks + shard.events + shard.orders,
      commit_rate: perSecond(shard.commits, old?.commits),
      commit: percentiles(base ? between(shard.commit_us, base.shards[at]?.commit_us) : []),
    };
  });
  const routes = now.requests.map((route) => {
    const old = before?.requests.find((other) => other.route === route.route);
    const [total, was] = [byClass(route.statuses), byClass(old?.statuses)];
    const rates = {};
    for (const name of Object.keys(total)) rates[name] = before ? perSecond(total[name], was[name] ?? 0) : null;
    return { route: route.route, total, rates, all: sum(Object.values(total), (count) => count) };
  });
  const of = (list, name) => (list.some((item) => item[name] != null) ? sum(list, (item) => item[name]) : null);
  return {
    now_us: now.now_us,
    cores,
    shards,
    routes,
    accepted: of(shards, "accepted_rate"),
    stored: of(shards, "stored_rate"),
    bytes: of(cores, "bytes"),
    pending: of(shards, "pending"),
    pending_bytes: of(shards, "pending_bytes"),
    behind_us: Math.max(0, ...shards.map((shard) => shard.behind_us ?? 0)),
    journal_bytes: of(shards, "journal_bytes"),
    connections: cores.length > 0 ? of(cores, "connections") : null,
    requests: routes.length > 0 ? sum(routes, (route) => sum(Object.values(route.rates), (value) => value)) : null,
    ack: percentiles(base ? together(now.cores.map((core, at) => between(core.ack_us, base.cores[at]?.ack_us))) : []),
    commit: percentiles(base ? together(now.shards.map((shard, at) => between(shard.commit_us, base.shards[at]?.commit_us))) : []),
    cpu: perSecond(now.process?.cpu_seconds, before?.process?.cpu_seconds),
    resident_bytes: now.process?.resident_bytes ?? null,
  };
}

/** The last states, and a row of figures for every second. */
export class Memory {
  states = [];
  /** Seconds since 1970, and every series by name. */
  times = [];
  series = new Map();

  /** The figures of a new state. */
  take(state) {
    const last = this.states.at(-1);
    const isAnother = last && (last.started_us !== state.started_us || last.shards.length !== state.shards.length
      || last.cores.length !== state.cores.length || last.uptime_s > state.uptime_s);
    if (isAnother || (last && state.monotonic_us - last.monotonic_us > GAP_S * 1e6)) this.gap();
    const oldest = state.monotonic_us - WINDOW_S * 1e6;
    while (this.states.length > 1 && this.states[1].monotonic_us <= oldest) this.states.shift();
    const found = figures(state, this.states.at(-1), this.states[0]);
    this.states.push(state);
    const row = {
      accepted: found.accepted, stored: found.stored, pending: found.pending, connections: found.connections,
      cpu: found.cpu, resident: found.resident_bytes,
    };
    for (const name of ["p50", "p95", "p99"]) {
      row[`ack.${name}`] = found.ack[name];
      row[`commit.${name}`] = found.commit[name];
    }
    for (const core of found.cores) row[`core.${core.core}`] = core.accepted;
    for (const shard of found.shards) {
      row[`shard.${shard.shard}`] = shard.stored_rate;
      row[`waiting.${shard.shard}`] = shard.pending;
    }
    this.push(state.now_us / 1e6, row);
    return found;
  }

  /** A gap: the next state is not compared with the previous one. */
  gap() {
    this.states = [];
    if (this.times.length > 0) this.push(Math.max(Date.now() / 1e3, this.times.at(-1) + 0.001), {});
  }

  push(time, row) {
    if (time <= this.times.at(-1)) time = this.times.at(-1) + 0.001;
    this.times.push(time);
    for (const name of Object.keys(row)) {
      if (!this.series.has(name)) this.series.set(name, new Array(this.times.length - 1).fill(null));
    }
    for (const [name, values] of this.series) values.push(row[name] ?? null);
    if (this.times.length > KEPT) {
      this.times.shift();
      for (const values of this.series.values()) values.shift();
    }
  }

  /** The values of a series, newest last; null for gaps. */
  of(name) {
    return this.series.get(name) ?? this.times.map(() => null);
  }

  /** The start of the last seconds. */
  from(seconds) {
    const since = (this.times.at(-1) ?? 0) - seconds;
    const at = this.times.findIndex((time) => time >= since);
    return at < 0 ? 0 : at;
  }
}
