//! nginx with `return 202`, in one process that is pinned like every other system.
//!
//! It parses the head and neither reads nor checks the body: `return` answers in the rewrite phase, and the bytes of
//! the body that arrived with the head are discarded. It sends fewer headers than firehose.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::ANSWER_BODY;

pub(super) fn check() -> Result<()> {
    let found = Command::new("nginx").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(found.is_ok(), "nginx is not installed: apt-get install nginx-light");
    Ok(())
}

/// Without a master process, so that there is one process to pin, to measure and to kill.
pub(super) fn command(addr: SocketAddr, folder: &Path) -> Result<Command> {
    let path = folder.join("nginx.conf");
    fs::write(&path, config(addr)).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(path).args(["-e", "stderr"]);
    Ok(command)
}

fn config(addr: SocketAddr) -> String {
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ use epoll; worker_connections 18000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {addr} backlog=4096;
        location = /event {{ default_type application/json; return 202 '{ANSWER_BODY}'; }}
    }}
}}
"
    )
}
