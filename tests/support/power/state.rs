//! The file system in two versions: as programs see it, and as the disk has it.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use firehose::base::clock;
use fuser::Errno;

use super::content::{Change, Content};
use super::names::{Entries, NameChange, Names, Number, Order, ROOT};

/// One file or folder.
#[derive(Debug)]
pub struct Node {
    pub is_folder: bool,
    pub mode: u16,
    pub changed_at: SystemTime,
    pub links: u32,
    pub opens: u32,
    /// The bytes that programs see.
    pub content: Content,
    pub entries: Entries,
    /// The file's bytes on the disk, and the later changes in order.
    pub on_disk: Content,
    pub pending: Vec<(u64, Change)>,
    /// The last operation that changed the name or the length of the file, not only bytes within it.
    changed_by: u64,
    synced_up_to: u64,
    pub syncs: u64,
}

impl Node {
    fn new(is_folder: bool, mode: u16) -> Node {
        Node {
            is_folder,
            mode,
            changed_at: now(),
            links: 0,
            opens: 0,
            content: Content::default(),
            entries: Entries::new(),
            on_disk: Content::default(),
            pending: Vec::new(),
            changed_by: 0,
            synced_up_to: 0,
            syncs: 0,
        }
    }
}

/// The data that one fsync writes to the disk: the state when it began.
#[derive(Debug)]
pub struct SyncPoint {
    number: Number,
    sequence: u64,
    changed_by: u64,
    content: Content,
}

#[derive(Debug)]
pub struct State {
    pub nodes: HashMap<Number, Node>,
    next: Number,
    /// Number of operations that changed or synced anything.
    pub sequence: u64,
    pub strict: Names,
    pub ext4: Names,
    pub is_cut: bool,
    /// The last operation before the power is cut.
    pub cut_after: Option<u64>,
    /// The control: a sync reports success and does nothing.
    pub forgets_syncs: bool,
    /// How long a sync takes.
    pub sync_time: Duration,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(clock::unix_us().unsigned_abs())
}

impl State {
    pub fn new() -> State {
        State {
            nodes: HashMap::from([(ROOT, Node { links: 1, ..Node::new(true, 0o755) })]),
            next: ROOT + 1,
            sequence: 0,
            strict: Names::default(),
            ext4: Names::default(),
            is_cut: false,
            cut_after: None,
            forgets_syncs: false,
            sync_time: Duration::ZERO,
        }
    }

    pub fn names(&self, order: Order) -> &Names {
        match order {
            Order::Strict => &self.strict,
            Order::Ext4 => &self.ext4,
        }
    }

    /// Fails after the cut. Every operation calls this first.
    pub fn alive(&self) -> Result<(), Errno> {
        if self.is_cut { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Counts an operation that changes or syncs something. The power may be cut right before it.
    fn count(&mut self) -> Result<u64, Errno> {
        self.is_cut |= self.cut_after.is_some_and(|last| self.sequence >= last);
        self.alive()?;
        self.sequence += 1;
        Ok(self.sequence)
    }

    pub fn node(&self, number: Number) -> Result<&Node, Errno> {
        self.alive()?;
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub fn node_mut(&mut self, number: Number) -> Result<&mut Node, Errno> {
        self.alive()?;
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub fn lookup(&self, folder: Number, name: &OsStr) -> Result<Number, Errno> {
        let folder = self.node(folder)?;
        folder.entries.get(name).copied().ok_or(if folder.is_folder { Errno::ENOENT } else { Errno::ENOTDIR })
    }

    /// Changes the bytes or the length of a file.
    pub fn change(&mut self, number: Number, change: Change) -> Result<(), Errno> {
        self.node(number)?;
        let sequence = self.count()?;
        let node = self.node_mut(number)?;
        let before = node.content.length();
        node.content.apply(&change);
        if node.content.length() != before {
            node.changed_by = sequence;
        }
        node.changed_at = now();
        node.pending.push((sequence, change));
        Ok(())
    }

    /// Creates a file or a folder.
    pub fn create(
        &mut self,
        folder: Number,
        name: &OsStr,
        is_folder: bool,
        mode: u16,
    ) -> Result<Number, Errno> {
        if self.lookup(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.nodes.insert(number, Node::new(is_folder, mode));
        self.next += 1;
        self.rename_all(number, vec![(folder, name.to_owned(), Some(number))])?;
        Ok(number)
    }

    pub fn link(&mut self, number: Number, folder: Number, name: &OsStr) -> Result<(), Errno> {
        if self.lookup(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.rename_all(number, vec![(folder, name.to_owned(), Some(number))])
    }

    pub fn remove(&mut self, folder: Number, name: &OsStr, is_folder: bool) -> Result<(), Errno> {
        let number = self.lookup(folder, name)?;
        let node = self.node(number)?;
        match (node.is_folder, is_folder) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            _ if !node.entries.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.rename_all(number, vec![(folder, name.to_owned(), None)])
    }

    pub fn rename(
        &mut self,
        (folder, name): (Number, &OsStr),
        (to, new_name): (Number, &OsStr),
        replaces: bool,
    ) -> Result<(), Errno> {
        let number = self.lookup(folder, name)?;
        if let Ok(there) = self.lookup(to, new_name) {
            let (node, there_node) = (self.node(number)?, self.node(there)?);
            match (node.is_folder, there_node.is_folder) {
                _ if !replaces => return Err(Errno::EEXIST),
                _ if number == there => return Ok(()),
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ if !there_node.entries.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        let entries = vec![(folder, name.to_owned(), None), (to, new_name.to_owned(), Some(number))];
        self.rename_all(number, entries)
    }

    /// Makes one change of names: of `number`, and of the file or folder that it replaces.
    fn rename_all(
        &mut self,
        number: Number,
        entries: Vec<(Number, OsString, Option<Number>)>,
    ) -> Result<(), Errno> {
        let sequence = self.count()?;
        for (folder, name, named) in &entries {
            let parent = self.node_mut(*folder)?;
            (parent.changed_by, parent.changed_at) = (sequence, now());
            let before = match named {
                Some(named) => parent.entries.insert(name.clone(), *named),
                None => parent.entries.remove(name),
            };
            for (changed, up) in [(before, false), (*named, true)] {
                if let Some(node) = changed.and_then(|changed| self.nodes.get_mut(&changed)) {
                    node.links = if up { node.links + 1 } else { node.links - 1 };
                    node.changed_by = sequence;
                }
            }
        }
        self.node_mut(number)?.changed_by = sequence;
        let change = NameChange { sequence, entries };
        self.strict.pending.push(change.clone());
        self.ext4.pending.push(change);
        Ok(())
    }

    /// Begins an fsync. What exists now is durable when it ends.
    pub fn begin_sync(&mut self, number: Number) -> Result<SyncPoint, Errno> {
        self.node(number)?;
        let sequence = self.count()?;
        let node = self.node_mut(number)?;
        node.syncs += 1;
        Ok(SyncPoint { number, sequence, changed_by: node.changed_by, content: node.content.clone() })
    }

    pub fn end_sync(&mut self, point: SyncPoint) -> Result<(), Errno> {
        self.alive()?;
        if self.forgets_syncs {
            return Ok(());
        }
        let SyncPoint { number, sequence, changed_by, content } = point;
        self.ext4.sync_up_to(changed_by);
        let node = self.node_mut(number)?;
        if node.is_folder {
            self.strict.sync_folder(number, sequence);
            self.sweep();
        } else if sequence > node.synced_up_to {
            node.on_disk = content;
            node.pending.retain(|(pending, _)| *pending > sequence);
            node.synced_up_to = sequence;
        }
        Ok(())
    }

    /// Makes everything durable, as happens after a minute without activity.
    pub fn settle(&mut self) {
        let sequence = self.sequence;
        self.strict.sync_up_to(sequence);
        self.ext4.sync_up_to(sequence);
        for node in self.nodes.values_mut() {
            node.on_disk = node.content.clone();
            node.pending.clear();
            node.synced_up_to = sequence;
        }
        self.sweep();
    }

    /// Frees everything that has no name anywhere and is not open.
    fn sweep(&mut self) {
        let named: HashSet<Number> = self.strict.named().chain(self.ext4.named()).collect();
        self.nodes.retain(|number, node| node.links > 0 || node.opens > 0 || named.contains(number));
    }
}
