//! A script with which the stock sqlite3 shell reads several shards at once.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::views::VIEWS;
use crate::shard::{DataFolder, FolderError};

/// The number of files that SQLite attaches unless it was built otherwise.
const ATTACHED_MAX: usize = 10;

/// The bytes of a path that need no encoding in a URI.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

/// The script for a group of up to ten shards.
#[derive(Debug)]
pub struct AttachScript {
    pub text: String,
    /// The groups of a folder with more than ten shards, for the terminal: the script often goes to a file.
    pub note: Option<String>,
}

/// Returns the script for a group of up to ten shards.
///
/// # Errors
/// The folder cannot be read, or has fewer groups.
pub(super) fn script(data: &Path, group: usize) -> Result<AttachScript, String> {
    let folder = DataFolder::read_only(data).map_err(|error: FolderError| error.to_string())?;
    let shards: Vec<_> = folder.shards().collect();
    let groups = shards.chunks(ATTACHED_MAX).len();
    let Some(of_group) = shards.chunks(ATTACHED_MAX).nth(group - 1) else {
        return Err(format!(
            "there is no group {group}: {} in {} of up to ten",
            counted(shards.len(), "shard"),
            counted(groups, "group")
        ));
    };
    let first = (group - 1) * ATTACHED_MAX;
    let mut text =
        format!("-- {} of {} of {}.\n", of_group.len(), counted(shards.len(), "shard"), line(data));
    let note = (groups > 1).then(|| {
        let last = first + of_group.len() - 1;
        let range = if first == last { format!("shard {first}") } else { format!("shards {first} to {last}") };
        format!(
            "SQLite attaches at most ten files, so {} are {}: this is group {group} of {groups}, {range}.\n\
             Print each group with --group 1 to --group {groups}, and run each script in a sqlite3 of its own.\n\
             Counts and sums of the groups may be added. For anything else, use firehose sql, which reads all shards.\n",
            counted(shards.len(), "shard"),
            counted(groups, "group")
        )
    });
    note.iter().flat_map(|note| note.lines()).for_each(|line| text += &format!("-- {line}\n"));
    text.push_str(
        "-- Run it with: sqlite3 -init THIS_FILE\n\
         -- Conditions on times do not reach an index in these views; firehose sql translates them.\n",
    );
    for (id, shard) in of_group {
        let path = std::path::absolute(shard.database()).map_err(|error| error.to_string())?;
        let path = percent_encode(path.as_os_str().as_bytes(), KEPT);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "ATTACH 'file:{path}?mode=ro' AS s{};", id.0);
    }
    let names: Vec<usize> = (first..first + of_group.len()).collect();
    for (name, view) in VIEWS {
        let select = |shard: &usize| match (view.merged.is_empty(), *name) {
            (true, _) => format!("SELECT *, {shard} AS shard FROM s{shard}.{}", view.name),
            (_, "tenants") => format!(
                "SELECT tenant_id FROM s{shard}.orders UNION SELECT tenant_id FROM s{shard}.service_events UNION \
                 SELECT tenant_id FROM s{shard}.price_history UNION SELECT tenant_id FROM s{shard}.price_anomalies UNION \
                 SELECT tenant_id FROM s{shard}.stock"
            ),
            (_, name) => format!("SELECT * FROM s{shard}.{name}"),
        };
        // A name may be in several shards, any other row is in one.
        let union = if view.merged.is_empty() { "UNION ALL" } else { "UNION" };
        let selects: Vec<String> = names.iter().map(select).collect();
        let _ = writeln!(text, "CREATE TEMP VIEW {name} AS\n  {};", selects.join(&format!("\n  {union} ")));
    }
    Ok(AttachScript { text, note })
}

/// Returns a number with its noun.
pub(super) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns a path for a comment, which one line must contain.
fn line(path: &Path) -> String {
    path.display().to_string().replace(|sign: char| sign.is_control(), " ")
}
