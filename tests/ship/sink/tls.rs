//! TLS to a server with a certificate of an authority that is made for the test.

use std::fs;
use std::path::Path;
use std::process::Command;

use firehose::base::ids::ShardId;
use firehose::ship::postgres::{PostgresOptions, PostgresSink};
use firehose::ship::sink::{Sink as _, SinkError};

use super::rows::FOLDER;
use crate::postgres::Postgres;
use crate::support::skip;

fn openssl(arguments: &[&str], folder: &Path) -> bool {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    output.is_ok_and(|output| output.status.success())
}

fn connected(url: &str) -> Result<(), SinkError> {
    let options = PostgresOptions::parse(url).expect("a URL");
    let sink = PostgresSink::new(options, FOLDER.to_owned(), ShardId(0), Default::default());
    sink.expect("a sink").known(&[]).map(drop)
}

#[test]
fn sink_verify_full_accepts_the_right_name_of_a_known_authority_only() {
    let Some(mut postgres) = Postgres::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::write(path.join("names"), "subjectAltName=DNS:localhost\n").expect("a file");
    let authority = |name: &str| {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        openssl(
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "9",
                "-subj",
                "/CN=test authority",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
            path,
        )
    };
    let made = authority("ca")
        && authority("other")
        && openssl(
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                "/CN=localhost",
                "-keyout",
                "server.key",
                "-out",
                "server.csr",
            ],
            path,
        )
        && openssl(
            &[
                "x509",
                "-req",
                "-in",
                "server.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "9",
                "-extfile",
                "names",
                "-out",
                "server.crt",
            ],
            path,
        );
    if !made {
        skip("openssl does not make certificates");
        return;
    }
    for name in ["server.key", "server.crt"] {
        fs::copy(path.join(name), postgres.beside(name)).expect("a copy");
        postgres.give(&postgres.beside(name), 0o600);
    }
    let [key, certificate] =
        ["server.key", "server.crt"].map(|name| postgres.beside(name).display().to_string());
    postgres.listen();
    let port = postgres.port;
    let url = |host: &str, options: &str| format!("postgres://postgres@{host}:{port}/postgres?{options}");
    let trusted = format!("sslmode=verify-full&sslrootcert={}", path.join("ca.crt").display());

    // A server without TLS.
    let plain = connected(&url("localhost", &trusted));
    assert!(matches!(plain, Err(SinkError::Lasting(_))), "{plain:?}");
    connected(&url("localhost", "sslmode=prefer")).expect("prefer accepts it");

    postgres.set(&["ssl=on", &format!("ssl_key_file={key}"), &format!("ssl_cert_file={certificate}")]);
    // Only encrypted connections are accepted.
    fs::write(postgres.data().join("pg_hba.conf"), "local all all trust\nhostssl all all all trust\n")
        .expect("rules");
    postgres.ask("SELECT pg_reload_conf()");
    connected(&url("localhost", &trusted)).expect("the name and the authority are right");
    let wrong = connected(&url("127.0.0.1", &trusted));
    assert!(matches!(&wrong, Err(SinkError::Lasting(reason)) if reason.contains("certificate")), "{wrong:?}");
    let other = format!("sslrootcert={}", path.join("other.crt").display());
    for mode in ["verify-full", "verify-ca", "require"] {
        let unknown = connected(&url("localhost", &format!("sslmode={mode}&{other}")));
        assert!(matches!(unknown, Err(SinkError::Lasting(_))), "{mode}: {unknown:?}");
    }
    connected(&url("127.0.0.1", &trusted.replace("verify-full", "verify-ca")))
        .expect("verify-ca ignores the name");
    connected(&url("127.0.0.1", "sslmode=require")).expect("require accepts any certificate");
    connected(&url("127.0.0.1", "sslmode=prefer")).expect("prefer accepts any certificate");
    assert!(connected(&url("127.0.0.1", "sslmode=disable")).is_err());
    let missing = connected(&url("localhost", "sslmode=verify-full&sslrootcert=/nowhere/ca.crt"));
    assert!(
        matches!(&missing, Err(SinkError::Lasting(reason)) if reason.contains("/nowhere")),
        "{missing:?}"
    );
}

#[test]
fn sink_a_password_is_sent_and_is_in_no_error() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.ask("CREATE ROLE ann LOGIN SUPERUSER PASSWORD 'right'");
    fs::write(postgres.data().join("pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\n")
        .expect("rules");
    postgres.ask("SELECT pg_reload_conf()");
    let url = postgres.url().replace("user=postgres", "user=ann");
    let attempt = |password: Option<&str>| {
        let mut options = PostgresOptions::parse(&url).expect("a URL");
        if let Some(password) = password {
            options = options.with_password(password.to_owned());
        }
        let sink = PostgresSink::new(options, FOLDER.to_owned(), ShardId(0), Default::default());
        sink.expect("a sink").known(&[]).map(drop)
    };
    attempt(Some("right")).expect("the password is right");
    for password in [Some("mistaken"), None] {
        let refused = attempt(password);
        let Err(SinkError::Lasting(reason)) = refused else { panic!("{refused:?}") };
        assert!(!reason.contains("mistaken") && reason.contains("ann"), "{reason}");
    }
}
