//! What a write leaves in the hand of who made it: read-your-writes across nodes.

use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::remote::Receipt;
use std::fmt;
use std::str::FromStr;

/// Proof of a write or an invalidation, to be handed to a later read, on this node or another: it then returns nothing older.
///
/// As text it fits a cookie or a header: `Display` and [`FromStr`] go back and forth. It tells a partition's number and how many writes that has seen,
/// no key. Bytes that nobody's write made are refused or cost a read of L2; they show nobody anything.
///
/// ```
/// # use cache_core::{EmbeddedTier, TieredCache, WriteToken};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = EmbeddedTier::new();
/// let node = || TieredCache::<u64, u64>::builder("n").l2(store.as_another_node()).origin(|id: u64| async move { Ok::<_, std::io::Error>(id) }).build();
/// let (one, other) = (node()?, node()?);
/// let token = one.invalidate(&7).await?;
/// let cookie = token.to_string();
/// let token: WriteToken = cookie.parse()?;
/// assert_eq!(other.load_after(&7, &token).await?.value, 7);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct WriteToken {
    /// `None`: its place is not known, so nothing covers it.
    receipt: Option<Receipt>,
}

impl WriteToken {
    pub(crate) fn new(receipts: &[Receipt]) -> Self {
        Self { receipt: receipts.first().copied() }
    }

    /// Of a key in this partition, told with keys of others.
    pub(crate) fn of(partition: Partition, receipts: &[Receipt]) -> Self {
        Self { receipt: receipts.iter().find(|receipt| receipt.partition == partition).copied() }
    }

    pub(crate) fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }
}

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.receipt {
            Some(Receipt { partition, incarnation, sequence }) => {
                write!(f, "{:x}.{incarnation:x}.{sequence:x}", partition.index())
            }
            None => f.write_str("-"),
        }
    }
}

impl FromStr for WriteToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "-" {
            return Ok(Self::default());
        }
        let number = |part: Option<&str>| {
            let digits = part.filter(|part| part.len() <= 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
        };
        let mut parts = text.split('.');
        let receipt = (|| {
            let partition = Partition::from_index(u8::try_from(number(parts.next())?).ok()?);
            Some(Receipt { partition, incarnation: number(parts.next())?, sequence: number(parts.next())? })
        })();
        match (receipt, parts.next()) {
            (Some(receipt), None) => Ok(Self { receipt: Some(receipt) }),
            _ => Err(Error::config("this is no write token")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_go_through_text(index in any::<u8>(), incarnation in any::<u64>(), sequence in any::<u64>()) {
            let token = WriteToken::new(&[Receipt { partition: Partition::from_index(index), incarnation, sequence }]);
            prop_assert_eq!(token.to_string().parse::<WriteToken>().unwrap(), token);
        }

        #[test]
        fn h5_any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<WriteToken>();
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        assert_eq!("-".parse::<WriteToken>().unwrap(), WriteToken::default());
        for text in ["", ".", "1.2", "1.2.3.4", "100.1.1", "1.2.+3", "1.2.11112222333344445"] {
            assert!(text.parse::<WriteToken>().is_err(), "{text}");
        }
    }
}
