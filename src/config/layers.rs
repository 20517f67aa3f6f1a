//! Reads the layers and merges them: flags override the environment, which overrides the file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::{Complaints, ConfigError};
use super::raw::{Raw, Source, variable};
use super::settings::{Config, SETTINGS};
use super::suggest::near;

/// The command line: every setting as a flag, and the file to read.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Settings file. Default: ./firehose.toml, if it exists. Also set by FIREHOSE_CONFIG.
    #[arg(long = "config", value_name = "PATH")]
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub raw: Raw,
}

/// Settings that were read and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The values that were set, with their sources. All others are defaults.
    pub raw: Raw,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

const FILE_VARIABLE: &str = "FIREHOSE_CONFIG";
const FILE_DEFAULT: &str = "firehose.toml";
/// The maximum size of a settings file. A real one is a page or two.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn load(
    flags: &Flags,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Vec<ConfigError>> {
    let mut complaints = Complaints::default();
    let (environment, file_named) = from_environment(variables, &mut complaints);
    let file = flags.file.clone().or(file_named).or_else(|| {
        let path = PathBuf::from(FILE_DEFAULT);
        path.exists().then_some(path)
    });
    let from_file = match &file {
        Some(path) => from_file(path, &mut complaints),
        None => Raw::default(),
    };
    let raw = flags.raw.clone().or(environment).or(from_file);
    let config = Config::check_into(&raw, &mut complaints);
    let errors = complaints.into_errors();
    if errors.is_empty() { Ok(Loaded { config, raw, file }) } else { Err(errors) }
}

/// Reads the `FIREHOSE_*` variables. One of them may name a settings file.
fn from_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    complaints: &mut Complaints,
) -> (Raw, Option<PathBuf>) {
    let mut raw = Raw::default();
    let mut file = None;
    for (key, value) in variables {
        let Some(key) = key.to_str() else { continue };
        let Some(name) = key.strip_prefix("FIREHOSE_") else { continue };
        if key == FILE_VARIABLE {
            file = Some(PathBuf::from(value));
        } else if let Some(spec) = SETTINGS.iter().find(|spec| variable(spec.name) == key) {
            // A value that is not UTF-8 becomes one that the check refuses, because it contains the replacement
            // character.
            raw.set(spec.name, &value.to_string_lossy(), Source::Environment);
        } else if !is_service_link(name) {
            let near = near(&name.to_ascii_lowercase(), SETTINGS.iter().map(|spec| spec.name));
            complaints.push(ConfigError::Unknown { place: key.to_owned(), near: near.map(variable) });
        }
    }
    (raw, file)
}

/// Returns `true` for a variable of a container platform. These platforms describe every service to every container
/// in variables that are named after the service. A service called `firehose` sets `FIREHOSE_SERVICE_HOST`,
/// `FIREHOSE_PORT_8000_TCP` and more. These are not settings.
fn is_service_link(name: &str) -> bool {
    let name = format!("_{name}_");
    name.ends_with("_SERVICE_HOST_")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT_")
        || name
            .split_once("_PORT_")
            .is_some_and(|(_, rest)| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn from_file(path: &Path, complaints: &mut Complaints) -> Raw {
    let mut raw = Raw::default();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(reason) => {
            complaints.push(ConfigError::UnreadableFile { path: path.to_owned(), reason });
            return raw;
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let reason = error.to_string().trim_end().to_owned();
            complaints.push(ConfigError::NotToml { path: path.to_owned(), reason });
            return raw;
        }
    };
    let source = Source::File(path.to_owned());
    for (key, value) in &table {
        let Some(spec) = SETTINGS.iter().find(|spec| spec.name == key) else {
            let near = near(key, SETTINGS.iter().map(|spec| spec.name)).map(str::to_owned);
            complaints.push(ConfigError::Unknown { place: source.place(key), near });
            continue;
        };
        // A decimal number is read if the setting takes a number.
        let decimal = value.as_float().filter(|_| spec.bare).map(|number| number.to_string());
        match decimal.or_else(|| as_text(value)) {
            Some(text) => _ = raw.set(spec.name, &text, source.clone()),
            None => complaints.push(ConfigError::Value {
                place: source.place(key),
                value: value.type_str().to_owned(),
                allowed: format!("expected {}", spec.allowed),
            }),
        }
    }
    raw
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{bytes} bytes is too large for a settings file (at most {FILE_BYTES_MAX})"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Returns a value as it is written on the command line. A list of numbers is separated by commas.
fn as_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> =
                items.iter().map(|item| item.as_integer().map(|number| number.to_string())).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn flags(pairs: &[(&str, &str)]) -> Flags {
        let mut flags = Flags::default();
        for (name, text) in pairs {
            assert!(flags.raw.set(name, text, Source::Flag));
        }
        flags
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firehose.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_flag_outdoes_a_variable_outdoes_the_file_outdoes_the_default() {
        let (_folder, path) =
            file("batch_rows_max = 1\nflush_interval = \"1ms\"\npage_size = 4096\ncores = [0, 2]\n");
        let named = path.to_str().unwrap();
        let loaded = load(
            &flags(&[("batch_rows_max", "3")]),
            variables(&[
                ("FIREHOSE_BATCH_ROWS_MAX", "2"),
                ("FIREHOSE_FLUSH_INTERVAL", "2ms"),
                ("FIREHOSE_CONFIG", named),
                ("PATH", "/bin"),
            ]),
        )
        .unwrap();
        assert_eq!(loaded.config.batch_rows_max, 3);
        assert_eq!(loaded.config.flush_interval.as_millis(), 2);
        assert_eq!(loaded.config.page_size, 4096);
        assert_eq!(loaded.config.cores.unwrap().cpus(), [0, 2]);
        assert_eq!(loaded.config.segment_bytes, 64 << 20);
        assert_eq!(loaded.raw.get("batch_rows_max").unwrap().source, Source::Flag);
        assert_eq!(loaded.raw.get("flush_interval").unwrap().source, Source::Environment);
        assert_eq!(loaded.raw.get("page_size").unwrap().source, Source::File(path));
        assert_eq!(loaded.raw.get("segment_bytes"), None);
    }

    #[test]
    fn the_flag_names_the_file_before_the_variable_does() {
        let (_folder, path) = file("ack = \"disk\"");
        let flags = Flags { file: Some(path), ..Flags::default() };
        let loaded = load(&flags, variables(&[("FIREHOSE_CONFIG", "/nowhere/else.toml")])).unwrap();
        assert_eq!(loaded.config.ack.word(), "disk");
    }

    #[test]
    fn every_wrong_setting_is_named_at_once_with_its_place() {
        let (_folder, path) =
            file("lisetn = \"127.0.0.1:1\"\npage_size = 1000\nack = \"tape\"\ndata = 1.5\n[extra]\nx = 1\n");
        let mut given = flags(&[("head_timeout", "5"), ("segment_bytes", "lots")]);
        given.file = Some(path.clone());
        let environment =
            variables(&[("FIREHOSE_DATTA", "/tmp"), ("FIREHOSE_SHARDS", "0"), ("FIREHOSE_PORT", "8000")]);
        let text: Vec<String> =
            load(&given, environment).unwrap_err().iter().map(ToString::to_string).collect();
        let place = path.display();
        for expected in [
            "FIREHOSE_DATTA is not a setting; did you mean FIREHOSE_DATA?".to_owned(),
            format!("lisetn in {place} is not a setting; did you mean listen?"),
            format!("extra in {place} is not a setting; `firehose config` prints every setting"),
            format!("data in {place} is \"float\": expected a path"),
            format!("page_size in {place} is \"1000\": expected a power of two"),
            format!("ack in {place} is \"tape\": expected \"os\" or \"disk\""),
            "--head-timeout is \"5\": expected a whole number with us, ms".to_owned(),
            "--segment-bytes is \"lots\": expected bytes".to_owned(),
            "FIREHOSE_SHARDS is \"0\": expected 1 to 256".to_owned(),
        ] {
            assert_eq!(
                text.iter().filter(|line| line.starts_with(&expected)).count(),
                1,
                "{expected}\n{text:#?}"
            );
        }
        assert_eq!(text.len(), 9, "{text:#?}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there_and_be_toml() {
        let missing = Flags { file: Some("/nowhere/firehose.toml".into()), ..Flags::default() };
        assert!(matches!(load(&missing, []).unwrap_err().as_slice(), [ConfigError::UnreadableFile { .. }]));
        let (_folder, path) = file("listen = ");
        let broken = Flags { file: Some(path), ..Flags::default() };
        assert!(matches!(load(&broken, []).unwrap_err().as_slice(), [ConfigError::NotToml { .. }]));
    }

    #[test]
    fn variables_a_container_platform_sets_for_a_service_are_passed_over() {
        for name in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_8000_TCP",
            "PORT_8000_TCP_ADDR",
        ] {
            assert!(is_service_link(name), "{name}");
            assert!(is_service_link(&format!("BLUE_{name}")), "{name}");
        }
        for name in ["PORTS", "LISTEN_PORTX", "DATUM", "HOST"] {
            assert!(!is_service_link(name), "{name}");
        }
        for spec in SETTINGS {
            assert!(!is_service_link(&spec.name.to_ascii_uppercase()), "{}", spec.name);
        }
    }
}
