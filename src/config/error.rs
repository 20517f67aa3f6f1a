//! What can be wrong with settings, and the list they are collected in.

use std::path::PathBuf;

use super::raw::{Raw, Source};
use super::values::Codec;

/// One wrong setting: the operator's to mend, never worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file that was asked for, or is there, cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    UnreadableFile { path: PathBuf, reason: String },

    /// The file is no TOML.
    #[error("{} is not valid TOML: {reason}", path.display())]
    NotToml { path: PathBuf, reason: String },

    /// A file key or variable that means nothing here; most likely a slip of the pen.
    #[error("{place} is not a setting; did you mean {nearest}?")]
    Unknown { place: String, nearest: String },

    /// A value that cannot be read or is out of range.
    #[error("{place} is {value:?}: {allowed}")]
    Value { place: String, value: String, allowed: String },
}

/// Errors as they come in, so that one start names them all.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    errors: Vec<ConfigError>,
    /// Settings that already have an error: no second one that only follows from it.
    spoilt: Vec<&'static str>,
}

impl Complaints {
    pub(super) fn push(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// The value of one setting, or its default and a complaint.
    ///
    /// # Panics
    /// When the table's own default cannot be read, which a test rules out.
    pub(super) fn read<C: Codec>(&mut self, raw: &Raw, name: &'static str, default: &str) -> C::Value {
        if let Some(setting) = raw.get(name) {
            match C::read(&setting.text) {
                Some(value) => return value,
                None => self.refuse(raw, name, &format!("expected {}", C::ALLOWED)),
            }
        }
        C::read(default).expect("the default of a setting reads as its kind")
    }

    /// Complains about the value of `name`, saying what is allowed.
    pub(super) fn refuse(&mut self, raw: &Raw, name: &'static str, allowed: &str) {
        let (place, value) = match raw.get(name) {
            Some(setting) => (setting.source.place(name), setting.text.clone()),
            None => (Source::Default.place(name), super::raw::spec(name).default.to_owned()),
        };
        self.errors.push(ConfigError::Value { place, value, allowed: allowed.to_owned() });
        self.spoilt.push(name);
    }

    /// Complains about `name` unless `good`, or unless a setting it depends on is already wrong.
    pub(super) fn require(&mut self, raw: &Raw, name: &'static str, and: &[&str], good: bool, allowed: &str) {
        let spoilt = |other: &str| self.spoilt.contains(&other);
        if !good && !spoilt(name) && !and.iter().any(|other| spoilt(other)) {
            self.refuse(raw, name, allowed);
        }
    }
}
