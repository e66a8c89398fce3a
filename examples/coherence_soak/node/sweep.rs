//! Whether a node has what the database has: asked while nobody writes.

use super::cache::Cache;
use super::desk::Desk;
use crate::database::Database;
use crate::orders::Swept;
use cachestack::BoxError;

/// Reads every key, and holds what it got against the rows.
pub(super) async fn sweep(cache: &Cache, database: &Database, desk: &Desk, keys: u64) -> Result<Swept, BoxError> {
    let before = cache.counts();
    let rows = database.versions().await?;
    let mut swept = Swept { owed: cache.owed(), ..Swept::default() };
    let each = |key: u64, read: Result<u64, BoxError>| {
        let row = rows.get(usize::try_from(key)?).copied().ok_or("a key without a row")?;
        let wrong = match read {
            Ok(version) if version >= row => return Ok(()),
            Ok(version) => format!("reads version {version} of key {key}, and its row has {row}"),
            Err(err) => format!("cannot read key {key}: {err}"),
        };
        swept.old += 1;
        swept.example.get_or_insert(wrong);
        Ok(())
    };
    cache.read_all(keys, each).await?;
    desk.leave_out(cache.counts().since(before));
    Ok(swept)
}
