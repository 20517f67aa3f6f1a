//! The file system, with the interface that the kernel calls.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use firehose::base::clock;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::Change;
use super::names::Number;
use super::state::State;
use super::{Guarded, locked};

/// How long the kernel caches names. Only the kernel changes them, so its copies remain correct.
const NAMES_KNOWN_FOR: Duration = Duration::from_secs(3600);
/// How long the kernel caches attributes. It requests them each time, because a link or an unlink changes them.
const ATTRIBUTES_KNOWN_FOR: Duration = Duration::ZERO;

/// The entries of a folder that is being listed, as they were when the listing began.
type Listing = Vec<(Number, FileType, OsString)>;

pub struct Device {
    state: Arc<Guarded<State>>,
    listings: Guarded<HashMap<u64, Listing>>,
}

impl Device {
    pub fn new(state: Arc<Guarded<State>>) -> Device {
        Device { state, listings: Guarded::default() }
    }

    /// Performs an operation on a file and returns its attributes afterwards.
    fn attributes_after(
        &self,
        act: impl FnOnce(&mut State) -> Result<Number, Errno>,
    ) -> Result<FileAttr, Errno> {
        let mut state = locked(&self.state);
        let number = act(&mut state)?;
        attributes(&state, number)
    }

    /// Syncs a file or folder. The sync takes the device's time for it, and the device serves other requests
    /// meanwhile.
    fn sync(&self, number: Number, reply: ReplyEmpty) {
        let (takes_time, begun) = {
            let mut state = locked(&self.state);
            (!state.sync_time.is_zero(), state.begin_sync(number))
        };
        let point = match begun {
            Ok(point) => point,
            Err(error) => return reply.error(error),
        };
        let (state, began) = (self.state.clone(), clock::now());
        let end = move || {
            while clock::now() - began < locked(&state).sync_time {
                clock::pause(Duration::from_millis(1));
            }
            let ended = locked(&state).end_sync(point);
            finish(reply, ended);
        };
        if takes_time {
            std::thread::spawn(end);
        } else {
            end();
        }
    }
}

fn attributes(state: &State, number: Number) -> Result<FileAttr, Errno> {
    let node = state.node(number)?;
    Ok(FileAttr {
        ino: INodeNo(number),
        size: node.content.length(),
        blocks: node.content.length().div_ceil(512),
        atime: node.changed_at,
        mtime: node.changed_at,
        ctime: node.changed_at,
        crtime: UNIX_EPOCH,
        kind: kind(node.is_folder),
        perm: node.mode,
        nlink: if node.is_folder { 2 } else { node.links },
        // The process that mounts is root, if necessary in its own namespace.
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn kind(is_folder: bool) -> FileType {
    if is_folder { FileType::Directory } else { FileType::RegularFile }
}

fn finish(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn finish_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => {
            reply.entry_with_ttls(&ATTRIBUTES_KNOWN_FOR, &NAMES_KNOWN_FOR, &attributes, Generation(0));
        }
        Err(error) => reply.error(error),
    }
}

fn finish_attributes(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&ATTRIBUTES_KNOWN_FOR, &attributes),
        Err(error) => reply.error(error),
    }
}

fn permissions(mode: u32, umask: u32) -> u16 {
    (mode & !umask & 0o7777) as u16
}

impl Filesystem for Device {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        finish_entry(reply, self.attributes_after(|state| state.lookup(parent.0, name)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        finish_attributes(reply, self.attributes_after(|_| Ok(number.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let result = self.attributes_after(|state| {
            if let Some(mode) = mode {
                state.node_mut(number.0)?.mode = permissions(mode, 0);
            }
            if let Some(size) = size {
                state.change(number.0, Change::Resize(size))?;
            }
            Ok(number.0)
        });
        finish_attributes(reply, result);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mode = permissions(mode, umask);
        finish_entry(reply, self.attributes_after(|state| state.create(parent.0, name, true, mode)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(reply, locked(&self.state).remove(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(reply, locked(&self.state).remove(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        let replaces = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        finish(reply, locked(&self.state).rename((parent.0, name), (to.0, new_name), replaces));
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let result = self.attributes_after(|state| state.link(number.0, parent.0, name).map(|()| number.0));
        finish_entry(reply, result);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let result = self.attributes_after(|state| {
            let number = state.create(parent.0, name, false, permissions(mode, umask))?;
            state.node_mut(number)?.opens += 1;
            Ok(number)
        });
        match result {
            // The kernel caches names longer than attributes, and must request the attributes again.
            Ok(attributes) => reply.created(
                &ATTRIBUTES_KNOWN_FOR,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match locked(&self.state).node_mut(number.0) {
            Ok(node) => {
                node.opens += 1;
                reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Ok(node) = locked(&self.state).node_mut(number.0) {
            node.opens = node.opens.saturating_sub(1);
        }
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match locked(&self.state).node(number.0) {
            Ok(node) => reply.data(&node.content.read(offset, size.into())),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let change = Change::Write { offset, bytes: data.into() };
        match locked(&self.state).change(number.0, change) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        const ZEROES: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
        if mode & !(ZEROES | libc::FALLOC_FL_KEEP_SIZE) != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut state = locked(&self.state);
        let mut result = state.alive();
        if mode & ZEROES != 0 {
            result = result.and_then(|()| state.change(number.0, Change::Zero { offset, length }));
        }
        let is_longer = state.node(number.0).is_ok_and(|node| node.content.length() < offset + length);
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 && is_longer {
            result = result.and_then(|()| state.change(number.0, Change::Resize(offset + length)));
        }
        finish(reply, result);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        finish(reply, locked(&self.state).alive());
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(number.0, reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync(number.0, reply);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listing = {
            let state = locked(&self.state);
            state.node(number.0).map(|folder| {
                let own = [
                    (number.0, FileType::Directory, ".".into()),
                    (number.0, FileType::Directory, "..".into()),
                ];
                let entries = folder.entries.iter().map(|(name, number)| {
                    let is_folder = state.nodes.get(number).is_some_and(|node| node.is_folder);
                    (*number, kind(is_folder), name.clone())
                });
                own.into_iter().chain(entries).collect()
            })
        };
        match listing {
            Ok(listing) => {
                let mut listings = locked(&self.listings);
                let handle = listings.keys().max().map_or(1, |newest| newest + 1);
                listings.insert(handle, listing);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = locked(&self.listings);
        let listing = listings.get(&handle.0).map_or(&[][..], Vec::as_slice);
        for (index, (number, kind, name)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*number), index as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        locked(&self.listings).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        const BLOCKS: u64 = 1 << 30;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 4096, 255, 4096);
    }
}
