//! Load driver for firehose: scenarios that start the server and its peers, load them and judge the result.

mod closed;
mod cpu;
mod epoll;
mod http;
mod load;
mod orders;
mod peer;
mod perf;
mod process;
mod report;
mod run;
mod scenario;
mod setup;
mod wrk;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use firehose::cores::executor::Runtime;

use crate::report::Report;
use crate::setup::Setup;

/// Measures firehose against its peers. Exits with 0 if every bar is met, and with 1 if one is missed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// CPU per event, throughput and latency against a bare epoll loop, may_minihttp and nginx.
    Accept(Setup),
    /// The same event through the event loop, hyper on glommio and hyper on tokio.
    FrontEnds(Setup),
    /// Events per second into SQLite, the queue during the load, and the time to drain it.
    Store(Setup),
    /// The same as `store`, against FastAPI + deque + aiosqlite.
    Seed(Setup),
    /// --ack os against --ack disk at 1, 64 and 256 connections.
    Ack(Setup),
    /// All shards locked from outside for five seconds while events keep arriving.
    Outage(Setup),
    /// 10,000 idle connections and 500 slow heads next to a normal load.
    Connections(Setup),
    /// Work per event on one core against two, and on eight shards.
    Scale(Setup),
    /// The shard's batches against a bare rusqlite insert loop, in-process.
    Writer(Setup),
    /// POST /events/bulk against FastAPI + SQLAlchemy: rows committed per second, latency.
    Bulk(Setup),
    /// 100,000 rows of eight shards as one stream while the server writes, against the sqlite3 shell.
    Merge(Setup),
    /// Idempotent inserts by the writer alone, at 1, 5 and 10 million UUIDs in the shard.
    Idempotent(Setup),
    /// The cost per row of keeping buckets.
    Buckets(Setup),
    /// 1 M orders as NDJSON in chunks of 50,000, against Django + DRF and a bare insert loop.
    IngestOrders(Setup),
    /// The in-process part of `ingest-orders`, which needs no peer.
    OrdersLoop(Setup),
    /// One order per ingest, each with its own key, with both acks.
    SingleOrders(Setup),
    /// A tenant's 100,000 orders as one stream, against the sqlite3 shell.
    Search(Setup),
    /// Memory under four concurrent searches, ingests and sales queries.
    CommerceMemory(Setup),
    /// A tenant's latency next to another tenant that sends a hundred times its limit.
    Neighbours(Setup),
    /// Sales of 10 M order items, exact and approximate, against DuckDB and the sqlite3 shell.
    Sales(Setup),
    /// Stock updates by 16 clients, of 20 products and of 100,000, against a bare transaction loop.
    Stock(Setup),
    /// Latency of requests that wait for their commit, with checkpoints, without them, and of another build.
    Commits(Setup),
    /// Minutes of `POST /events`, and the periods in which a response took over 100 ms.
    Stalls(Setup),
    /// Price events per second, each answered after it is committed and compared.
    Prices(Setup),
    /// 5,000 readers of a stream of price changes: memory, and the time until an anomaly has reached all of them.
    Sse(Setup),
    /// 10 M order items as CSV and Parquet, against DuckDB's COPY and the sqlite3 shell.
    Export(Setup),
    /// 1 M clicks and events to PostgreSQL, against psql's COPY of the same rows; the listener's cost, and freshness.
    Ship(Setup),
    /// Flame graphs of one build: commits, exact and approximate sales, orders, exports.
    Flames(scenario::Flames),
    #[command(hide = true)]
    PeerEpoll {
        #[arg(long)]
        listen: SocketAddr,
        /// Level-triggered instead of edge-triggered.
        #[arg(long)]
        level: bool,
    },
    #[command(hide = true)]
    PeerHyper {
        #[arg(long)]
        listen: SocketAddr,
        /// On glommio instead of on tokio.
        #[arg(long)]
        glommio: bool,
    },
    #[command(hide = true)]
    PeerMay {
        #[arg(long)]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().scenario {
        Scenario::Accept(setup) => measure(setup, scenario::accept),
        Scenario::FrontEnds(setup) => measure(setup, scenario::front_ends),
        Scenario::Store(setup) => measure(setup, scenario::store),
        Scenario::Seed(setup) => measure(setup, scenario::seed),
        Scenario::Ack(setup) => measure(setup, scenario::ack),
        Scenario::Outage(setup) => measure(setup, scenario::outage),
        Scenario::Connections(setup) => measure(setup, scenario::connections),
        Scenario::Scale(setup) => measure(setup, scenario::scale),
        Scenario::Writer(setup) => measure(setup, scenario::writer),
        Scenario::Bulk(setup) => measure(setup, scenario::bulk),
        Scenario::Merge(setup) => measure(setup, scenario::merge),
        Scenario::Idempotent(setup) => measure(setup, scenario::idempotent),
        Scenario::Buckets(setup) => measure(setup, scenario::buckets),
        Scenario::IngestOrders(setup) => measure(setup, scenario::ingest_orders),
        Scenario::OrdersLoop(setup) => measure(setup, scenario::orders_loop),
        Scenario::SingleOrders(setup) => measure(setup, scenario::single_orders),
        Scenario::Search(setup) => measure(setup, scenario::search),
        Scenario::Sales(setup) => measure(setup, scenario::sales),
        Scenario::Export(setup) => measure(setup, scenario::export),
        Scenario::Ship(setup) => measure(setup, scenario::ship),
        Scenario::CommerceMemory(setup) => measure(setup, scenario::commerce_memory),
        Scenario::Stock(setup) => measure(setup, scenario::stock),
        Scenario::Neighbours(setup) => measure(setup, scenario::neighbours),
        Scenario::Commits(setup) => measure(setup, scenario::commits),
        Scenario::Stalls(setup) => measure(setup, scenario::stalls),
        Scenario::Prices(setup) => measure(setup, scenario::prices),
        Scenario::Sse(setup) => measure(setup, scenario::sse),
        Scenario::Flames(mut flames) => prepare(&mut flames.setup).and_then(|()| scenario::flames(&flames)),
        Scenario::PeerEpoll { listen, level } => peer::serve_epoll(listen, level).map(|()| true),
        Scenario::PeerHyper { listen, glommio } => {
            let runtime = if glommio { Runtime::IoUring } else { Runtime::Epoll };
            peer::own_cpu().and_then(|cpu| peer::serve_hyper(listen, runtime, cpu)).map(|()| true)
        }
        Scenario::PeerMay { listen } => peer::serve_may(listen).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs one scenario and reports it.
fn measure(mut setup: Setup, scenario: fn(&Setup) -> Result<Report>) -> Result<bool> {
    prepare(&mut setup)?;
    scenario(&setup)?.finish(&setup)
}

/// Checks the settings, and pins the driver to the cores of the load.
fn prepare(setup: &mut Setup) -> Result<()> {
    process::watch_interrupts()?;
    process::raise_file_limit()?;
    wrk::check()?;
    setup.check()?;
    process::pin_here(&setup.load_cores)
}
