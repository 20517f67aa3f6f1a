//! The places of a shard in the target, with the numbers that the target gives to nodes and epochs.

use std::collections::BTreeMap;

use super::connect::Session;
use super::ddl::LOCK_SQL;
use super::error::Failure;
use crate::ship::rows::ShipStream;
use crate::ship::sink::{EpochId, Known, Places, SinkError};

/// Where rows come from, in the target's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) node: i16,
    pub(super) shard: i16,
    pub(super) epoch: i32,
}

/// An epoch of this shard that the target knows.
#[derive(Clone, Debug)]
pub(super) struct KnownEpoch {
    pub(super) origin: Origin,
    pub(super) places: Places,
    /// Where the epoch began. Rows up to there came in an epoch before.
    pub(super) began: Places,
}

/// The lives of a file that the target knows, as the shipper asked for them.
pub(super) type KnownEpochs = BTreeMap<EpochId, KnownEpoch>;

async fn node_of(session: &Session, folder_id: &str) -> Result<Option<i16>, Failure> {
    let sql = session.prepare("SELECT node FROM fh.node WHERE folder_id = $1").await?;
    Ok(session.client.query_opt(&sql, &[&folder_id]).await?.map(|row| row.get(0)))
}

/// Returns those of the epochs that the target knows, and if it has a place of any shard of the node.
pub(super) async fn known(
    session: &Session,
    folder_id: &str,
    shard: i16,
    epochs: &[EpochId],
) -> Result<(KnownEpochs, bool), Failure> {
    let Some(node) = node_of(session, folder_id).await? else { return Ok((KnownEpochs::new(), false)) };
    let any = session.prepare("SELECT EXISTS (SELECT 1 FROM fh.position WHERE node = $1)").await?;
    let knows_node = session.client.query_one(&any, &[&node]).await?.get(0);
    let ids: Vec<&str> = epochs.iter().map(|epoch| epoch.0.as_str()).collect();
    let sql = "SELECT e.epoch_id, e.epoch, e.node, e.shard, p.stream, p.last, p.began FROM fh.epoch e \
               LEFT JOIN fh.position p ON p.node = e.node AND p.shard = e.shard AND p.epoch = e.epoch \
               WHERE e.epoch_id = ANY ($1)";
    let sql = session.prepare(sql).await?;
    let mut known = KnownEpochs::new();
    for row in session.client.query(&sql, &[&ids]).await? {
        let id = EpochId(row.get(0));
        let (epoch, its_node, its_shard): (i32, i16, i16) = (row.get(1), row.get(2), row.get(3));
        if (its_node, its_shard) != (node, shard) {
            return Err(Failure::lasting(format!(
                "the target has the epoch {} of shard {shard} as that of node {its_node}, shard {its_shard}: \
                 two data folders contain the same file",
                id.0
            )));
        }
        let origin = Origin { node, shard, epoch };
        let entry = known.entry(id).or_insert_with(|| KnownEpoch {
            origin,
            places: Places::new(),
            began: Places::new(),
        });
        let stream: Option<String> = row.get(4);
        let Some(stream) = stream.as_deref().and_then(ShipStream::parse) else { continue };
        let (last, began): (i64, i64) = (row.get(5), row.get(6));
        if last > 0 {
            entry.places.insert(stream, last);
        }
        if began > 0 {
            entry.began.insert(stream, began);
        }
    }
    Ok((known, knows_node))
}

impl KnownEpoch {
    pub(super) fn into_known(epochs: &KnownEpochs, knows_node: bool) -> Known {
        let epochs = epochs.iter().map(|(id, epoch)| (id.clone(), epoch.places.clone())).collect();
        Known { epochs, knows_node }
    }
}

/// Begins an epoch, unless the target knows it. Gives a number to a node that is new.
pub(super) async fn begin(
    session: &Session,
    folder_id: &str,
    shard: i16,
    epoch: &EpochId,
    starts: &Places,
) -> Result<(), Failure> {
    session.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    session.client.batch_execute(LOCK_SQL).await?;
    let node = match node_of(session, folder_id).await? {
        Some(node) => node,
        None => {
            let sql = "INSERT INTO fh.node (folder_id) VALUES ($1) RETURNING node";
            session.client.query_one(sql, &[&folder_id]).await?.get(0)
        }
    };
    let sql = "SELECT EXISTS (SELECT 1 FROM fh.epoch WHERE epoch_id = $1)";
    let is_known: bool = session.client.query_one(sql, &[&epoch.0]).await?.get(0);
    if !is_known {
        let sql = "INSERT INTO fh.epoch (epoch_id, node, shard) VALUES ($1, $2, $3) RETURNING epoch";
        let number: i32 = session.client.query_one(sql, &[&epoch.0, &node, &shard]).await?.get(0);
        for stream in ShipStream::ALL {
            let start = starts.get(&stream).copied().unwrap_or_default();
            let sql = "INSERT INTO fh.position (node, shard, epoch, stream, last, began) \
                       VALUES ($1, $2, $3, $4, $5, $5)";
            session.client.execute(sql, &[&node, &shard, &number, &stream.as_str(), &start]).await?;
        }
    }
    session.client.batch_execute("COMMIT").await?;
    Ok(())
}

/// Locks a place until the transaction ends, and compares it with that before the batch.
pub(super) async fn lock(
    session: &Session,
    origin: &Origin,
    stream: ShipStream,
    after: i64,
) -> Result<(), Failure> {
    let sql = "SELECT last FROM fh.position WHERE node = $1 AND shard = $2 AND epoch = $3 AND stream = $4 \
               FOR UPDATE";
    let sql = session.prepare(sql).await?;
    let Origin { node, shard, epoch } = origin;
    let row = session.client.query_opt(&sql, &[node, shard, epoch, &stream.as_str()]).await?;
    let at = row.map(|row| row.get::<_, i64>(0));
    let name = stream.as_str();
    match at {
        Some(at) if at == after => Ok(()),
        Some(at) => {
            let reason = format!("{name} of shard {shard} is at {at}, and {after} was expected");
            Err(Failure::Sink(SinkError::Moved(reason)))
        }
        None => Err(Failure::Sink(SinkError::Moved(format!("{name} of shard {shard} has no place")))),
    }
}

/// Locks the places of all streams of the shard until the transaction ends, which waits for every batch under way.
pub(super) async fn lock_all(session: &Session, origin: &Origin) -> Result<(), Failure> {
    let sql = "SELECT last FROM fh.position WHERE node = $1 AND shard = $2 ORDER BY epoch, stream FOR UPDATE";
    let sql = session.prepare(sql).await?;
    session.client.query(&sql, &[&origin.node, &origin.shard]).await?;
    Ok(())
}

/// Moves a place that is locked.
pub(super) async fn advance(
    session: &Session,
    origin: &Origin,
    stream: ShipStream,
    (after, last): (i64, i64),
) -> Result<(), Failure> {
    let sql = "UPDATE fh.position SET last = $5, at = now() \
               WHERE node = $1 AND shard = $2 AND epoch = $3 AND stream = $4 AND last = $6";
    let sql = session.prepare(sql).await?;
    let Origin { node, shard, epoch } = origin;
    let moved = session.client.execute(&sql, &[node, shard, epoch, &stream.as_str(), &last, &after]).await?;
    match moved {
        1 => Ok(()),
        _ => Err(Failure::Sink(SinkError::Moved(format!("{} of shard {shard}", stream.as_str())))),
    }
}
