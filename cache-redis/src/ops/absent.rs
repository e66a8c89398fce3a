//! Set if absent.

use super::foreign;
use crate::tier::RedisTier;
use cache_core::record::millis;
use cache_core::{Acquire, Acquired, Claim, Error, ErrorKind, Fill, Filled, Put, RemoteKey, RemoteTier, Result};
use std::time::Duration;

impl RedisTier {
    /// Stores a value if the key has none: absent, invalidated, or past its hard life. `true` if it was stored; `false` if
    /// there is one, or a load or an announced write is about to bring one. Of many callers at once one stores.
    ///
    /// It is an acquire of the vacant key and a fill, so all that holds for a load's value holds for this one: an invalidation in
    /// between refuses it, and it must reach the floor of a versioned key. Two round trips, each within the timeout. Of `put`, the token must
    /// never have been used before; `retain` is how long a floor is remembered, as for an acquire.
    ///
    /// Cancelled in between, it leaves the key leased for up to twice the tier's timeout, during which others wait.
    ///
    /// ```no_run
    /// # async fn example(tier: cache_redis::RedisTier, body: cache_core::record::Body) -> cache_core::Result<()> {
    /// use cache_core::{Namespace, Put, Token};
    /// use std::time::Duration;
    ///
    /// let key = Namespace::new("shop", "greeting")?.key("de");
    /// let put = Put { token: Token::unique(), version: 0, age: Duration::ZERO, body };
    /// let first = tier.insert_absent(&key, &put, Duration::from_secs(60)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Refused`]: the key was invalidated or written meanwhile, or the version is below its floor.
    /// [`ErrorKind::Foreign`]: what stands under the key is not ours; it was left as it is. Otherwise as
    /// [`RemoteTier::fill`]; what became of the value is then not known.
    pub async fn insert_absent(&self, key: &RemoteKey, put: &Put, retain: Duration) -> Result<bool> {
        let Put { token, version, age, ref body } = *put;
        // Before the lease, so that a value that cannot be stored takes none.
        self.check_size(body)?;
        let (schema, generation) = (body.schema, body.generation);
        // As long as the fill may take, which ends within one timeout, and as long again.
        let lease = self.config().timeout.saturating_mul(2);
        self.note(key.as_bytes(), retain);
        let granted = match self.acquire(key, &Acquire { token, lease, retain, claim: Claim::Vacant, schema, generation }).await?
        {
            Acquired::Granted { at, .. } => at,
            Acquired::Hit | Acquired::Busy(_) | Acquired::Newer => return Ok(false),
            Acquired::Foreign => return Err(foreign()),
        };
        let created = granted.saturating_sub(millis(age));
        let filled = self.fill(key, &Fill { token, version, created, body: body.clone() }).await;
        if !matches!(filled, Ok(Filled::Stored | Filled::LeaseLost)) {
            // Or others would wait for the lease's end. If the fill has landed all the same, there is no lease to give back.
            let _ = self.release(key, token).await;
        }
        match filled? {
            Filled::Stored => Ok(true),
            Filled::LeaseLost => Err(Error::new(ErrorKind::Refused, "the key was invalidated or written meanwhile")),
            Filled::TooOld => Err(Error::new(ErrorKind::Refused, "the value is older than what is known of the key")),
        }
    }
}
