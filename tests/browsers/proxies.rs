//! Caddy and nginx from Debian in front of the server, configured as in their manuals. The console and the event
//! endpoints work, and a page of another origin still cannot do more.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::support::{Client, Folder, Server, event, skip, wait_until};
use super::{FOREIGN, on};

struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The proxy is a child of this process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_there(program: &str, flag: &str) -> bool {
    Command::new(program).arg(flag).output().is_ok_and(|said| said.status.success())
}

/// Returns a port that is free now.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

fn start(mut command: Command, port: u16) -> Proxy {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("the proxy to listen", || TcpStream::connect(address).is_ok());
    Proxy { child, address }
}

/// Starts nginx with `proxy_pass` as in every example. It sends the name of the upstream as `Host`.
fn nginx(folder: &Path, server: &Server) -> Option<Proxy> {
    if !is_there("nginx", "-v") {
        skip("no nginx (apt install nginx-light)");
        return None;
    }
    let (port, at) = (free_port(), folder.display());
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.map(|kind| format!("{kind}_temp_path {at}/{kind};")).concat();
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr;
         events {{}}
         http {{ access_log off; {temporary}
           server {{ listen 127.0.0.1:{port};
             location / {{ proxy_pass http://{};
               proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}",
        server.address
    );
    fs::write(folder.join("nginx.conf"), config).expect("it is written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(folder).args(["-e", "stderr"]);
    Some(start(command, port))
}

/// Starts Caddy as a reverse proxy. It forwards the `Host` of the client's request.
fn caddy(folder: &Path, server: &Server) -> Option<Proxy> {
    if !is_there("caddy", "version") {
        skip("no caddy (apt install caddy)");
        return None;
    }
    let port = free_port();
    let config = format!("{{\n admin off\n}}\nhttp://:{port} {{\n reverse_proxy {}\n}}\n", server.address);
    fs::write(folder.join("Caddyfile"), config).expect("it is written");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
    command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).stderr(Stdio::null());
    Some(start(command, port))
}

#[test]
fn behind_caddy_and_nginx_the_console_and_the_routes_of_events_work() {
    let folder = Folder::new();
    let flags = ["--public-url", "https://events.example", "--allowed-hosts", "none"];
    let limit = ["--trusted-proxies", "127.0.0.1", "--rate-per-address", "1000"];
    let server = folder.serve(&[flags, limit].concat());
    for (name, proxy) in [("nginx", nginx as fn(&Path, &Server) -> Option<Proxy>), ("caddy", caddy)] {
        let beside = folder.beside(name);
        fs::create_dir(&beside).expect("a folder");
        let Some(proxy) = proxy(&beside, &server) else { continue };
        let ask = |method: &str, target: &str, lines: &[&str], body: &str| {
            let mut client = Client::connect(proxy.address).expect("it takes connections");
            let lines = [&["Host: events.example"], lines].concat();
            on(&mut client, method, target, &lines, body)
        };
        let own = "Origin: https://events.example";
        let page = ask("GET", "/", &["Accept: text/html"], "");
        assert_eq!(page.status, 200, "{name}: {page:?}");
        assert_eq!(ask("GET", "/dashboard/main.js", &[own], "").status, 200, "{name}");
        assert_eq!(ask("GET", "/dashboard/state", &[own], "").status, 200, "{name}");
        assert_eq!(ask("GET", "/clicks", &[own], "").status, 200, "{name}");
        let export = "/api/v1/tenants/acme/reports/export";
        let made = ask("POST", export, &[own], r#"{"format":"csv"}"#);
        assert_eq!(made.status, 201, "{name}: {made:?}");
        for origin in [own, &format!("Origin: {FOREIGN}")] {
            let posted = ask("POST", "/event", &[origin], &event(1));
            assert_eq!(posted.status, 202, "{name}: {posted:?}");
            assert_eq!(posted.header("Access-Control-Allow-Origin"), Some("*"), "{name}");
            let wanted = "Access-Control-Request-Headers: traceparent";
            let granted =
                ask("OPTIONS", "/events", &[origin, "Access-Control-Request-Method: POST", wanted], "");
            assert_eq!(granted.header("Access-Control-Allow-Headers"), Some("traceparent"), "{name}");
        }
        let foreign = format!("Origin: {FOREIGN}");
        for (method, target) in [("GET", "/clicks"), ("POST", export), ("DELETE", "/clicks/users/7")] {
            assert_eq!(ask(method, target, &[&foreign], "{}").status, 403, "{name}: {method} {target}");
        }
    }
    server.stop();
}
