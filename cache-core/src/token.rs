//! The lease token: unique to each load, never reused.

use crate::mutant::{Mutant, is};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sixteen bytes that name one load's lease, and later the value it stored.
///
/// Unique for each *load*: a token for each client has an ABA hole, where the second load of a process takes the lease
/// after an invalidation and the first one's fill passes the comparison (the fault found in rueidisaside).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token([u8; 16]);

impl Token {
    /// A token no other load in any process has: ten random bytes of this process, then a count.
    ///
    /// # Panics
    /// If the operating system has no random bytes to give.
    pub fn unique() -> Self {
        static PROCESS: OnceLock<[u8; 10]> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let process = PROCESS.get_or_init(|| {
            let mut bytes = [0; 10];
            getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
            bytes
        });
        let mut token = [0; 16];
        token[..10].copy_from_slice(process);
        let one_more = u64::from(!is(Mutant::TokenPerProcess));
        token[10..].copy_from_slice(&COUNT.fetch_add(one_more, Ordering::Relaxed).to_be_bytes()[2..]);
        Self(token)
    }

    /// A token from its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:032x})", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_loads_share_a_token() {
        let first = Token::unique();
        let second = Token::unique();
        assert_ne!(first, second);
        assert_eq!(first.0[..10], second.0[..10]);
    }
}
