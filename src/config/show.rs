//! The effective settings in readable form: a TOML page that parses to the same settings, and one line for the log.

use std::fmt::Write as _;

use super::layers::Loaded;
use super::raw::{Source, spec};

impl Loaded {
    /// Returns the effective settings as a `firehose.toml`, with a comment on the source of each.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut page = String::new();
        match &self.file {
            Some(path) => _ = writeln!(page, "# Effective settings; file: {}", path.display()),
            None => page.push_str("# Effective settings; no file\n"),
        }
        let mut heading = "";
        for (name, value) in self.config.written() {
            let spec = spec(name);
            if spec.heading != heading {
                heading = spec.heading;
                _ = writeln!(page, "\n# {heading}");
            }
            let value = if spec.bare { value } else { quoted(&value) };
            let source = match self.raw.get(name).map(|setting| &setting.source) {
                None | Some(Source::Default) => "default".to_owned(),
                Some(Source::File(_)) => "file".to_owned(),
                Some(source) => source.place(name),
            };
            _ = writeln!(page, "{:<40} # {source}", format!("{name} = {value}"));
        }
        page
    }

    /// Returns every effective setting in one line, for the log at startup: `listen=127.0.0.1:8000 …`.
    #[must_use]
    pub fn to_line(&self) -> String {
        let words: Vec<String> =
            self.config.written().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.join(" ")
    }

    /// Returns the settings that differ from their defaults, with their sources: `--ack=disk page_size in …=4KiB`.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.config.written().into_iter().filter_map(|(name, value)| {
            self.raw.get(name).map(|setting| format!("{}={value}", setting.source.place(name)))
        });
        said.collect::<Vec<_>>().join(" ")
    }
}

/// Quotes text as a TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, layers, raw::Raw};

    #[test]
    fn the_page_reads_back_to_the_same_settings() {
        let mut raw = Raw::default();
        for (name, text) in [
            ("listen", "[::1]:80"),
            ("data", "/data/a \"quoted\" \\ \u{1} folder"),
            ("cores", "0-2,5"),
            ("ops_listen", "off"),
            ("flush_interval", "1500us"),
            ("segment_bytes", "3000000"),
            ("log_file", "/var/log/firehose.log"),
            ("insecure", "true"),
            ("shards", "8"),
        ] {
            assert!(raw.set(name, text, Source::Flag));
        }
        for raw in [raw, Raw::default()] {
            let loaded = layers::load(&Flags { file: None, raw }, []).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("effective.toml");
            std::fs::write(&path, loaded.to_toml()).unwrap();
            let flags = Flags { file: Some(path), raw: Raw::default() };
            let again = layers::load(&flags, []).unwrap();
            assert_eq!(again.config, loaded.config);
            assert_eq!(again.config.written().len(), again.to_toml().matches("# file").count());
        }
    }
}
