//! The address of a PostgreSQL server as a URL, with the options of libpq that apply here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// The time limit of a connection attempt, unless the URL contains `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PORT: u16 = 5432;

/// The encryption of the connection, and the checks of the server's certificate. The names are those of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Encrypted if the server offers it. No certificate is checked.
    Prefer,
    /// Encrypted. The certificate is checked only if there is an `sslrootcert`.
    Require,
    /// The certificate must be issued by a known authority.
    VerifyCa,
    /// Its name must be that of the server, too.
    VerifyFull,
}

/// Where the certificates of authorities are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    System,
    File(PathBuf),
}

/// The address of a database, and how to log in. `Debug` and [`PostgresOptions::target`] contain no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// A name, an address, or the folder of a socket, which begins with a slash.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) password: Option<String>,
    pub(super) ssl_mode: SslMode,
    pub(super) root_cert: RootCert,
    pub(super) application_name: String,
    pub(super) connect_timeout: Duration,
    has_password_in_url: bool,
}

/// The reason why a URL is not accepted. The message does not repeat the URL, because it may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL of the target is invalid: {0}")]
pub struct UrlError(String);

impl PostgresOptions {
    /// Parses `postgres://user@host:port/database?sslmode=verify-full`.
    ///
    /// # Errors
    /// The URL is malformed, or contains an option that is unknown here.
    pub fn parse(url: &str) -> Result<PostgresOptions, UrlError> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| wrong("it must begin with postgres://"))?;
        if rest.contains('#') {
            return Err(wrong("a # must be written as %23"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        // Some parsers read everything up to the last @ as user and password, and would connect to another host.
        if rest.contains('@') {
            return Err(wrong("an @ after the host, and a / or ? in a password, must be percent-encoded"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = PostgresOptions {
            host: String::new(),
            port: PORT,
            user: String::new(),
            database: decoded(path.trim_start_matches('/'))?,
            password: None,
            ssl_mode: SslMode::Prefer,
            root_cert: RootCert::System,
            application_name: "firehose ship".to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            has_password_in_url: false,
        };
        options.authority(authority)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("an option must be name=value"))?;
            options.option(name, decoded(value)?)?;
        }
        options.finished()
    }

    fn authority(&mut self, authority: &str) -> Result<(), UrlError> {
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (login, None),
        };
        self.user = decoded(user)?;
        self.has_password_in_url = password.is_some();
        self.password = password;
        if address.contains(',') {
            return Err(wrong("several hosts are not supported"));
        }
        let (host, port) = match address.strip_prefix('[') {
            Some(address) => {
                let (host, port) = address.split_once(']').ok_or_else(|| wrong("a ] is missing"))?;
                (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
            }
            None => match address.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, Some("")),
            },
        };
        self.host = decoded(host)?;
        match port {
            Some("") => Ok(()),
            Some(port) => self.port(port),
            None => Err(wrong("the host is invalid")),
        }
    }

    fn port(&mut self, port: &str) -> Result<(), UrlError> {
        self.port = port.parse().map_err(|_| wrong("the port is not a number"))?;
        Ok(())
    }

    fn option(&mut self, name: &str, value: String) -> Result<(), UrlError> {
        match name {
            "host" => self.host = value,
            "port" => self.port(&value)?,
            "user" => self.user = value,
            "dbname" => self.database = value,
            "password" => {
                self.has_password_in_url = true;
                self.password = Some(value);
            }
            "application_name" => self.application_name = value,
            "connect_timeout" => {
                let seconds =
                    value.parse().map_err(|_| wrong("connect_timeout is not a number of seconds"))?;
                self.connect_timeout = Duration::from_secs(std::cmp::max(seconds, 1));
            }
            "sslrootcert" if value == "system" => self.root_cert = RootCert::System,
            "sslrootcert" => self.root_cert = RootCert::File(PathBuf::from(value)),
            "sslmode" => {
                self.ssl_mode = match value.as_str() {
                    "disable" => SslMode::Disable,
                    "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return Err(wrong(
                            "sslmode must be disable, prefer, require, verify-ca or verify-full",
                        ));
                    }
                }
            }
            // A mistyped name could be the beginning of a password, so only names of libpq are repeated.
            name if KNOWN_ELSEWHERE.contains(&name) => {
                return Err(wrong(&format!("the option {name} is not supported")));
            }
            _ => return Err(wrong("it contains an unknown option")),
        }
        Ok(())
    }

    fn finished(mut self) -> Result<PostgresOptions, UrlError> {
        if self.host.is_empty() {
            return Err(wrong("it contains no host"));
        }
        if self.user.is_empty() {
            return Err(wrong("it contains no user"));
        }
        if self.database.is_empty() {
            self.database.clone_from(&self.user);
        }
        // As in libpq, a certificate that was given is used.
        if self.ssl_mode == SslMode::Require && self.root_cert != RootCert::System {
            self.ssl_mode = SslMode::VerifyCa;
        }
        Ok(self)
    }

    /// Sets the password, which replaces one in the URL.
    #[must_use]
    pub fn with_password(mut self, password: String) -> PostgresOptions {
        self.password = Some(password);
        self
    }

    /// Returns `true` if the URL contains a password. As an argument, such a URL is visible in the list of processes.
    #[must_use]
    pub fn has_password_in_url(&self) -> bool {
        self.has_password_in_url
    }

    /// Returns the name of the target for messages: `postgres://user@host:port/database`.
    #[must_use]
    pub fn target(&self) -> String {
        let PostgresOptions { host, port, user, database, .. } = self;
        match host.contains(':') {
            true => format!("postgres://{user}@[{host}]:{port}/{database}"),
            false => format!("postgres://{user}@{host}:{port}/{database}"),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("target", &self.target())
            .field("ssl_mode", &self.ssl_mode)
            .field("root_cert", &self.root_cert)
            .finish_non_exhaustive()
    }
}

/// Options of libpq that are unknown here.
const KNOWN_ELSEWHERE: &[&str] = &[
    "channel_binding",
    "client_encoding",
    "gssencmode",
    "hostaddr",
    "keepalives",
    "load_balance_hosts",
    "options",
    "passfile",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslpassword",
    "target_session_attrs",
    "tcp_user_timeout",
];

fn wrong(reason: &str) -> UrlError {
    UrlError(reason.to_owned())
}

fn decoded(text: &str) -> Result<String, UrlError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| wrong("it is not UTF-8"))?;
    match text.contains('\0') {
        true => Err(wrong("it contains a zero byte")),
        false => Ok(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        let read = |url: &str| PostgresOptions::parse(url).expect(url);
        let all = read(
            "postgresql://ann%40x:p%2Fw@db.example:6543/shop?sslmode=verify-full&application_name=a%20b\
             &sslrootcert=/etc/ca.pem&connect_timeout=3",
        );
        assert_eq!((all.host.as_str(), all.port, all.user.as_str()), ("db.example", 6543, "ann@x"));
        assert_eq!((all.database.as_str(), all.password.as_deref()), ("shop", Some("p/w")));
        assert_eq!((all.ssl_mode, all.application_name.as_str()), (SslMode::VerifyFull, "a b"));
        assert_eq!(all.root_cert, RootCert::File(PathBuf::from("/etc/ca.pem")));
        assert_eq!(all.connect_timeout, Duration::from_secs(3));
        assert_eq!(all.target(), "postgres://ann@x@db.example:6543/shop");

        let few = read("postgres://ann@db");
        assert_eq!((few.port, few.database.as_str(), few.ssl_mode), (5432, "ann", SslMode::Prefer));
        assert_eq!(read("postgres://ann@[::1]:7/x").target(), "postgres://ann@[::1]:7/x");
        assert_eq!(read("postgres://ann@[::1]/x").port, 5432);
        assert_eq!(read("postgres:///x?host=/run/pg&user=ann").host, "/run/pg");
        assert_eq!(read("postgres://ann@%2Frun%2Fpg/x").host, "/run/pg");
        assert_eq!(read("postgres://a@b/x?sslmode=require&sslrootcert=/c").ssl_mode, SslMode::VerifyCa);
    }

    #[test]
    fn a_password_with_an_at_sign_never_changes_the_host() {
        for url in [
            "postgres://db/shop?sslmode=require&user=ann&password=p@ss",
            "postgres://ann:p/w@db/shop",
            "postgres://ann:p?w@db/shop",
        ] {
            let error = PostgresOptions::parse(url).expect_err(url).to_string();
            assert!(error.contains("percent-encoded") && !error.contains("db"), "{error}");
        }
    }

    #[test]
    fn a_password_is_in_no_message() {
        let options = PostgresOptions::parse("postgres://ann:geheim@db/x").expect("a URL");
        assert!(options.has_password_in_url());
        let options = options.with_password("secret".to_owned());
        assert!(!format!("{options:?} {}", options.target()).contains("secret"));
        for url in [
            "postgres://ann:geheim@db:port/x",
            "postgres://ann:geheim@db/x?sslmode=geheim",
            "postgres://ann:geheim#@db/x",
            "postgres://ann@db/x?geheim=1",
            "postgres://ann:geheim@a,b/x",
            "http://ann:geheim@db/x",
            "postgres://:geheim@db/x",
        ] {
            let error = PostgresOptions::parse(url).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("geheim"), "{error}");
        }
    }
}
