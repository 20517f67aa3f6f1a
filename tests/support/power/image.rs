//! The possible content of the disk after a power cut: one state of many, chosen by a policy and a seed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::content::{Change, Content};
use super::names::{Entries, Names, Number, Order, ROOT};
use super::state::{Node, State};
use crate::support::Chance;

/// Which of the operations that were not synced are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// None of them.
    Synced,
    /// The first ones in order, names and bytes alike. Chance decides how many.
    Prefix,
    /// Each page of a file as it was at some instant since the file was synced. The same applies to lengths and
    /// folders.
    Pages,
    /// The same by sectors, so that a page may be torn.
    Sectors,
    /// The bytes of each file completely or not at all, and each folder as it was at some instant.
    Files,
    /// All names and no bytes. A new file is empty, and a renamed one, too.
    EmptyFiles,
    /// All names and lengths, with zeroes for the bytes.
    ZeroedFiles,
    /// All bytes and no names.
    Nameless,
    /// Everything, as after a kill.
    Everything,
}

impl Policy {
    /// All policies that lose something.
    pub const LOSING: [Policy; 8] = [
        Policy::Synced,
        Policy::Prefix,
        Policy::Pages,
        Policy::Sectors,
        Policy::Files,
        Policy::EmptyFiles,
        Policy::ZeroedFiles,
        Policy::Nameless,
    ];

    /// Returns `true` if the seed matters.
    pub fn is_by_chance(self) -> bool {
        matches!(self, Policy::Prefix | Policy::Pages | Policy::Sectors | Policy::Files)
    }
}

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;

/// Writes one possible state of the disk into a plain folder, which is created.
pub fn write(state: &State, order: Order, policy: Policy, seed: u64, to: &Path) {
    let mut chance = Chance::seeded(seed);
    // The first numbers of similar seeds resemble each other, so they are discarded.
    (0..8).for_each(|_| _ = chance.below(2));
    let last = chance.below(state.sequence + 1);
    let folders = names_after(state.names(order), (order, policy), last, &mut chance);
    let mut image = Image { state, policy, last, folders, chance, written: HashMap::new() };
    image.folder(ROOT, to);
}

fn names_after(
    names: &Names,
    (order, policy): (Order, Policy),
    last: u64,
    chance: &mut Chance,
) -> HashMap<Number, Entries> {
    let mut lost = false;
    names.after(|change| match policy {
        Policy::Synced | Policy::Nameless => false,
        Policy::Prefix => change.sequence <= last,
        Policy::Pages | Policy::Sectors | Policy::Files => {
            // If names become durable in order, one lost change loses all later ones, not only those of its folders.
            lost = (lost && order == Order::Ext4) || chance.below(4) == 0;
            !lost
        }
        Policy::EmptyFiles | Policy::ZeroedFiles | Policy::Everything => true,
    })
}

struct Image<'s> {
    state: &'s State,
    policy: Policy,
    /// The last operation that a prefix keeps.
    last: u64,
    folders: HashMap<Number, Entries>,
    chance: Chance,
    /// Files that were written, for their further names.
    written: HashMap<Number, PathBuf>,
}

impl Image<'_> {
    fn folder(&mut self, number: Number, path: &Path) {
        fs::create_dir_all(path).expect("a folder of the image");
        for (name, number) in self.folders.remove(&number).unwrap_or_default() {
            let path = path.join(name);
            let node = &self.state.nodes[&number];
            if node.is_folder {
                self.folder(number, &path);
            } else if let Some(first) = self.written.get(&number) {
                fs::hard_link(first, &path).expect("a link of the image");
            } else {
                write_file(&self.bytes(node), &path);
                self.written.insert(number, path.clone());
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(node.mode.into())).expect("its mode");
        }
    }

    fn bytes(&mut self, node: &Node) -> Content {
        match self.policy {
            _ if node.pending.is_empty() => node.on_disk.clone(),
            Policy::Synced | Policy::EmptyFiles => node.on_disk.clone(),
            Policy::Nameless | Policy::Everything => node.content.clone(),
            Policy::Files if self.chance.below(2) == 0 => node.on_disk.clone(),
            Policy::Files => node.content.clone(),
            Policy::Prefix => {
                let mut bytes = node.on_disk.clone();
                let kept = node.pending.iter().take_while(|(sequence, _)| *sequence <= self.last);
                kept.for_each(|(_, change)| bytes.apply(change));
                bytes
            }
            Policy::ZeroedFiles => {
                let mut bytes = node.on_disk.clone();
                for (_, change) in &node.pending {
                    bytes.resize(change.length_after(bytes.length()));
                }
                bytes
            }
            Policy::Pages => in_blocks(node, PAGE, &mut self.chance),
            Policy::Sectors => in_blocks(node, SECTOR, &mut self.chance),
        }
    }
}

/// Returns each block as it was after some of the changes that touched it, in their order. The same applies to the
/// length.
///
/// A truncation is one change of the inode, which a file system keeps or loses as a whole. A kept truncation has
/// removed its bytes from every block. After a lost one, the old blocks still belong to the file, and later writes to
/// them went to new blocks that do not.
fn in_blocks(node: &Node, block_bytes: u64, chance: &mut Chance) -> Content {
    let changes: Vec<&Change> = node.pending.iter().map(|(_, change)| change).collect();
    let (mut whole, mut lengths, mut truncations) = (node.on_disk.clone(), Vec::new(), Vec::new());
    for (index, change) in changes.iter().enumerate() {
        let before = whole.length();
        whole.apply(change);
        lengths.push(whole.length());
        if whole.length() < before {
            truncations.push((index, whole.length()));
        }
    }
    let kept_truncations = chance.below(truncations.len() as u64 + 1) as usize;
    let (kept, lost) = truncations.split_at(kept_truncations);
    // The length is one of those between the last kept truncation and the first lost one.
    let ends_before = lost.first().map_or(changes.len(), |(index, _)| *index);
    let lengths = match kept.last() {
        Some((index, _)) => lengths[*index..ends_before].to_vec(),
        None => [&[node.on_disk.length()], &lengths[..ends_before]].concat(),
    };
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let mut touched: BTreeMap<u64, Vec<(usize, &Change)>> = BTreeMap::new();
    for (index, change) in changes.into_iter().enumerate() {
        let (from, to) = match change {
            Change::Write { offset, bytes } => (*offset, offset + bytes.len() as u64),
            Change::Zero { offset, length } => (*offset, (offset + length).min(longest)),
            Change::Resize(length) => (*length, longest),
        };
        for block in from / block_bytes..to.min(longest).div_ceil(block_bytes) {
            let is_lost = lost.iter().any(|(of, length)| index >= *of && (block + 1) * block_bytes > *length);
            if !is_lost {
                touched.entry(block).or_default().push((index, change));
            }
        }
    }
    let mut result = node.on_disk.clone();
    result.resize(longest);
    for (block, changes) in touched {
        let is_kept = |index: &usize| kept.iter().any(|(of, _)| of == index);
        let at_least = changes.iter().rposition(|(index, _)| is_kept(index)).map_or(0, |last| last + 1);
        let kept = at_least + chance.below((changes.len() - at_least) as u64 + 1) as usize;
        let start = block * block_bytes;
        let mut bytes = result.read(start, block_bytes);
        changes[..kept].iter().for_each(|(_, change)| apply_within(&mut bytes, start, change));
        result.write(start, &bytes);
    }
    result.resize(lengths[chance.below(lengths.len() as u64) as usize]);
    result
}

/// Applies the part of a change that lies in the block.
fn apply_within(block: &mut [u8], start: u64, change: &Change) {
    let length = block.len() as u64;
    let within = |offset: u64| offset.saturating_sub(start).min(length) as usize;
    match change {
        Change::Write { offset, bytes } => {
            let (from, to) = (within(*offset), within(offset + bytes.len() as u64));
            let skipped = (start + from as u64 - offset) as usize;
            block[from..to].copy_from_slice(&bytes[skipped..skipped + to - from]);
        }
        Change::Zero { offset, length } => block[within(*offset)..within(offset + length)].fill(0),
        Change::Resize(length) => block[within(*length)..].fill(0),
    }
}

fn write_file(content: &Content, path: &Path) {
    let file = File::create(path).expect("a file of the image");
    file.set_len(content.length()).expect("room for the image");
    for (offset, bytes) in content.pages() {
        file.write_all_at(bytes, offset).expect("room for the image");
    }
}
