// A reader of the dashboard: does what stands on a line of stdin, says how it went on a line of stdout.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const PATIENCE_MS = 60_000;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const browser = await puppeteer.launch({
  executablePath: process.argv[2],
  timeout: PATIENCE_MS,
  protocolTimeout: 2 * PATIENCE_MS,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"],
});
let page;
/** What should not have happened. */
let wrong = [];

function expect(truth, ...said) {
  if (!truth) throw new Error(said.map((word) => (typeof word === "string" ? word : JSON.stringify(word))).join(" "));
}

/** Waits until this is so in the page. */
const until = (what, so, ...words) =>
  page.waitForFunction(so, { timeout: PATIENCE_MS, polling: 50 }, ...words).catch(async (error) => {
    throw new Error(`in vain for: ${what}; ${error.message}; the page says: ${await page.evaluate(() => document.body.innerText)}`);
  });
const text = (selector) => page.$eval(selector, (found) => found.textContent);

async function open(url) {
  await page?.close();
  wrong = [];
  page = await (await browser.createBrowserContext()).newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const { origin } = new URL(url);
  page.on("console", (said) => wrong.push(`console: ${said.type()}: ${said.text()}`));
  page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
  page.on("requestfailed", (request) => wrong.push(`failed: ${request.url()}: ${request.failure()?.errorText}`));
  page.on("request", (request) => new URL(request.url()).origin === origin || wrong.push(`elsewhere: ${request.url()}`));
  page.on("response", (answer) => answer.status() < 400 || wrong.push(`${answer.status()}: ${answer.url()}`));
  await page.setViewport({ width: 1440, height: 900 });
  await page.goto(url);
  await until("figures", () => document.getElementById("link-text").textContent === "live");
}

const steps = {
  open,

  /** Numbers change under load, everywhere. */
  async moves() {
    const seen = (selector) => until(`${selector} to change`, (of) => {
      const value = document.querySelector(of)?.textContent;
      window.seen ??= {};
      (window.seen[of] ??= new Set()).add(value);
      return window.seen[of].size > 2;
    }, selector);
    const figures = ["#tiles .tile:nth-child(1) .big", "#tiles .tile:nth-child(2) .big", "#tiles .tile:nth-child(2) .small",
      "#cores tbody tr td:last-child", "#shards tbody tr td:nth-child(12)", "#routes tbody tr td:last-child"];
    await Promise.all(figures.map(seen));
    // What stands in the tiles is what the charts and their tables say.
    await until("rates", () => /^[1-9][\d,.]*\/s$/.test(document.querySelector("#tiles .big").textContent));
    await until("latencies", () => /^[\d.]+ (µs|ms|s)$/.test(document.querySelectorAll("#tiles .big")[3].textContent)
      && /^[\d.]+ (µs|ms|s)$/.test(document.querySelectorAll("#tiles .big")[4].textContent));
    await page.click(".as-table summary");
    await until("rows of the table beside the chart", () => document.querySelectorAll(".as-table tbody tr").length > 0);
    await until("the picture's description", () => /accepted [\d,.]+\/s now/.test(document.querySelector(".plot").getAttribute("aria-label")));
    const drawn = await page.$$eval(".plot canvas", (all) => all.map((canvas) =>
      canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte > 0)));
    expect(drawn.length === 4 && drawn.every(Boolean), "charts are drawn", drawn);
    await page.click(".as-table summary");
  },

  /** The percentiles of the page are those of the histogram it is sent. */
  async quantiles() {
    const found = await page.evaluate(async () => {
      const { between, fromHealth, figures, quantile } = await import("/dashboard/rates.js");
      const values = [];
      for (let us = 1; us <= 4000; us += 1) values.push(us);
      const counts = new Map();
      for (const us of values) {
        const bucket = Math.ceil(Math.log2(us) * 8);
        counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
      }
      const histogram = [...counts];
      const twice = histogram.map(([bucket, count]) => [bucket, count * 2]);
      const health = { uptime_seconds: 1, cores: 1, shards: [{ shard: 0, state: "open", received: 9, processed: 4, pending: 5, pending_bytes: 50, database_events: 4 }] };
      const first = { ...fromHealth(health), monotonic_us: 0 };
      health.shards[0] = { ...health.shards[0], received: 29, processed: 24 };
      const rates = figures({ ...fromHealth(health), monotonic_us: 2e6 }, first, first);
      return [[0.5, 0.95, 0.99].map((rank) => quantile(histogram, rank)), quantile(between(twice, histogram), 0.5), quantile([], 0.5), rates.accepted, rates.pending];
    });
    const [[p50, p95, p99], again, none, accepted, pending] = found;
    const near = (value, wanted) => Math.abs(value / wanted - 1) < 0.05;
    expect(near(p50, 2000) && near(p95, 3800) && near(p99, 3960) && near(again, 2000), "percentiles", found);
    expect(none === null && accepted === 10 && pending === 5, "rates", found);
  },

  async outage(shard) {
    await until("an outage", (of) => {
      const card = document.querySelector(`.outage:not(.over)[data-shard="${of}"]`);
      return card?.textContent.includes("cannot be written: locked") && /[1-9][\d,]* events \(/.test(card.textContent);
    }, shard);
    const card = () => text(`.outage[data-shard="${shard}"]`);
    expect(/Since \d\d:\d\d:\d\d, for \d/.test(await card()) && /another program/.test(await card()), await card());
    expect((await text("#said")).includes(`Shard ${shard} cannot be written`), "it is said", await text("#said"));
    expect((await page.title()) === "outage · firehose", await page.title());
    const waits = async () => Number((await card()).match(/([\d,]+) events \(/)[1].replaceAll(",", ""));
    const before = await waits();
    await until("more to wait", (of, least) => {
      const told = document.querySelector(`.outage[data-shard="${of}"]`).textContent.match(/([\d,]+) events \(/);
      return told && Number(told[1].replaceAll(",", "")) > least;
    }, shard, before);
    expect((await text(`#shards tbody tr:nth-child(${Number(shard) + 1}) td:nth-child(2)`)) === "busy", "the table says so too");
  },

  async over(shard) {
    await until("the end of the outage", (of) => document.querySelector(`.outage.over[data-shard="${of}"]`)?.textContent.includes("is writable again"), shard);
    await until("it to be said", (of) => document.getElementById("said").textContent.includes(`Shard ${of} is writable again`), shard);
    expect((await page.title()) === "firehose", await page.title());
  },

  /** A page opened afterwards knows of it too. */
  async told(shard) {
    await until("the outage that was", (of) => /for \d+ s|for \d+ min/.test(document.querySelector(`.outage.over[data-shard="${of}"]`)?.textContent ?? ""), shard);
  },

  /** Every control is reached by the Tab key, shows that it is, and works by keys. */
  async keyboard() {
    const wanted = await page.evaluate(() => {
      const all = [...document.querySelectorAll("a[href], button, input, summary, select, textarea, [tabindex='0']")];
      // Of radio buttons of one name, one is a stop.
      return all.filter((of) => of.type !== "radio" || of.checked).map((of, at) => (of.dataset.control = String(at)));
    });
    await page.evaluate(() => (document.activeElement?.blur(), scrollTo(0, 0)));
    const reached = new Set();
    for (let press = 0; press < wanted.length * 2 && reached.size < wanted.length; press += 1) {
      await page.keyboard.press("Tab");
      const [control, outline, name] = await page.evaluate(() => {
        const of = document.activeElement;
        const seen = of.type === "radio" ? of.nextElementSibling : of;
        const style = getComputedStyle(seen);
        return [of.dataset.control, style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth), of.outerHTML.slice(0, 80)];
      });
      if (control == null) continue;
      reached.add(control);
      expect(outline >= 2, "focus is not seen on", name);
    }
    expect(reached.size === wanted.length, "reached", [...reached], "of", wanted);

    await page.focus("#pause");
    await page.keyboard.press("Space");
    await until("a pause", () => document.getElementById("link-text").textContent === "paused");
    expect((await page.$eval("#pause", (of) => of.getAttribute("aria-pressed"))) === "true", "aria-pressed");
    await page.keyboard.press("Enter");
    await until("to go on", () => document.getElementById("link-text").textContent === "live");
    await page.focus("input[name=span]:checked");
    await page.keyboard.press("ArrowRight");
    expect((await page.$eval("input[name=span]:checked", (of) => of.value)) === "900", "arrow keys");
    await page.focus("#theme");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    expect((await page.$eval("html", (of) => of.dataset.theme)) === "dark", "the theme");
    await page.reload();
    await until("figures", () => document.getElementById("link-text").textContent === "live");
    expect((await page.$eval("html", (of) => of.dataset.theme)) === "dark", "the theme is remembered");
    expect((await text("#theme")) === "Theme: dark", await text("#theme"));
    await page.evaluate(() => localStorage.clear());
    await page.reload();
    await until("figures", () => document.getElementById("link-text").textContent === "live");
  },

  /** At every width without scrolling sideways, in both themes, with nothing for axe to object to. */
  async widths() {
    const grounds = new Set();
    for (const [width, theme] of [[360, "light"], [360, "dark"], [768, "light"], [1200, "dark"], [1440, "light"], [1440, "dark"]]) {
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
      await page.waitForFunction((wide) => innerWidth === wide, { timeout: PATIENCE_MS }, width);
      // Two frames: charts follow the width in the next one.
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      const [scroll, beyond, ground] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        [...document.querySelectorAll("main *")].filter((of) => of.getBoundingClientRect().right > innerWidth + 0.5
          && getComputedStyle(of).position !== "absolute" && !of.closest(".unseen, .plot, thead")).map((of) => of.outerHTML.slice(0, 80)),
        getComputedStyle(document.documentElement).backgroundColor,
      ]);
      expect(scroll <= width, "at", width, "the page is", scroll, "wide");
      expect(beyond.length === 0, "at", width, "these stick out", beyond.slice(0, 3));
      grounds.add(`${theme} ${ground}`);
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const violations = found.violations.map((one) => [one.impact, one.id, one.nodes.slice(0, 2).map((node) => node.html.slice(0, 120) + " " + node.failureSummary)]);
      expect(found.passes.length > 20, "axe has looked", found.passes.length);
      expect(violations.length === 0, "at", width, theme, violations);
    }
    expect(grounds.size === 2, "each theme has its ground", [...grounds]);
    await page.emulateMediaFeatures([]);
    await page.setViewport({ width: 1440, height: 900 });
  },

  /** Nothing was wrong so far. */
  async clean() {
    expect(wrong.length === 0, wrong);
  },

  /** Without a connection it says so and goes on by itself. */
  async lost() {
    await page.setOfflineMode(true);
    await until("to say so", () => /^unreachable since \d\d:/.test(document.getElementById("link-text").textContent)
      && !document.getElementById("notice").hidden && document.title === "unreachable · firehose");
    await page.setOfflineMode(false);
    await until("to go on", () => document.getElementById("link-text").textContent === "live" && document.getElementById("notice").hidden);
  },

  /** A tenant's lists, as this server answers them. */
  async lists(tenant) {
    await page.type("#tenant", tenant);
    await page.keyboard.press("Enter");
    await until("an anomaly", () => document.querySelector("#anomalies tbody td"));
    await until("an export that is done", () => document.querySelector("#exports tbody tr")?.textContent.includes("done"));
    const [all, done] = [await page.$$eval("#anomalies tbody tr", (rows) => rows.map((row) => row.textContent)), await text("#exports tbody tr")];
    const anomaly = all.find((row) => row.includes("lamp"));
    expect(all.length === 2 && anomaly, "two anomalies", all);
    for (const part of ["lamp", "100.0 %", "10.00", "20 %", "open"]) expect(anomaly.includes(part), part, "in", anomaly);
    for (const part of ["csv", "100 %"]) expect(done.includes(part), part, "in", done);
    // A change from nothing has no percentage.
    expect(all.every((row) => !/null|undefined|NaN/.test(row)), all);
    await page.click("#forget");
  },

  /** A tenant's lists, as others answer them. */
  async tenant() {
    const evil = "<img src=x onerror=\"document.title='owned'\">";
    let status = 200;
    const asked = [];
    await page.setRequestInterception(true);
    page.on("request", (request) => {
      const { pathname, search } = new URL(request.url());
      if (!pathname.startsWith("/api/v1/tenants/")) return request.continue();
      asked.push([pathname + search, request.headers().authorization]);
      const body = status !== 200 ? { detail: "told by the test" } : pathname.endsWith("price-anomalies")
        ? { anomalies: [{ id: "a1", product_id: evil, change_percent: -41.25, baseline: "19.99", threshold_percent: 30, status: "open", observed_at: "2026-03-01T12:00:00Z" }] }
        : { exports: [{ id: "x-1", format: "csv", state: "running", rows: 123456, bytes: 1572864, percent: 42.9 }] };
      return request.respond({ status, contentType: "application/json", body: JSON.stringify(body) });
    });
    await page.type("#tenant", "a/b ü");
    await page.type("#key", "fh_0_secret");
    await page.keyboard.press("Enter");
    await until("an anomaly", () => document.querySelector("#anomalies td")?.textContent.includes("<img"));
    await until("an export", () => document.querySelector("#exports tbody")?.textContent.includes("1.50 MiB"));
    const row = await text("#anomalies tbody tr");
    expect(row.includes("-41.3 %") && row.includes("19.99") && row.includes("30 %") && row.includes("open"), row);
    expect((await text("#exports tbody tr")).includes("123,456") && (await text("#exports tbody tr")).includes("42 %"), "the export");
    expect((await page.title()) === "firehose", "markup from the server stays text");
    expect(asked.every(([path, key]) => path.startsWith("/api/v1/tenants/a%2Fb%20%C3%BC/") && key === "Bearer fh_0_secret"), asked);
    const kept = await page.evaluate(() => [{ ...sessionStorage }, { ...localStorage }, document.cookie]);
    expect(kept[0]["firehose.key"] === "fh_0_secret" && kept[0]["firehose.tenant"] === "a/b ü", kept);
    expect(!JSON.stringify([kept[1], kept[2]]).includes("secret"), "the key is kept by the tab only", kept);
    for (const [refused, said] of [[401, "a valid key is required"], [403, "does not permit reading"], [404, "Not available"]]) {
      status = refused;
      await page.click("#access button[type=submit]");
      await until(said, (words, code) => ["anomalies", "exports"].every((of) => {
        const told = document.getElementById(`${of}-said`).textContent;
        return told.includes(words) && told.includes(`(${code})`) && told.includes("told by the test");
      }), said, refused);
      expect((await page.$$("#anomalies tbody tr, #exports tbody tr")).length === 0, "no rows of before stay");
    }
    await page.click("#forget");
    expect((await page.evaluate(() => sessionStorage.length)) === 0, "forgotten");
  },

  /** A server with keys: health without one, everything with the right one. */
  async locked(words) {
    const [own, all] = words.split(" ");
    const use = async (key) => {
      await page.$eval("#key", (of) => (of.value = ""));
      await page.type("#key", key);
      await page.click("#access button[type=submit]");
    };
    const isRefused = (words) => until(words, (of) => {
      const notice = document.getElementById("notice");
      return !notice.hidden && notice.textContent.includes(of) && document.querySelectorAll("#cores tbody tr").length === 0
        && document.querySelectorAll("#shards tbody tr").length > 0 && document.getElementById("link-text").textContent === "live";
    }, words);
    await isRefused("This server requires a key");
    await use(own);
    await isRefused("bound to all tenants");
    await use(all);
    await until("cores", () => document.getElementById("notice").hidden && document.querySelectorAll("#cores tbody tr").length > 0);
    await page.reload();
    await until("cores with the key the tab has kept", () => document.querySelectorAll("#cores tbody tr").length > 0);
    const unexpected = wrong.filter((what) => !/^(401|403): .*\/dashboard\/state$/.test(what) && !/status of (401|403)/.test(what));
    expect(unexpected.length === 0, unexpected);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(" ");
  const began = performance.now();
  try {
    await steps[name](words.join(" "));
    console.log(`done ${name}`);
    console.error(`${name}: ${Math.round(performance.now() - began)} ms`);
  } catch (error) {
    console.log(`failed ${name}: ${error.stack}`.replaceAll("\n", " ⏎ "));
  }
}
await browser.close();
