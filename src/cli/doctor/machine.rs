//! Checks of the kernel, the limits, the CPUs, the ports and the clock.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::Finding;
use crate::base::clock as time;
use crate::config::{Config, RuntimeChoice};
use crate::cores::pin;
use crate::cores::preflight::{self, FILES_ASIDE, Limit, MEMLOCK_BYTES_MIN};

/// A smaller backlog overflows when all clients of a restarted server reconnect at once.
const BACKLOG_MIN: u64 = 1024;

/// A clock that takes longer to read is reported. Reading it takes about 25 ns in user space, and 300 or more in the
/// kernel.
const CLOCK_NS_MAX: u64 = 200;

/// 2024-01-01. An earlier time means that the clock is not set.
const CLOCK_US_MIN: i64 = 1_704_067_200_000_000;
/// 2100-01-01. A later time means that the clock is wrong.
const CLOCK_US_MAX: i64 = 4_102_444_800_000_000;

pub(super) fn io_uring(config: &Config) -> Finding {
    const CHECK: &str = "io_uring";
    match (preflight::io_uring(), config.runtime) {
        (Ok(()), _) => Finding::ok(CHECK, "available, with all required operations"),
        (Err(refused), RuntimeChoice::IoUring) => Finding::fail(CHECK, refused.reason, refused.remedy),
        (Err(refused), RuntimeChoice::Epoll) => {
            Finding::ok(CHECK, format!("{}; the settings ask for epoll", refused.reason))
        }
        (Err(refused), RuntimeChoice::Auto) => {
            Finding::warn(CHECK, format!("{}; the server uses epoll instead", refused.reason), refused.remedy)
        }
    }
}

pub(super) fn memlock() -> Finding {
    const CHECK: &str = "memlock";
    const REMEDY: &str = "LimitMEMLOCK=8M in a systemd unit, --ulimit memlock=8388608 for a container";
    match preflight::memlock() {
        Err(error) => Finding::fail(CHECK, format!("cannot be read: {error}"), "allow getrlimit"),
        Ok(limit) if limit.hard < MEMLOCK_BYTES_MIN => {
            Finding::warn(CHECK, format!("{}; io_uring requires {MEMLOCK_BYTES_MIN}", shown(limit)), REMEDY)
        }
        Ok(limit) => Finding::ok(CHECK, format!("{} bytes; the server raises soft to hard", shown(limit))),
    }
}

pub(super) fn open_files(config: &Config) -> Finding {
    const CHECK: &str = "open_files";
    let needed = config.connections_max + FILES_ASIDE;
    match preflight::nofile() {
        Err(error) => Finding::fail(CHECK, format!("cannot be read: {error}"), "allow getrlimit"),
        Ok(limit) if limit.hard < needed => Finding::warn(
            CHECK,
            format!(
                "{}; enough for {} connections, the settings allow {}",
                shown(limit),
                preflight::connection_room(Limit { soft: limit.hard, ..limit }),
                config.connections_max
            ),
            format!(
                "LimitNOFILE={needed} in a systemd unit, --ulimit nofile={needed} for a container, or a lower --connections-max"
            ),
        ),
        Ok(limit) => Finding::ok(CHECK, format!("{}; the server raises soft to hard", shown(limit))),
    }
}

fn shown(limit: Limit) -> String {
    let word = |value: u64| if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    format!("soft {}, hard {}", word(limit.soft), word(limit.hard))
}

pub(super) fn cpus(config: &Config) -> Finding {
    const CHECK: &str = "cpus";
    let allowed = pin::allowed();
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let found = format!("may run on CPUs {allowed:?} of {} online", online.trim());
    let wanted = config.cores.as_ref().map(|cores| cores.cpus()).unwrap_or_default();
    let missing: Vec<_> = wanted.iter().filter(|cpu| !allowed.contains(cpu)).collect();
    if allowed.is_empty() {
        Finding::fail(CHECK, "the affinity mask cannot be read", "allow sched_getaffinity")
    } else if !missing.is_empty() {
        let remedy = "choose --cores from those, or widen the affinity mask or cpuset";
        Finding::fail(CHECK, format!("{found}; the settings require {missing:?}"), remedy)
    } else {
        Finding::ok(CHECK, found)
    }
}

pub(super) fn cpu_quota() -> Finding {
    const CHECK: &str = "cpu_quota";
    let Some(quota) = pin::cpu_quota() else {
        return Finding::ok(CHECK, "no cgroup (v2) limits the CPU time");
    };
    let cpus = pin::allowed().len();
    let found = format!("CPU time of {quota:.2} CPUs on {cpus} CPUs (cgroup cpu.max)");
    if quota + 0.01 < cpus as f64 {
        let remedy = format!(
            "a throttled core responds late: serve on {} (--cores), or raise the CPU limit",
            (quota as usize).max(1)
        );
        Finding::warn(CHECK, found, remedy)
    } else {
        Finding::ok(CHECK, found)
    }
}

pub(super) fn reuse_port() -> Finding {
    const CHECK: &str = "reuse_port";
    let bind = |address: SocketAddr| -> std::io::Result<(Socket, SocketAddr)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((socket, bound))
    };
    let both = bind((Ipv4Addr::LOCALHOST, 0).into())
        .and_then(|(first, address)| bind(address).map(|second| (first, second)));
    match both {
        Ok(_) => Finding::ok(CHECK, "two sockets can listen on one port"),
        Err(error) => Finding::fail(
            CHECK,
            format!("two sockets cannot listen on one port: {error}"),
            "run a kernel with SO_REUSEPORT (Linux 3.9) outside a sandbox that hides it",
        ),
    }
}

/// Checks that the addresses are free. They are in use while a server is running.
pub(super) fn ports(config: &Config) -> Finding {
    const CHECK: &str = "ports";
    let addresses = [Some(config.listen), config.ops_listen].into_iter().flatten();
    for address in addresses.clone() {
        if let Err(error) = std::net::TcpListener::bind(address) {
            return Finding::fail(
                CHECK,
                format!("{address} cannot be bound: {error}"),
                "stop the program that listens there (possibly a running server), or use another address",
            );
        }
    }
    let all: Vec<String> = addresses.map(|address| address.to_string()).collect();
    Finding::ok(CHECK, format!("free: {}", all.join(", ")))
}

pub(super) fn accept_backlog() -> Finding {
    const CHECK: &str = "accept_backlog";
    let path = "/proc/sys/net/core/somaxconn";
    match fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        None => Finding::ok(CHECK, format!("{path} is not readable")),
        Some(most) if most < BACKLOG_MIN => Finding::warn(
            CHECK,
            format!("at most {most} connections wait to be accepted"),
            format!("sysctl net.core.somaxconn={}", 4 * BACKLOG_MIN),
        ),
        Some(most) => Finding::ok(CHECK, format!("{most} connections may wait to be accepted")),
    }
}

pub(super) fn clock() -> Finding {
    const CHECK: &str = "clock";
    let now_us = time::unix_us();
    let readings = 1000;
    let start_us = time::monotonic_us();
    for _ in 0..readings {
        std::hint::black_box(time::monotonic_us());
    }
    let cost_ns = (time::monotonic_us() - start_us) * 1000 / readings;
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.map_or_else(|_| "unknown".to_owned(), |source| source.trim().to_owned());
    let found = format!("{} UTC, source {source}, {cost_ns} ns a reading", time::rfc3339(now_us));
    if !(CLOCK_US_MIN..CLOCK_US_MAX).contains(&now_us) {
        Finding::fail(CHECK, found, "set the machine's clock (NTP)")
    } else if cost_ns > CLOCK_NS_MAX {
        Finding::warn(CHECK, found, "use a clock source that needs no system call (tsc, kvm-clock)")
    } else {
        Finding::ok(CHECK, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Verdict;

    #[test]
    fn cpus_that_are_not_ours_fail() {
        let config = Config { cores: Some("1023".parse().unwrap()), ..Config::defaults() };
        let finding = cpus(&config);
        assert!(finding.verdict == Verdict::Fail && finding.found.contains("1023"), "{finding:?}");
        assert_eq!(cpus(&Config::defaults()).verdict, Verdict::Ok);
    }

    #[test]
    fn more_connections_than_descriptors_are_warned_of() {
        let hard = preflight::nofile().unwrap().hard;
        if hard < u64::MAX - FILES_ASIDE {
            let config = Config { connections_max: hard, ..Config::defaults() };
            assert_eq!(open_files(&config).verdict, Verdict::Warn);
        }
        let config = Config { connections_max: 1, ..Config::defaults() };
        assert_eq!(open_files(&config).verdict == Verdict::Ok, hard > FILES_ASIDE);
    }
}
