// Shards that cannot be written, since when and why; and the end of an outage.

import { element, setText, show } from "./dom.js";
import { bytes, clock, count, duration } from "./format.js";

/** The time for which the end of an outage is shown. */
const SHOWN_S = 600;

/** Current outages, and those that ended recently. */
function outages(figures, firstSeen) {
  const found = [];
  for (const shard of figures.shards) {
    const { outage } = shard;
    if (outage && outage.ended_us === null) {
      found.push({ shard, lasts: true, what: outage.what, reason: outage.reason, began_us: outage.began_us });
    } else if (shard.state !== "open" && shard.state !== "stopped" && shard.reason) {
      // Before the writer's first failure, or with the data of /health only: since this page has seen it.
      if (!firstSeen.has(shard.shard)) firstSeen.set(shard.shard, figures.now_us);
      const began_us = firstSeen.get(shard.shard);
      found.push({ shard, lasts: true, what: shard.state, reason: shard.reason, began_us, isSeen: true });
    } else {
      firstSeen.delete(shard.shard);
      if (outage && (figures.now_us - outage.ended_us) / 1e6 < SHOWN_S) found.push({ shard, lasts: false, ...outage });
    }
  }
  return found;
}

function card() {
  return element("article", { class: "outage" },
    element("h2"), element("p", { class: "reason" }), element("p", { class: "effect" }));
}

export class Outages {
  firstSeen = new Map();
  lasting = new Set();

  /** `say` announces a change to screen readers. */
  constructor(into, say) {
    this.into = into;
    this.say = say;
  }

  /** Shows the outages and returns the number of current ones. */
  update(figures) {
    const found = outages(figures, this.firstSeen);
    show(this.into, found.length > 0);
    while (this.into.children.length > found.length) this.into.lastChild.remove();
    while (this.into.children.length < found.length) this.into.append(card());
    found.forEach((outage, at) => {
      const of = this.into.children[at];
      const [head, reason, effect] = of.children;
      const name = `Shard ${outage.shard.shard}`;
      of.classList.toggle("over", !outage.lasts);
      of.dataset.shard = outage.shard.shard;
      if (outage.lasts) {
        const since = `Since ${clock(outage.began_us)}${outage.isSeen ? " or before" : ""}, for ${duration((figures.now_us - outage.began_us) / 1e6)}`;
        setText(head, `${name} cannot be written: ${outage.what}`);
        setText(reason, `${since}: ${outage.reason}.`);
        setText(effect, `${count(outage.shard.pending)} events (${bytes(outage.shard.pending_bytes)}) wait in its journals. The server still accepts events and stores them after the outage.`);
      } else {
        const took = duration((outage.ended_us - outage.began_us) / 1e6);
        setText(head, `${name} is writable again`);
        setText(reason, `From ${clock(outage.began_us)} to ${clock(outage.ended_us)}, for ${took}, it could not be written (${outage.what}): ${outage.reason}.`);
        const left = outage.shard.pending;
        setText(effect, left > 1000 ? `${count(left)} events still wait to be stored.` : "The backlog is stored.");
      }
    });
    this.announce(found.filter((outage) => outage.lasts));
    return this.lasting.size;
  }

  announce(lasting) {
    const now = new Set(lasting.map((outage) => outage.shard.shard));
    const begun = lasting.filter((outage) => !this.lasting.has(outage.shard.shard));
    const over = [...this.lasting].filter((shard) => !now.has(shard));
    const told = [
      ...begun.map((outage) => `Shard ${outage.shard.shard} cannot be written: ${outage.what}.`),
      ...over.map((shard) => `Shard ${shard} is writable again.`),
    ];
    if (told.length > 0) this.say(told.join(" "));
    this.lasting = now;
  }
}
