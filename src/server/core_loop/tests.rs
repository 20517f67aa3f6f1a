//! Responses that wait for the disk, in a tick that commits more than once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use super::*;
use crate::config::Config;
use crate::cores::executor::Runtime;
use crate::cores::stop::Stop;
use crate::journal::Syncer;
use crate::server::open::{self, Opened};
use crate::tenants::Keeper;

/// A lane without a thread, one connection, and the syncer of its journal.
struct Rig {
    _folder: tempfile::TempDir,
    _opened: Opened,
    _sync_asked: async_channel::Receiver<()>,
    lane: CoreLoop,
    syncer: Syncer,
    peer: TcpStream,
    key: Key,
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data: folder.path().join("data"), ..Config::defaults() };
    let keeper = Keeper::open(&config.data, 1, clock::unix_us()).unwrap();
    let mut opened = open::open(&config, 1).unwrap();
    let hot = std::mem::take(&mut opened.lanes[0].hot);
    let syncer = Syncer::new(hot[0].1.state().clone());
    let intake = Intake::new(opened.board.clone(), hot, 1 << 16, 1 << 30);
    let vitals = Arc::new(Vitals {
        routes: ENDPOINTS.routes(),
        board: opened.board.clone(),
        cores: vec![Arc::new(CoreVitals::new(0))],
        exports: Default::default(),
        queries: Default::default(),
        stop: Arc::new(Stop::default()),
        runtime: Runtime::Epoll,
        started_us: 0,
        started_monotonic_us: 0,
        config,
    });
    let (sync_wanted, sync_asked) = async_channel::bounded(1);
    let parts = Parts {
        core: 0,
        vitals,
        wake: Arc::new(Wake::new().unwrap()),
        intake,
        request_ids: RequestIds::new(crate::base::ids::CoreId(0), false),
        desk: Desk::new(keeper.registry()),
        inbox: Vec::new(),
        peers: vec![None],
        executor: async_channel::bounded(1).0,
        sync_wanted,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let mut lane = CoreLoop::new(parts, listener).unwrap();
    lane.read_clock();
    lane.parts.intake.begin(lane.now_us);
    lane.place(accepted.into());
    let key = lane.connections.keys()[0];
    Rig { _folder: folder, _opened: opened, _sync_asked: sync_asked, lane, syncer, peer, key }
}

fn event(level: &str) -> String {
    let body = r#"{"user_id":1,"timestamp":"2024-01-14T10:30:00Z","metadata":{}}"#;
    format!("POST /event?ack={level} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Rig {
    fn send(&mut self, bytes: &str) {
        self.peer.write_all(bytes.as_bytes()).unwrap();
    }

    fn finish_tick(&mut self) {
        self.lane.finish_tick();
        self.lane.parts.intake.begin(self.lane.now_us);
    }

    /// Sends two requests. The second request is read in the tick in which the response to the first is owed. With
    /// `commits_between`, the tick is committed before the second request is parsed, as if other requests had filled
    /// the tick.
    fn send_two(&mut self, second: &str, commits_between: bool) -> Option<crate::journal::SyncPlan> {
        let first = event("disk");
        let (head, rest) = first.split_at(20);
        self.send(head);
        self.lane.readable(self.key);
        self.lane.parse_reads();
        self.send(rest);
        self.lane.read_again(self.key);
        assert_eq!(self.lane.owed.len(), 1, "the first is owed its answer");
        self.send(&event(second));
        let ready = epoll::Ready { key: self.key.0, readable: true, writable: false, hung_up: false };
        self.lane.touched(self.key, ready);
        let mut plan = None;
        if commits_between {
            self.finish_tick();
            plan = self.syncer.plan().unwrap();
        }
        self.lane.parse_reads();
        self.finish_tick();
        plan
    }

    /// Runs the remaining work in another tick.
    fn go_on(&mut self) {
        self.lane.release_held();
        for key in std::mem::take(&mut self.lane.again) {
            self.lane.read_again(key);
        }
        self.lane.parse_reads();
        self.finish_tick();
    }

    /// Returns what the peer received so far: the status and the promise of each response.
    fn answers(&mut self) -> Vec<String> {
        self.peer.set_nonblocking(true).unwrap();
        let (mut bytes, mut read) = (Vec::new(), [0; 4096]);
        loop {
            match self.peer.read(&mut read) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&read[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        let answers = text.split("HTTP/1.1 ").skip(1).map(|answer| {
            let level = answer.lines().find_map(|line| line.strip_prefix("Firehose-Ack: "));
            format!("{} {}", &answer[..3], level.unwrap_or_default())
        });
        answers.collect()
    }
}

#[test]
fn a_promise_of_the_disk_waits_for_its_sync_whatever_else_its_connection_sends() {
    for second in ["os", "disk"] {
        let mut rig = rig();
        let plan = rig.send_two(second, true).unwrap();
        assert_eq!(rig.answers(), [""; 0], "{second}: nothing is on disk");
        rig.syncer.done(plan);
        rig.lane.release_held();
        assert_eq!(rig.answers(), ["202 disk"], "{second}: the second has not been appended");
        rig.go_on();
        rig.syncer.sync().unwrap();
        rig.go_on();
        assert_eq!(rig.answers(), [format!("202 {second}")]);
    }
}

#[test]
fn a_failed_sync_takes_back_each_promise_of_a_connection_once() {
    for commits_between in [false, true] {
        let mut rig = rig();
        let plan = rig.send_two("disk", commits_between);
        let plan = plan.or_else(|| rig.syncer.plan().unwrap()).unwrap();
        rig.syncer.failed(plan);
        rig.go_on();
        rig.go_on();
        assert_eq!(rig.answers(), ["503 ", "503 "]);
        assert_eq!(rig.lane.latency.histogram.len(), 0, "none was accepted");
    }
}
