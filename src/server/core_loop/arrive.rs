//! New connections, from the kernel or from a core that has more connections.

use super::*;

impl CoreLoop {
    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            match epoll::accept(listener) {
                Ok(fd) => self.place(fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The peer left before we accepted it. Another connection may be waiting.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(core = self.parts.core, %error, "accepting pauses for {ACCEPT_PAUSE_MS} ms");
                    self.stop_accepting();
                    self.accept_again_at_ms = self.now_ms() + ACCEPT_PAUSE_MS;
                    return;
                }
            }
        }
    }

    pub(super) fn stop_accepting(&mut self) {
        if self.accepting {
            self.accepting = false;
            if let Some(listener) = &self.listener {
                // We added it ourselves, and nothing can be done about an error here.
                let _ = self.epoll.remove(listener);
            }
        }
    }

    pub(super) fn accept_again(&mut self) {
        if let Some(listener) = &self.listener {
            self.accepting = self.epoll.add_level(listener, KEY_LISTENER).is_ok();
        }
    }

    /// Gives a new connection to the core with the fewest connections.
    pub(super) fn place(&mut self, fd: OwnedFd) {
        self.me.hot.connections_opened.add(1);
        if self.parts.vitals.connections() >= self.limits.connections_max {
            self.turn_away(&fd);
            return;
        }
        let mine = self.me.connections();
        let cores = &self.parts.vitals.cores;
        let fewest = cores.iter().enumerate().min_by_key(|(_, core)| core.connections());
        let chosen = match fewest {
            Some((core, vitals)) if vitals.connections() < mine => core,
            _ => self.parts.core,
        };
        self.parts.vitals.cores[chosen].connection_opened();
        let fd = match &mut self.parts.peers[chosen] {
            None => fd,
            Some(peer) => match peer.send(fd) {
                Ok(()) => return,
                Err(fd) => {
                    // The other core's mailbox is full. Keep the connection, and correct the counts.
                    self.parts.vitals.cores[chosen].connection_closed();
                    self.me.connection_opened();
                    fd
                }
            },
        };
        self.adopt(fd);
    }

    pub(super) fn adopt(&mut self, fd: OwnedFd) {
        let peer = if self.limits.by_address { epoll::peer(&fd) } else { None };
        let key = self.connections.insert(fd, peer, self.now_ms() + self.limits.idle_ms);
        let Some(conn) = self.connections.get(key) else { return };
        if let Err(error) = self.epoll.add_edge(&conn.fd, key.0) {
            tracing::warn!(core = self.parts.core, %error, "a connection could not be watched and is closed");
            self.close(key);
        }
    }

    /// Sends 503 to a connection above the limit, if its socket accepts the bytes at once.
    pub(super) fn turn_away(&mut self, fd: &OwnedFd) {
        let id = self.parts.request_ids.give();
        let limit = self.limits.event_bytes_max as u64;
        let answer = api::error::refusal(Refusal::ConnectionsFull, limit, id, &self.me.hot.problems);
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: 1,
            keep_alive: false,
            head_only: false,
            // The request was not read. It may be an event that a page posts. The page may read this response and try
            // again.
            cors: Cors::Every { has_origin: true },
        };
        self.out.clear();
        write_answer(&mut self.out, &answer, &to);
        // The connection is closed whether or not the bytes were sent.
        let _ = epoll::send(fd.as_raw_fd(), &self.out);
        epoll::shutdown_write(fd);
    }

    /// Handles a wake-up: connections from other cores, or the end of a sync.
    pub(super) fn woken(&mut self) {
        self.parts.wake.clear();
        for from in 0..self.parts.inbox.len() {
            while let Ok(fd) = self.parts.inbox[from].pop() {
                self.adopt(fd);
            }
        }
    }
}
