//! Third-party clients, as their registries publish them. Each uploads a file while the server is killed and started
//! again.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use super::{Packing, UPLOADS, Upload, check_stored, orders, serve};
use crate::support::{Folder, skip, wait_until};

/// A port that remains the same while the servers behind it change. It counts the bytes towards the server.
#[derive(Clone)]
struct Way {
    here: SocketAddr,
    there: Arc<AtomicU16>,
    bytes: Arc<AtomicU64>,
}

impl Way {
    fn open() -> Way {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let here = listener.local_addr().expect("an address");
        let way = Way { here, there: Arc::default(), bytes: Arc::default() };
        let taken = way.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let port = taken.there.load(Ordering::SeqCst);
                // There is no server: the client sees its connection close.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let (back, forth) =
                    (server.try_clone().expect("a copy"), client.try_clone().expect("a copy"));
                let counted = taken.bytes.clone();
                std::thread::spawn(move || pump(client, server, &counted));
                std::thread::spawn(move || pump(back, forth, &AtomicU64::new(0)));
            }
        });
        way
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, bytes: &AtomicU64) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        bytes.fetch_add(count as u64, Ordering::SeqCst);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Returns the folder in which the clients are installed once.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tus-clients")
}

/// Runs a step of an installation. If it fails, skips the test with a message and returns `false`.
fn is_done(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        refused => {
            skip(&format!("{command:?}: {refused:?}"));
            false
        }
    }
}

/// Uploads with this command through a kill of the server. The command gets the endpoint and the file.
fn through_a_kill(command: &mut Command, packing: Packing, is_in_pieces: bool) {
    const ORDERS: usize = 8_000;
    let (folder, (lines, expected)) = (Folder::new(), orders(ORDERS));
    let body = packing.pack(&lines);
    let file = folder.beside("orders");
    std::fs::write(&file, &body).expect("the file is written");
    let way = Way::open();
    let mut server = serve(&folder, &[]);
    way.there.store(server.address.port(), Ordering::SeqCst);
    command.arg(format!("http://{}{UPLOADS}", way.here)).arg(&file);
    let said = folder.beside("said");
    let output = std::fs::File::create(&said).expect("a file");
    let errors = output.try_clone().expect("a copy");
    let mut client = command.stdout(output).stderr(errors).spawn().expect("the client starts");
    let heard = || std::fs::read_to_string(&said).unwrap_or_default();
    wait_until("half of the file to be sent", || {
        let is_over = client.try_wait().expect("it can be asked").is_some();
        assert!(!is_over, "the client ended too early: {}", heard());
        way.bytes.load(Ordering::SeqCst) > body.len() as u64 / 2
    });
    server.kill();
    server = serve(&folder, &[]);
    way.there.store(server.address.port(), Ordering::SeqCst);
    wait_until("the client to end", || client.try_wait().expect("it can be asked").is_some());
    let status = client.wait().expect("it has ended");
    assert!(status.success(), "{status}: {}", heard());
    let sent = way.bytes.load(Ordering::SeqCst);
    // If a single piece was cut, no offset has been reported yet, and bytes that no checkpoint covers are sent again.
    let went_on = !is_in_pieces || sent < body.len() as u64 * 2;
    assert!(went_on, "it went on, and did not begin again: {sent} of {}", body.len());
    let said = heard();
    let url = said.lines().last().expect("it says where");
    let path =
        url.find(UPLOADS).map(|at| url[at..].to_owned()).unwrap_or_else(|| panic!("no upload in {said}"));
    expected.check(&Upload { path }.summary(&server), body.len());
    server.stop();
    check_stored(&folder.data(), ORDERS);
}

/// tuspy, <https://pypi.org/project/tuspy/>.
const TUSPY: &str = r#"
import sys
from tusclient import client
tus = client.TusClient(sys.argv[2])
uploader = tus.uploader(sys.argv[3], chunk_size=200_000, retries=60, retry_delay=1,
                        metadata={"filename": "orders.ndjson"}, upload_checksum=sys.argv[1] == "checksum")
uploader.upload()
print(uploader.url)
"#;

#[test]
fn tuspy_goes_on_after_a_kill() {
    let home = clients().join("python");
    let python = home.join("bin/python");
    if !python.exists() {
        let is_made = is_done(Command::new("python3").args(["-m", "venv"]).arg(&home));
        if !is_made {
            return;
        }
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "tuspy>=1.1"]);
    // This check reports nothing. The package is installed if it is missing.
    let is_there = Command::new(&python).args(["-c", "import tusclient"]).output();
    if !is_there.is_ok_and(|output| output.status.success()) && !is_done(&mut pip) {
        return;
    }
    for (words, packing) in [("plain", Packing::Plain), ("checksum", Packing::Gzip)] {
        through_a_kill(Command::new(&python).args(["-c", TUSPY, words]), packing, true);
    }
}

/// tus-js-client, <https://www.npmjs.com/package/tus-js-client>.
const TUS_JS: &str = r#"
import { createReadStream, statSync } from "node:fs";
import { Upload } from "tus-js-client";
const [how, endpoint, file] = process.argv.slice(2);
const upload = new Upload(createReadStream(file), {
  endpoint,
  chunkSize: how === "pieces" ? 150_000 : 64_000_000,
  uploadSize: statSync(file).size,
  uploadDataDuringCreation: how === "pieces",
  retryDelays: Array(60).fill(500),
  metadata: { filename: "orders.ndjson" },
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: () => { console.log(upload.url); process.exit(0); },
});
upload.start();
"#;

#[test]
fn tus_js_client_goes_on_after_a_kill() {
    let home = clients().join("node");
    std::fs::create_dir_all(&home).expect("a folder");
    if !home.join("node_modules/tus-js-client").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(&home)
            .arg("tus-js-client@4");
        if !is_done(&mut npm) {
            return;
        }
    }
    let script = home.join("upload.mjs");
    std::fs::write(&script, TUS_JS).expect("the script is written");
    for (how, packing) in [("whole", Packing::Plain), ("pieces", Packing::Zstd)] {
        through_a_kill(Command::new("node").arg(&script).arg(how), packing, how == "pieces");
    }
}
