//! What a node of a cluster answers in place of a result.

use super::slots::Endpoint;
use redis::RedisError;

/// Where a command should go, or whether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot has moved for good.
    Moved { slot: u16, to: Endpoint },
    /// The slot is on the move, and this key has moved already.
    Ask { to: Endpoint },
    /// The slot is on the move, and the keys of the command are on both sides.
    TryAgain,
    /// The cluster does not serve the slot, or the node does not serve yet.
    Down,
}

impl Redirect {
    /// `asked` is whom the answer is from: a node may name an endpoint without a host, which means its own.
    pub(crate) fn parse(err: &RedisError, asked: &Endpoint) -> Option<Self> {
        match err.code()? {
            "MOVED" => {
                let (slot, to) = target(err.detail()?, asked)?;
                Some(Self::Moved { slot, to })
            }
            "ASK" => Some(Self::Ask { to: target(err.detail()?, asked)?.1 }),
            "TRYAGAIN" => Some(Self::TryAgain),
            "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" => Some(Self::Down),
            _ => None,
        }
    }
}

/// `3999 127.0.0.1:6381`; the host may be empty, or an IPv6 address without brackets.
fn target(detail: &str, asked: &Endpoint) -> Option<(u16, Endpoint)> {
    let (slot, at) = detail.trim().split_once(' ')?;
    let (host, port) = at.rsplit_once(':')?;
    let slot = slot.parse().ok().filter(|slot| usize::from(*slot) < super::slots::SLOTS)?;
    Some((slot, asked.beside(host, port.parse().ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis::make_extension_error;

    fn parsed(code: &str, detail: &str) -> Option<Redirect> {
        let err = make_extension_error(code.to_owned(), Some(detail.to_owned()));
        Redirect::parse(&err, &Endpoint::new("asked", 7))
    }

    #[test]
    fn a_slot_that_moved_names_its_new_node() {
        let moved = |host: &str, port| Some(Redirect::Moved { slot: 3999, to: Endpoint::new(host, port) });
        assert_eq!(parsed("MOVED", "3999 127.0.0.1:6381"), moved("127.0.0.1", 6381));
        assert_eq!(parsed("MOVED", "3999 ::1:6381"), moved("::1", 6381));
        assert_eq!(parsed("MOVED", "3999 redis-0.example.org:6381"), moved("redis-0.example.org", 6381));
        assert_eq!(parsed("MOVED", "3999 :6381"), moved("asked", 6381), "a node that does not know its host");
        assert_eq!(parsed("ASK", "3999 127.0.0.1:6381"), Some(Redirect::Ask { to: Endpoint::new("127.0.0.1", 6381) }));
    }

    #[test]
    fn a_slot_on_the_move_and_a_cluster_that_is_down_are_told_from_errors() {
        assert_eq!(parsed("TRYAGAIN", "Multiple keys request during rehashing of slot"), Some(Redirect::TryAgain));
        assert_eq!(parsed("CLUSTERDOWN", "Hash slot not served"), Some(Redirect::Down));
        assert_eq!(parsed("ERR", "MOVED 1 a:1"), None);
    }

    proptest! {
        #[test]
        fn hostile_text_is_no_redirect_and_no_panic(code in "MOVED|ASK", detail in ".{0,40}") {
            if let Some(Redirect::Moved { slot, .. }) = parsed(&code, &detail) {
                prop_assert!(slot < 16_384);
            }
        }
    }
}
