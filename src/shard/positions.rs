//! The last committed record of each lane.

use rusqlite::Connection;

use super::commit_page::{self, POSITION, PageKey};
use super::error::ShardError;
use crate::base::ids::{LaneId, Sequence};

/// The applied position of every lane.
#[derive(Clone, Debug)]
pub(super) struct Positions([Sequence; LaneId::COUNT_MAX as usize]);

impl Positions {
    pub(super) fn load(connection: &Connection) -> Result<Positions, ShardError> {
        let mut positions = Positions([Sequence::NONE; LaneId::COUNT_MAX as usize]);
        let mut statement = connection.prepare("SELECT lane, sequence FROM journal_position")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (lane, sequence): (i64, i64) = (row.get(0)?, row.get(1)?);
            let slot = usize::try_from(lane).ok().and_then(|lane| positions.0.get_mut(lane));
            let (Some(slot), Ok(sequence)) = (slot, u64::try_from(sequence)) else {
                return Err(ShardError::Corrupt(format!("lane {lane} is at {sequence}")));
            };
            *slot = Sequence(sequence);
        }
        Ok(positions)
    }

    pub(super) fn get(&self, lane: LaneId) -> Sequence {
        self.0.get(usize::from(lane.0)).copied().unwrap_or(Sequence::NONE)
    }

    pub(super) fn list(&self) -> Vec<(LaneId, Sequence)> {
        let seen = self.0.iter().enumerate().filter(|(_, sequence)| **sequence > Sequence::NONE);
        seen.map(|(lane, sequence)| (LaneId(lane as u8), *sequence)).collect()
    }

    pub(super) fn slot(&mut self, lane: LaneId) -> Result<&mut Sequence, ShardError> {
        let slot = self.0.get_mut(usize::from(lane.0));
        slot.ok_or_else(|| ShardError::Other(format!("there is no lane {}", lane.0)))
    }
}

/// Writes the last record of a lane.
pub(super) fn save(transaction: &Connection, lane: LaneId, last: Sequence) -> Result<(), ShardError> {
    commit_page::set(transaction, PageKey::new(POSITION, "", i64::from(lane.0)), last.0 as i64, None)
}

/// Returns the last record of each lane that the shard has stored.
pub fn journal_positions(connection: &Connection) -> Result<Vec<(LaneId, Sequence)>, ShardError> {
    Ok(Positions::load(connection)?.list())
}
