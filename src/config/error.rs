//! Settings errors, and the list that collects them.

use std::path::PathBuf;

use super::raw::{Raw, Source};
use super::values::Codec;

/// One invalid setting. The operator must correct it; a retry cannot succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file that was requested, or that exists, cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    UnreadableFile { path: PathBuf, reason: String },

    /// The file is not TOML.
    #[error("{} is not valid TOML: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },

    /// An unknown file key or variable, most likely a typing error.
    #[error("{place} is not a setting; {}", suggestion(near.as_deref()))]
    Unknown { place: String, near: Option<String> },

    /// A value that cannot be parsed or is out of range.
    #[error("{place} is {value:?}: {allowed}")]
    Value { place: String, value: String, allowed: String },
}

fn suggestion(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("did you mean {near}?"),
        None => "`firehose config` prints every setting".to_owned(),
    }
}

/// Collects errors, so that one start reports all of them.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    errors: Vec<ConfigError>,
    /// Settings that already have an error. A further error that only results from the first is not reported.
    spoilt: Vec<&'static str>,
}

impl Complaints {
    pub(super) fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// Returns a setting's value. If it is invalid, records an error and returns the default.
    ///
    /// # Panics
    /// Panics if the table's own default cannot be parsed. A test rules this out.
    pub(super) fn read<C: Codec>(&mut self, raw: &Raw, name: &'static str, default: &str) -> C::Value {
        if let Some(setting) = raw.get(name) {
            match C::read(&setting.text) {
                Some(value) => return value,
                None => self.refuse(raw, name, &format!("expected {}", C::ALLOWED)),
            }
        }
        C::read(default).expect("the default of a setting reads as its kind")
    }

    /// Reports an invalid value of `name` and its allowed values.
    pub(super) fn refuse(&mut self, raw: &Raw, name: &'static str, allowed: &str) {
        let (place, value) = match raw.get(name) {
            // It may contain a password.
            Some(setting) if name == "ship_to" => (setting.source.place(name), "***".to_owned()),
            Some(setting) => (setting.source.place(name), setting.text.clone()),
            None => (Source::Default.place(name), super::raw::spec(name).default.to_owned()),
        };
        self.errors.push(ConfigError::Value { place, value, allowed: allowed.to_owned() });
        self.spoilt.push(name);
    }

    /// Reports an error for `name` unless `good`, or unless a setting that it depends on has an error.
    pub(super) fn require(&mut self, raw: &Raw, name: &'static str, and: &[&str], good: bool, allowed: &str) {
        let spoilt = |other: &str| self.spoilt.contains(&other);
        if !good && !spoilt(name) && !and.iter().any(|other| spoilt(other)) {
            self.refuse(raw, name, allowed);
        }
    }
}
