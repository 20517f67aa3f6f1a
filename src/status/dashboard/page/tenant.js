// One tenant's price anomalies and exports. Only this tab keeps the tenant and the key.

import { byId, setText } from "./dom.js";
import { moment } from "./format.js";
import * as tables from "./tables.js";

/** Seconds between two requests, which count against the tenant's quota. */
const EVERY_S = 5;
/** Rows of each list. */
const SHOWN_MAX = 20;

const read = (name) => {
  try {
    return sessionStorage.getItem(`firehose.${name}`) ?? "";
  } catch {
    return "";
  }
};
const keep = (name, value) => {
  try {
    if (value) sessionStorage.setItem(`firehose.${name}`, value);
    else sessionStorage.removeItem(`firehose.${name}`);
  } catch { /* It holds until the page is closed. */ }
};

/** The headers with the key. */
export const showing = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

/** The explanation of a refusal, in a sentence. */
async function told(answer) {
  const problem = await answer.json().catch(() => ({}));
  const detail = typeof problem.detail === "string" ? `: ${problem.detail}` : "";
  const means = {
    401: "Not shown: a valid key is required (401)",
    403: "Not shown: this key does not permit reading this tenant (403)",
    404: "Not available on this server or for this tenant (404)",
    429: "The tenant's quota is exhausted (429)",
  };
  return `${means[answer.status] ?? `Not available (${answer.status})`}${detail}.`;
}

class List {
  constructor(id, path, name, table) {
    this.path = path;
    this.name = name;
    this.said = byId(`${id}-said`);
    this.table = table(byId(id));
    this.table.empty.textContent = "";
    this.isRefused = false;
  }

  async look(tenant, key) {
    if (this.isRefused) return;
    let answer;
    try {
      const target = `/api/v1/tenants/${encodeURIComponent(tenant)}/${this.path}`;
      answer = await fetch(target, { headers: { Accept: "application/json", ...showing(key) }, signal: AbortSignal.timeout(5000), cache: "no-store" });
    } catch {
      setText(this.said, "The server is unreachable.");
      return;
    }
    if (!answer.ok) {
      // Retried only after a change of tenant or key, or later if waiting helps.
      this.isRefused = answer.status < 500 && answer.status !== 429;
      setText(this.said, await told(answer));
      this.table.show([]);
      return;
    }
    const body = await answer.json().catch(() => ({}));
    const rows = (Array.isArray(body[this.name]) ? body[this.name] : []).slice(0, SHOWN_MAX);
    setText(this.said, rows.length === 0 ? `${tenant} has none.` : `The newest of ${tenant}.`);
    this.table.show(rows.map((row) => ({ ...row, observed: moment(row.observed_at) })));
  }

  clear() {
    this.isRefused = false;
    this.table.show([]);
    setText(this.said, "Enter a tenant to see them.");
  }
}

export class Tenant {
  looked = -Infinity;
  isLooking = false;

  /** `changed` is called when the key changes. */
  constructor(changed) {
    [this.tenant, this.key] = [read("tenant"), read("key")];
    this.lists = [
      new List("anomalies", `price-anomalies?limit=${SHOWN_MAX}`, "anomalies", tables.anomalies),
      new List("exports", "reports/export", "exports", tables.exports),
    ];
    const form = byId("access");
    form.tenant.value = this.tenant;
    form.key.value = this.key;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.use(form.tenant.value.trim(), form.key.value.trim());
      changed();
    });
    byId("forget").addEventListener("click", () => {
      form.tenant.value = form.key.value = "";
      this.use("", "");
      changed();
    });
  }

  use(tenant, key) {
    [this.tenant, this.key, this.looked] = [tenant, key, -Infinity];
    keep("tenant", tenant);
    keep("key", key);
    this.lists.forEach((list) => list.clear());
  }

  /** Called every second; loads the lists when they are due. */
  async tick() {
    const now = performance.now();
    if (!this.tenant || this.isLooking || now - this.looked < EVERY_S * 1e3) return;
    [this.looked, this.isLooking] = [now, true];
    const [tenant, key] = [this.tenant, this.key];
    await Promise.all(this.lists.map((list) => list.look(tenant, key)));
    this.isLooking = false;
    // The tenant changed meanwhile: the response belongs to another one.
    if (tenant !== this.tenant || key !== this.key) this.use(this.tenant, this.key);
  }
}
