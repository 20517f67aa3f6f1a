//! A headless Chromium: a page of another origin posts events and reads the responses, and can do nothing else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::on;
use super::support::{Folder, PATIENCE, skip};

/// A site with a single page that receives one report.
struct Site(TcpListener);

impl Site {
    fn bind() -> Site {
        Site(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    fn origin(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("an address"))
    }

    /// Serves the page and returns the receiver of its report.
    fn show(self, page: String) -> mpsc::Receiver<Value> {
        let (tell, reports) = mpsc::sync_channel(1);
        // The thread ends with the test process.
        std::thread::spawn(move || {
            for stream in self.0.incoming().map_while(Result::ok) {
                let (page, tell) = (page.clone(), tell.clone());
                std::thread::spawn(move || answer(stream, &page, &tell));
            }
        });
        reports
    }
}

/// Answers one request of the browser. On an I/O error it gives up, and the browser sends the request again.
fn answer(mut stream: TcpStream, page: &str, tell: &mpsc::SyncSender<Value>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, body) = match first.split(' ').next()? {
        "POST" => {
            tell.send(serde_json::from_slice(&body).ok()?).ok()?;
            ("204 No Content", "")
        }
        _ if first.starts_with("GET / ") => ("200 OK", page),
        _ => ("404 Not Found", ""),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).ok()
}

struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is a child of this process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the report of the site's page. If no browser is installed, skips the test with a message and returns
/// `None`.
fn report_of(site: Site, page: String, folder: &Folder) -> Option<Value> {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success());
    let Some(program) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there) else {
        skip("no chromium; what a page can do was not looked at");
        return None;
    };
    let mut chromium = Command::new(program);
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ]);
    chromium.arg("--disable-background-networking");
    chromium.arg(format!("--user-data-dir={}", folder.beside("browser").display()));
    chromium.arg(format!("{}/", site.origin()));
    let reports = site.show(page);
    let silent = || Stdio::null();
    let child = chromium.stdin(silent()).stdout(silent()).stderr(silent()).spawn().expect("it starts");
    let browser = Browser(child);
    let report = reports.recv_timeout(PATIENCE).expect("the page reports");
    drop(browser);
    Some(report)
}

/// The page. It tries every operation against the server and reports the outcomes.
const PAGE: &str = r#"<!doctype html><title>another site</title><script type="module">
const server = "http://SERVER";
const tried = {};
const note = async (name, what) => {
  try { tried[name] = await what(); } catch (error) { tried[name] = error.name; }
};
const event = JSON.stringify({ user_id: 7, timestamp: "2024-01-14T10:30:00Z", metadata: { by: "page" } });
const headers = { "content-type": "application/json", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  baggage: "a=b", "sentry-trace": "x", "x-requested-with": "page" };
const ask = (method, path, more = {}) => fetch(server + path, { method, ...more });
await note("event", async () => {
  const answer = await ask("POST", "/event", { headers, body: event });
  return [answer.status, answer.headers.get("firehose-ack"), answer.headers.get("firehose-receipt") !== null];
});
await note("refused", async () => (await ask("POST", "/event", { headers, body: "{" })).status);
await note("events", async () => (await ask("POST", "/events", { headers, body: JSON.stringify({ event_id: "e", tenant_id: "t",
  source: "web", event_type: "click", timestamp: "2024-01-15T10:30:00Z", payload: {} }) })).status);
await note("beacon", async () => navigator.sendBeacon(server + "/event", event));
for (const [name, method, path] of [["clicks", "GET", "/clicks"], ["events_of", "GET", "/events?tenant_id=t"],
  ["health", "GET", "/health"], ["state", "GET", "/dashboard/state"], ["search", "GET", "/api/v1/tenants/t/orders/search"],
  ["erase", "DELETE", "/clicks/users/7"], ["customer", "DELETE", "/api/v1/tenants/t/customers/c"]]) {
  await note(name, async () => (await ask(method, path)).status);
}
// What needs no leave is sent whatever the answer is going to be.
const blind = { mode: "no-cors", headers: { "content-type": "text/plain" } };
await note("price", async () => (await ask("POST", "/api/v1/tenants/t/products/p/price-event", { ...blind,
  body: JSON.stringify({ event_id: "e", price: 1, currency: "USD", observed_at: "2026-01-01T00:00:00Z" }) })).type);
await note("export", async () => (await ask("POST", "/api/v1/tenants/t/reports/export", { ...blind, body: '{"format":"csv"}' })).type);
await note("patch", async () => (await ask("PATCH", "/api/v1/tenants/t/orders/o", { headers, body: '{"status":"paid"}' })).status);
await fetch("/report", { method: "POST", body: JSON.stringify(tried) });
</script>"#;

#[test]
fn in_a_browser_a_page_of_another_origin_posts_events_and_nothing_else() {
    let folder = Folder::new();
    let server = folder.serve(&["--allowed-hosts", "none"]);
    let page = PAGE.replace("SERVER", &server.address.to_string());
    let Some(tried) = report_of(Site::bind(), page, &folder) else { return };
    assert_eq!(tried["event"], serde_json::json!([202, "os", true]), "{tried}");
    assert_eq!((&tried["refused"], &tried["events"]), (&400.into(), &201.into()), "{tried}");
    assert_eq!(tried["beacon"], true, "{tried}");
    let kept = ["clicks", "events_of", "health", "state", "search", "erase", "customer", "patch"];
    for name in kept {
        assert_eq!(tried[name], "TypeError", "{name}: {tried}");
    }
    // These two requests are sent, but the page cannot read the responses and the server does nothing.
    for name in ["price", "export"] {
        assert_eq!(tried[name], "opaque", "{name}: {tried}");
    }
    let health = server.wait_until_stored();
    assert_eq!(health["database_events"], 3, "two clicks and an event: {health}");
    let get = |target| on(&mut server.client(), "GET", target, &[], "");
    assert_eq!(get("/api/v1/tenants/t/reports/export").json()["exports"], serde_json::json!([]));
    assert_eq!(get("/api/v1/tenants/t/price-anomalies").json()["anomalies"], serde_json::json!([]));
    let clicks = get("/clicks?user_id=7");
    assert_eq!(clicks.status, 200, "{clicks:?}");
    server.stop();
}

#[test]
fn in_a_browser_a_page_of_a_listed_origin_does_what_it_may() {
    let (folder, site) = (Folder::new(), Site::bind());
    let server = folder.serve(&["--cors-origins", &site.origin()]);
    let page = PAGE.replace("SERVER", &server.address.to_string());
    let Some(tried) = report_of(site, page, &folder) else { return };
    for (name, status) in [
        ("events", 201),
        ("clicks", 200),
        ("events_of", 200),
        ("health", 200),
        ("state", 200),
        ("search", 200),
        ("erase", 200),
        ("customer", 200),
        ("patch", 404),
    ] {
        assert_eq!(tried[name], status, "{name}: {tried}");
    }
    server.stop();
}
