//! Interprets one page of a SQLite file according to the file format: which of its bytes are in use, and which are
//! remains of earlier content.

use std::ops::Range;

/// A page whose content contradicts its position or itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The bytes of one cell that are on other pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) first_page: u32,
    pub(super) bytes: usize,
}

/// The length of the file's header, which precedes the header of the first page.
pub(super) const FILE_HEADER_BYTES: usize = 100;
const INDEX_INTERIOR: u8 = 2;
const TABLE_INTERIOR: u8 = 5;
const INDEX_LEAF: u8 = 10;
const TABLE_LEAF: u8 = 13;
/// The minimum size of a cell.
const CELL_BYTES_MIN: usize = 4;
/// The header of a free block: the next block, and its own length.
const FREE_BLOCK_HEADER_BYTES: usize = 4;

/// Returns `true` if the page may belong to a b-tree.
pub(super) fn is_tree(page: &[u8], header: usize) -> bool {
    matches!(page.get(header), Some(&(INDEX_INTERIOR | TABLE_INTERIOR | INDEX_LEAF | TABLE_LEAF)))
}

pub(super) fn u16_at(page: &[u8], at: usize) -> Option<usize> {
    let bytes = page.get(at..)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*bytes)))
}

pub(super) fn u32_at(page: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*page.get(at..)?.first_chunk::<4>()?))
}

/// Sets the bytes of a range to zero. Returns `true` if any of them was not zero.
pub(super) fn wipe(page: &mut [u8], range: Range<usize>) -> bool {
    let Some(bytes) = page.get_mut(range) else { return false };
    let was_dirty = bytes.iter().any(|byte| *byte != 0);
    bytes.fill(0);
    was_dirty
}

/// Overwrites the unused bytes of a b-tree page: between the cells, in free blocks, and after the list of cells. The
/// page's header begins at `header`; SQLite uses `usable` bytes of the page. Returns `true` if any byte changed. Adds
/// the parts of its cells that are on other pages to `overflows`.
pub(super) fn wipe_unused(
    page: &mut [u8],
    header: usize,
    usable: usize,
    overflows: &mut Vec<Overflow>,
) -> Result<bool, Malformed> {
    let mut used = used(page, header, usable, overflows).ok_or(Malformed)?;
    used.sort_unstable_by_key(|range| range.start);
    let (mut was_dirty, mut end) = (false, 0);
    // Everything is checked before anything is changed.
    for range in &used {
        if range.start < end || range.end > usable {
            return Err(Malformed);
        }
        end = range.end;
    }
    end = 0;
    for range in used {
        was_dirty |= wipe(page, end..range.start);
        end = range.end;
    }
    Ok(was_dirty | wipe(page, end..usable))
}

/// Returns every range in use, or `None` if the page contradicts itself.
fn used(
    page: &[u8],
    header: usize,
    usable: usize,
    overflows: &mut Vec<Overflow>,
) -> Option<Vec<Range<usize>>> {
    let kind = *page.get(header)?;
    let is_interior = matches!(kind, INDEX_INTERIOR | TABLE_INTERIOR);
    let is_index = matches!(kind, INDEX_INTERIOR | INDEX_LEAF);
    let list = header + if is_interior { 12 } else { 8 };
    let cells = u16_at(page, header + 3)?;
    let mut used = Vec::with_capacity(cells + 2);
    used.push(0..list + 2 * cells);
    for number in 0..cells {
        let start = u16_at(page, list + 2 * number)?;
        let mut at = start;
        if is_interior {
            at += 4;
        }
        if kind == TABLE_INTERIOR {
            let (_, length) = varint(page, at)?;
            used.push(start..start + (at + length - start).max(CELL_BYTES_MIN));
            continue;
        }
        let (payload, length) = varint(page, at)?;
        at += length;
        if kind == TABLE_LEAF {
            at += varint(page, at)?.1;
        }
        let payload = usize::try_from(payload).ok()?;
        let local = local(payload, usable, is_index);
        at += local;
        if local < payload {
            overflows.push(Overflow { first_page: u32_at(page, at)?, bytes: payload - local });
            at += 4;
        }
        used.push(start..start + (at - start).max(CELL_BYTES_MIN));
    }
    let (mut block, mut left) = (u16_at(page, header + 1)?, usable / FREE_BLOCK_HEADER_BYTES);
    while block != 0 {
        // The block's body is unused.
        used.push(block..block + FREE_BLOCK_HEADER_BYTES);
        left = left.checked_sub(1)?;
        block = u16_at(page, block)?;
    }
    Some(used)
}

/// Returns how many bytes of a payload are in its cell.
fn local(payload: usize, usable: usize, is_index: bool) -> usize {
    let most = if is_index { (usable - 12) * 64 / 255 - 23 } else { usable - 35 };
    if payload <= most {
        return payload;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let fits = least + (payload - least) % (usable - 4);
    if fits <= most { fits } else { least }
}

/// Reads a number of one to nine bytes. Returns it with its length.
fn varint(page: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    for length in 0..9 {
        let byte = *page.get(at + length)?;
        if length == 8 {
            return Some((number << 8 | u64::from(byte), 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((number, length + 1));
        }
    }
    None
}
