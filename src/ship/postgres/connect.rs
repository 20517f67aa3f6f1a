//! One connection to a PostgreSQL server, whose calls end when the shipper is asked to stop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::or;
use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode as ClientSslMode;
use tokio_postgres::{Client, Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::Failure;
use super::tls;
use super::url::{PostgresOptions, SslMode};
use crate::ship::sink::SinkError;

/// A call checks at this interval if it is asked to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// A call that takes longer counts as a lost connection. Longer than every limit that the server has for a
/// usual call, so that it rarely ends a call whose outcome is unknown.
pub(super) const CALL_MAX: Duration = Duration::from_secs(180);
/// The same for erasures and VACUUM.
pub(super) const LONG_CALL_MAX: Duration = Duration::from_secs(4 * 3_600);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// A connection and what is prepared in it.
pub(super) struct Session {
    pub(super) client: Client,
    prepared: RefCell<HashMap<String, Statement>>,
}

impl Session {
    /// Returns a statement, prepared once a connection.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        let known = self.prepared.borrow().get(sql).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Runs calls to one server, on the thread of the caller.
pub(super) struct Caller {
    runtime: Option<Runtime>,
    stop: Arc<AtomicBool>,
}

impl Caller {
    pub(super) fn new(stop: Arc<AtomicBool>) -> std::io::Result<Caller> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Caller { runtime: Some(runtime), stop })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Runs a call until it ends, time is up, or the shipper is asked to stop.
    pub(super) fn run<T>(
        &self,
        time_max: Duration,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let stopped = async {
            while !self.is_stopped() {
                tokio::time::sleep(STOP_CHECK).await;
            }
            Err(Failure::Sink(SinkError::Stopped))
        };
        let late = async {
            tokio::time::sleep(time_max).await;
            let reason = format!("no answer within {} s", time_max.as_secs());
            Err(Failure::Sink(SinkError::Passing(reason)))
        };
        let runtime = self.runtime.as_ref().expect("the runtime is taken only at the end");
        runtime.block_on(or(stopped, or(call, late)))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // A name that is being looked up blocks a thread of the runtime, which a plain drop would wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Connects, and sets what later statements rely on.
pub(super) async fn connect(options: &PostgresOptions) -> Result<Session, Failure> {
    let mut config = Config::new();
    config
        .host(&options.host)
        .port(options.port)
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .keepalives_idle(KEEPALIVE_IDLE)
        .tcp_user_timeout(CALL_MAX);
    if let Some(password) = &options.password {
        config.password(password);
    }
    config.ssl_mode(match options.ssl_mode {
        SslMode::Disable => ClientSslMode::Disable,
        SslMode::Prefer => ClientSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => ClientSslMode::Require,
    });
    let limit = options.connect_timeout;
    let client = match tls::config(options).map_err(Failure::lasting)? {
        Some(tls) => {
            let connecting = config.connect(MakeRustlsConnect::new(tls));
            let (client, connection) = in_time(limit, connecting).await?;
            spawn(connection);
            client
        }
        None => {
            config.ssl_mode(ClientSslMode::Disable);
            let (client, connection) = in_time(limit, config.connect(NoTls)).await?;
            spawn(connection);
            client
        }
    };
    let session = Session { client, prepared: RefCell::default() };
    prepare_session(&session).await?;
    Ok(session)
}

/// The library's limit is for the TCP connection only.
async fn in_time<T>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => Ok(connected?),
        Err(_) => {
            let reason = format!("no connection within {} s", limit.as_secs());
            Err(Failure::Sink(SinkError::Passing(reason)))
        }
    }
}

fn spawn(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
    tokio::spawn(async {
        // Every call reports the end of the connection, too.
        let _ = connection.await;
    });
}

/// The limits of usual calls. A server ends a statement sooner than the shipper loses patience.
pub(super) const USUAL_LIMITS: &str = "SET statement_timeout = '120s'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '120s';";
/// The limits of a transaction that erases.
pub(super) const LONG_LIMITS: &str = "SET LOCAL statement_timeout = '1h'; SET LOCAL lock_timeout = '30s';";
/// VACUUM runs in no transaction.
pub(super) const VACUUM_LIMITS: &str = "SET statement_timeout = '3h'; SET lock_timeout = '5s';";

async fn prepare_session(session: &Session) -> Result<(), Failure> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), \
               current_setting('synchronous_commit'), pg_is_in_recovery()";
    let row = session.client.query_one(sql, &[]).await?;
    let (version, encoding, commit): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
    if encoding != "UTF8" {
        return Err(Failure::lasting(format!("the database has the encoding {encoding}; it must be UTF8")));
    }
    if row.get(3) {
        return Err(Failure::Sink(SinkError::Passing("the server is a standby".to_owned())));
    }
    let mut settings = format!("SET TIME ZONE 'UTC'; SET DateStyle = 'ISO, YMD'; {USUAL_LIMITS}");
    // The server notices during a statement that the shipper is gone.
    if version >= 140_000 {
        settings.push_str(" SET client_connection_check_interval = '5s';");
    }
    // A confirmed place may not be lost in a crash of the server.
    if commit == "off" {
        settings.push_str(" SET synchronous_commit = on;");
    }
    session.client.batch_execute(&settings).await?;
    Ok(())
}
