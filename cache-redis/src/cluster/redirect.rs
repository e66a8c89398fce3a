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
    /// The cluster does not serve the slot, the node does not serve yet or no longer, or it names no node that could be one. The map
    /// is in doubt.
    Down,
}

impl Redirect {
    /// `asked` is whom the answer is from: a node may name an endpoint without a host, which means its own.
    pub(crate) fn parse(err: &RedisError, asked: &Endpoint) -> Option<Self> {
        match err.code()? {
            "MOVED" => Some(target(err, asked).map_or(Self::Down, |(slot, to)| Self::Moved { slot, to })),
            "ASK" => Some(target(err, asked).map_or(Self::Down, |(_, to)| Self::Ask { to })),
            "TRYAGAIN" => Some(Self::TryAgain),
            "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" => Some(Self::Down),
            _ => None,
        }
    }
}

/// `3999 127.0.0.1:6381`; the host may be empty, or an IPv6 address without brackets.
fn target(err: &RedisError, asked: &Endpoint) -> Option<(u16, Endpoint)> {
    let (slot, at) = err.detail()?.trim().split_once(' ')?;
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
        for code in ["LOADING", "MASTERDOWN", "READONLY"] {
            assert_eq!(parsed(code, "whatever it says"), Some(Redirect::Down));
        }
        assert_eq!(parsed("ERR", "MOVED 1 a:1"), None);
    }

    #[test]
    fn a_redirect_to_nowhere_puts_the_map_in_doubt() {
        let long = format!("1 {}:1", "a".repeat(256));
        for detail in
            ["", "1", "1 a", "1 a:", "1 a:0", "1 a:65536", "16384 a:1", "-1 a:1", "1 ?:6379", "1 a b:1", "1 a\r\n:1", &long]
        {
            assert_eq!(parsed("MOVED", detail), Some(Redirect::Down), "{detail}");
            assert_eq!(parsed("ASK", detail), Some(Redirect::Down), "{detail}");
        }
        let bare = make_extension_error("MOVED".to_owned(), None);
        assert_eq!(Redirect::parse(&bare, &Endpoint::new("asked", 7)), Some(Redirect::Down));
    }

    #[test]
    fn a_redirect_from_the_wire_is_read() {
        let err = redis::parse_redis_value(b"-MOVED 3999 127.0.0.1:6381\r\n").unwrap().extract_error().unwrap_err();
        let to = Endpoint::new("127.0.0.1", 6381);
        assert_eq!(Redirect::parse(&err, &Endpoint::new("asked", 7)), Some(Redirect::Moved { slot: 3999, to }));
    }

    proptest! {
        #[test]
        fn hostile_text_leads_to_no_slot_that_is_none_and_no_panic(code in "MOVED|ASK", detail in "([0-9]{1,5} )?.{0,40}(:[0-9]{1,5})?") {
            let redirect = parsed(&code, &detail);
            prop_assert!(redirect.is_some());
            if let Some(Redirect::Moved { slot, .. }) = redirect {
                prop_assert!(slot < 16_384);
            }
        }

        #[test]
        fn what_a_node_may_say_is_read(slot in 0_u16..16_384, host in "[a-z0-9._:-]{1,60}", port in 1_u16..) {
            let to = Endpoint::new(&host, port);
            prop_assert_eq!(parsed("MOVED", &format!("{slot} {host}:{port}")), Some(Redirect::Moved { slot, to }));
        }
    }
}
