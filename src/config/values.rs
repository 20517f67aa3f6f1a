//! Parsing and writing of each type of value: addresses, sizes, durations, lists of cores, choices.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::networks::Network;
use super::web::{HostName, WebOrigin};

/// A type of value. `read(write(v)) == v` for every value.
pub(super) trait Codec {
    type Value;
    const ALLOWED: &'static str;
    /// If true, TOML contains the value without quotes.
    const BARE: bool = false;
    fn read(text: &str) -> Option<Self::Value>;
    fn write(value: &Self::Value) -> String;
}

/// The guarantee that a 202 gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckLevel {
    /// The event is with the operating system. It survives the death of the process.
    Os,
    /// The event is synced to the disk. It survives a power cut.
    Disk,
}

impl AckLevel {
    #[must_use]
    pub fn of(wants_disk: bool) -> AckLevel {
        if wants_disk { AckLevel::Disk } else { AckLevel::Os }
    }
}

/// The runtime of the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// io_uring if the kernel permits it, otherwise epoll.
    Auto,
    /// io_uring. If it is not available, the start fails.
    IoUring,
    /// epoll, even if the kernel permits io_uring.
    Epoll,
}

/// The least important level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Permissions of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    /// Only the owner has access.
    Owner,
    /// A group may read the folder too.
    Group,
}

impl DataMode {
    /// Returns the mode of folders. Files have the same mode without execute permission.
    #[must_use]
    pub fn folder_mode(self) -> u32 {
        match self {
            DataMode::Owner => 0o700,
            DataMode::Group => 0o750,
        }
    }
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Json,
    Text,
}

/// The treatment of the sales figures of orders that retention deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumsPolicy {
    Keep,
    Drop,
}

/// The treatment of rows that a sink has not confirmed, once they take more bytes than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldPolicy {
    Keep,
    Drop,
}

/// Kernel CPU numbers, ascending, unique, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(Vec<usize>);

impl CoreList {
    /// Returns the CPU numbers.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }
}

/// The largest CPU number in a list: the size of the kernel's own mask.
const CPU_NUMBER_MAX: usize = 1023;

impl FromStr for CoreList {
    type Err = ();

    fn from_str(text: &str) -> Result<CoreList, ()> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| ())?;
            let last: usize = last.trim().parse().map_err(|_| ())?;
            if first > last || last > CPU_NUMBER_MAX {
                return Err(());
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(());
                }
                cpus.push(cpu);
            }
        }
        cpus.sort_unstable();
        Ok(CoreList(cpus))
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, cpu) in self.0.iter().enumerate() {
            write!(f, "{}{cpu}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

pub(super) struct Address;
impl Codec for Address {
    type Value = SocketAddr;
    const ALLOWED: &'static str = "an IP address and port such as 127.0.0.1:8000 or [::1]:8000";
    fn read(text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }
    fn write(value: &SocketAddr) -> String {
        value.to_string()
    }
}

pub(super) struct Folder;
impl Codec for Folder {
    type Value = PathBuf;
    const ALLOWED: &'static str = "a path";
    fn read(text: &str) -> Option<PathBuf> {
        (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
    }
    fn write(value: &PathBuf) -> String {
        value.to_string_lossy().into_owned()
    }
}

pub(super) struct Truth;
impl Codec for Truth {
    type Value = bool;
    const ALLOWED: &'static str = "true or false";
    const BARE: bool = true;
    fn read(text: &str) -> Option<bool> {
        text.parse().ok()
    }
    fn write(value: &bool) -> String {
        value.to_string()
    }
}

pub(super) struct Count;
impl Codec for Count {
    type Value = u64;
    const ALLOWED: &'static str = "a whole number such as 20000 or 1_000_000";
    const BARE: bool = true;
    fn read(text: &str) -> Option<u64> {
        digits(text)
    }
    fn write(value: &u64) -> String {
        value.to_string()
    }
}

/// Parses a decimal with at most `places` digits after the point. Returns it as a whole number of units of the last
/// place.
#[must_use]
pub fn decimal(text: &str, places: usize) -> Option<u32> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    if fraction.is_empty() || fraction.len() > places || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<places$}").parse().ok()?;
    let scaled = digits(whole)?.checked_mul(10_u64.pow(places as u32))?.checked_add(fraction)?;
    u32::try_from(scaled).ok()
}

/// Writes a whole number of units as a decimal without trailing zeros. This is the inverse of [`decimal`].
#[must_use]
pub fn decimal_text(value: u32, places: usize) -> String {
    let scale = 10_u32.pow(places as u32);
    let fraction = format!("{:0places$}", value % scale);
    let text = format!("{}.{}", value / scale, fraction.trim_end_matches('0'));
    text.trim_end_matches('.').to_owned()
}

pub(super) struct Hundredths;
impl Codec for Hundredths {
    type Value = u32;
    const ALLOWED: &'static str = "a number with up to two digits after the point such as 20 or 12.5";
    const BARE: bool = true;
    fn read(text: &str) -> Option<u32> {
        decimal(text, 2)
    }
    fn write(value: &u32) -> String {
        decimal_text(*value, 2)
    }
}

pub(super) struct Thousandths;
impl Codec for Thousandths {
    type Value = u32;
    const ALLOWED: &'static str = "a number with up to three digits after the point such as 3.5";
    const BARE: bool = true;
    fn read(text: &str) -> Option<u32> {
        decimal(text, 3)
    }
    fn write(value: &u32) -> String {
        decimal_text(*value, 3)
    }
}

pub(super) struct Bytes;
impl Codec for Bytes {
    type Value = u64;
    const ALLOWED: &'static str =
        "bytes, plain or with KiB, MiB, GiB, TiB, kB, MB, GB, TB: 64MiB, 1_000_000, 2GB";
    fn read(text: &str) -> Option<u64> {
        let text = text.trim();
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let scale: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1000_u64.pow(2),
            "gb" => 1000_u64.pow(3),
            "tb" => 1000_u64.pow(4),
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return None,
        };
        // SQLite and the kernel use signed 64-bit numbers.
        digits(number.trim_end())?.checked_mul(scale).filter(|&bytes| bytes <= i64::MAX as u64)
    }
    fn write(value: &u64) -> String {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.iter().find(|(_, shift)| *value > 0 && value.trailing_zeros() >= *shift) {
            Some((unit, shift)) => format!("{}{unit}", value >> shift),
            None => value.to_string(),
        }
    }
}

/// Parses a duration such as 30d, as in the settings.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    Time::read(text)
}

/// Writes a duration in the largest unit that divides it. This is the inverse of [`duration`].
#[must_use]
pub fn duration_text(value: Duration) -> String {
    Time::write(&value)
}

pub(super) struct Time;
impl Codec for Time {
    type Value = Duration;
    const ALLOWED: &'static str = "a whole number with us, ms, s, m, h or d: 20ms, 5s";
    fn read(text: &str) -> Option<Duration> {
        let text = text.trim();
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number = digits(number.trim_end())?;
        let scale_us: u64 = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            // Zero needs no unit.
            "" if number == 0 => 1,
            _ => return None,
        };
        number.checked_mul(scale_us).map(Duration::from_micros)
    }
    fn write(value: &Duration) -> String {
        let us = value.as_micros();
        let units =
            [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];
        match units.iter().find(|(_, scale)| us.is_multiple_of(*scale)) {
            Some(_) if us == 0 => "0s".to_owned(),
            Some((unit, scale)) => format!("{}{unit}", us / scale),
            None => format!("{us}us"),
        }
    }
}

/// The URL of a target, which may contain a password.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(String);

impl TargetUrl {
    fn parse(text: &str) -> Option<TargetUrl> {
        let (scheme, rest) = text.split_once("://")?;
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase());
        (is_scheme && !rest.is_empty()).then(|| TargetUrl(text.to_owned()))
    }

    /// Returns the URL as it is set.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Returns the URL with `***` instead of a password. A part whose form is unclear is left out, too.
    #[must_use]
    pub fn masked(&self) -> String {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            return format!("{scheme}://***");
        }
        let (login, place) = place.rsplit_once('@').unwrap_or(("", place));
        let mut masked = format!("{scheme}://");
        if !login.is_empty() {
            masked.push_str(login.split(':').next().unwrap_or_default());
            masked.push_str(if login.contains(':') { ":***@" } else { "@" });
        }
        masked.push_str(place);
        if !query.is_empty() {
            let is_open = !query.to_ascii_lowercase().contains("pass") && !query.contains('%');
            masked.push('?');
            masked.push_str(if is_open { query } else { "***" });
        }
        masked
    }
}

impl std::fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The maximum length of a sink's name.
const SINK_NAME_MAX: usize = 64;

pub(super) struct SinkName;
impl Codec for SinkName {
    type Value = String;
    const ALLOWED: &'static str = "1 to 64 letters, digits, dashes and underscores";
    fn read(text: &str) -> Option<String> {
        let is_name = (1..=SINK_NAME_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        is_name.then(|| text.to_owned())
    }
    fn write(value: &String) -> String {
        value.clone()
    }
}

/// Declares codecs for settings that are either a word or a value.
macro_rules! optional {
    ($($name:ident = $word:literal or $type:ty, $allowed:literal, $read:expr, $write:expr;)+) => {$(
        pub(super) struct $name;
        impl Codec for $name {
            type Value = Option<$type>;
            const ALLOWED: &'static str = $allowed;
            fn read(text: &str) -> Option<Option<$type>> {
                if text == $word { Some(None) } else { $read(text).map(Some) }
            }
            fn write(value: &Option<$type>) -> String {
                value.as_ref().map_or_else(|| $word.to_owned(), $write)
            }
        }
    )+};
}

optional! {
    AddressOrOff = "off" or SocketAddr, "an IP address and port such as 127.0.0.1:9100, or \"off\"",
        Address::read, ToString::to_string;
    CountOrAuto = "auto" or u16, "a whole number from 1 to 256, or \"auto\"",
        |text| digits(text).and_then(|count| u16::try_from(count).ok()), ToString::to_string;
    CoresOrAuto = "auto" or CoreList, "CPU numbers such as \"0,1\" or \"0-3\" without repetition, or \
                                       \"auto\"",
        |text: &str| text.parse().ok(), ToString::to_string;
    TimeOrOff = "off" or Duration, "a whole number with us, ms, s, m, h or d such as 30d, or \"off\"",
        Time::read, Time::write;
    FileOrNone = "none" or PathBuf, "a path, or \"none\"", Folder::read, Folder::write;
    OriginOrNone = "none" or WebOrigin, "a URL without a path such as https://events.example.com, or \"none\"",
        WebOrigin::parse, |origin: &WebOrigin| origin.as_str().to_owned();
    TargetOrNone = "none" or TargetUrl, "a URL such as postgres://user@host/database, or \"none\"",
        TargetUrl::parse, TargetUrl::masked;
    BytesOrOff = "off" or u64, "bytes such as 64MiB or 2GB, or \"off\"", Bytes::read, Bytes::write;
    BytesOrAuto = "auto" or u64, "bytes such as 64MiB or 2GB, or \"auto\"", Bytes::read, Bytes::write;
    CountOrOff = "off" or u64, "a whole number from 1 to 1000000000, or \"off\"",
        |text| digits(text).filter(|count| (1..=1_000_000_000).contains(count)), ToString::to_string;
}

/// Declares codecs for lists separated by commas; `none` is the empty list.
macro_rules! list {
    ($($name:ident = $type:ty, $allowed:literal, $read:expr, $write:expr;)+) => {$(
        pub(super) struct $name;
        impl Codec for $name {
            type Value = Vec<$type>;
            const ALLOWED: &'static str = $allowed;
            fn read(text: &str) -> Option<Vec<$type>> {
                if text == "none" { Some(Vec::new()) } else { text.split(',').map($read).collect() }
            }
            fn write(value: &Vec<$type>) -> String {
                match value.as_slice() {
                    [] => "none".to_owned(),
                    all => all.iter().map($write).collect::<Vec<String>>().join(","),
                }
            }
        }
    )+};
}

list! {
    Hosts = HostName, "host names such as events.internal or events.internal:8000, or \"none\"",
        HostName::parse, |name: &HostName| name.as_str().to_owned();
    Origins = WebOrigin, "complete origins such as https://console.example.com, or \"none\"",
        WebOrigin::parse, |origin: &WebOrigin| origin.as_str().to_owned();
    Networks = Network, "addresses and networks such as 127.0.0.1 or 10.0.0.0/8, or \"none\"",
        Network::parse, ToString::to_string;
}

/// Declares codecs for enums of words.
macro_rules! choice {
    ($($name:ident = $type:ident, $allowed:literal { $($word:literal => $variant:ident),+ })+) => {$(
        pub(super) struct $name;
        impl Codec for $name {
            type Value = $type;
            const ALLOWED: &'static str = $allowed;
            fn read(text: &str) -> Option<$type> {
                match text { $($word => Some($type::$variant),)+ _ => None }
            }
            fn write(value: &$type) -> String {
                value.word().to_owned()
            }
        }

        impl $type {
            /// Returns the word used in the settings.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($type::$variant => $word,)+ }
            }
        }
    )+};
}

choice! {
    Ack = AckLevel, "\"os\" or \"disk\"" { "os" => Os, "disk" => Disk }
    Runtime = RuntimeChoice, "\"auto\", \"io_uring\" or \"epoll\"" {
        "auto" => Auto, "io_uring" => IoUring, "epoll" => Epoll
    }
    Level = LogLevel, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"" {
        "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, "trace" => Trace
    }
    Privacy = DataMode, "\"0700\" or \"0750\"" { "0700" => Owner, "0750" => Group }
    Format = LogFormat, "\"auto\", \"json\" or \"text\"" { "auto" => Auto, "json" => Json, "text" => Text }
    Hold = HoldPolicy, "\"keep\" or \"drop\"" { "keep" => Keep, "drop" => Drop }
    Sums = SumsPolicy, "\"keep\" or \"drop\"" { "keep" => Keep, "drop" => Drop }
}

/// Parses decimal digits that may be grouped by underscores.
fn digits(text: &str) -> Option<u64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.ends_with('_') {
        return None;
    }
    text.bytes().filter(|&byte| byte != b'_').try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1_000_000", 1_000_000),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("2GB", 2_000_000_000),
            ("2gib", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(Bytes::read(text), Some(bytes), "{text}");
            assert_eq!(Bytes::read(&Bytes::write(&bytes)), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "+1",
            "1.5MiB",
            "64M",
            "9TiBs",
            "99999999TiB",
            "18446744073709551616",
            "_1",
            "1_",
        ] {
            assert_eq!(Bytes::read(text), None, "{text}");
        }
        for (text, us) in [
            ("0", 0),
            ("0s", 0),
            ("250us", 250),
            ("20ms", 20_000),
            ("5s", 5_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
            ("30d", 2_592_000_000_000),
        ] {
            let time = Duration::from_micros(us);
            assert_eq!(Time::read(text), Some(time), "{text}");
            assert_eq!(Time::read(&Time::write(&time)), Some(time), "{text}");
        }
        for text in ["", "5", "s", "5 sec", "-1s", "1.5s", "99999999999999999h"] {
            assert_eq!(Time::read(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_read_to_their_last_digit_and_back() {
        for (text, value, written) in
            [("20", 2_000, "20"), ("12.5", 1_250, "12.5"), ("0.05", 5, "0.05"), (" 3.50 ", 350, "3.5")]
        {
            assert_eq!(decimal(text, 2), Some(value), "{text}");
            assert_eq!(decimal_text(value, 2), written);
        }
        for text in ["", ".5", "5.", "1.234", "-1", "1e3", "1.2.3", "99999999999", "20%"] {
            assert_eq!(decimal(text, 2), None, "{text}");
        }
    }

    #[test]
    fn a_list_of_cores_reads_as_numbers_and_ranges() {
        let cpus = |text: &str| text.parse().map(|list: CoreList| list.cpus().to_vec());
        assert_eq!(cpus("0,1"), Ok(vec![0, 1]));
        assert_eq!(cpus("4,0-2"), Ok(vec![0, 1, 2, 4]));
        for text in ["", ",", "1,", "1,1", "0-2,1", "3-1", "-1", "a", "0-99999999999"] {
            assert_eq!(cpus(text), Err(()), "{text}");
        }
    }
}
