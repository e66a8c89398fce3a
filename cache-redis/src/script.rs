//! The Lua scripts: their text, their digests, and one way to run them.

use crate::multiplexer::Request;
use bytes::Bytes;
use redis::Cmd;
use std::str::FromStr;
use std::sync::LazyLock;

/// A script and the digest that Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    digest: String,
    /// Whether the last of its arguments is the server's history.
    sequences: bool,
}

/// The scripts by name, each with the files that it is made of. `sequencing` is said of those whose last argument is the server's history.
macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident: $($file:literal)+ $(, $sequencing:ident)?;)+) => {
        /// All of the tier's scripts.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $($(#[$doc])* pub(crate) $name: Script,)+
        }

        /// Their texts are joined and digested once a process.
        pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: Script::new(concat!($(include_str!(concat!("scripts/", $file, ".lua")), "\n"),+))$(.$sequencing())?,)+
        });

        impl Scripts {
            fn all(&self) -> impl Iterator<Item = &Script> {
                [$(&self.$name),+].into_iter()
            }
        }
    };
}

scripts! {
    acquire: "time" "read" "lease" "kind" "head" "outlives" "acquire" "each";
    fill: "read" "fill" "each";
    release: "time" "read" "head" "release";
    invalidate: "untold" "seldom" "moment" "read" "kind" "head" "reaches" "outlives" "invalidate" "seldom_end" "invalidations";
    put: "time" "read" "kind" "head" "reaches" "outlives" "put" "value";
    /// The same, with which others are told.
    invalidate_told:
        "told" "stamp" "seldom" "moment" "read" "kind" "head" "reaches" "outlives" "invalidate" "seldom_end" "invalidations",
        sequencing;
    put_told:
        "time" "read" "kind" "head" "reaches" "outlives" "stamp" "tell" "put_begin" "put" "value" "put_told", sequencing;
    begin: "time" "begin", sequencing;
    mark: "time" "read" "kind" "head" "outlives" "marks" "mark";
    unmark: "moment" "read" "kind" "head" "reaches" "outlives" "marks" "invalidate" "unmark" "letter";
    unmark_told:
        "moment" "read" "kind" "head" "reaches" "outlives" "marks" "invalidate" "unmark" "stamp" "tell" "letter_told", sequencing;
    increment: "time" "increment";
    reset: "time" "reset";
    remaining: "time" "read" "kind" "head" "lives" "remaining";
    touch: "time" "read" "kind" "head" "lives" "touch";
    writable: "writable";
}

/// A script's call, which may go together with others' to the same script: see each.lua and invalidations.lua.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Each<'a> {
    pub(crate) verb: Verb,
    /// The keys of all calls that have one come before any others.
    pub(crate) first: Option<&'a [u8]>,
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) arguments: &'a [&'a [u8]],
}

/// Which script that is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Acquire,
    Fill,
    /// Any number of keys a call. Nobody is told.
    Invalidate,
    /// The same of one partition, with its meta key, and others are told.
    InvalidateTold,
}

impl Each<'_> {
    /// How many scripts there are of that kind.
    pub(crate) const KINDS: usize = 4;

    /// Which of them it is.
    pub(crate) fn kind(&self) -> usize {
        self.verb as usize
    }

    pub(crate) fn script(&self) -> &'static Script {
        match self.verb {
            Verb::Acquire => &SCRIPTS.acquire,
            Verb::Fill => &SCRIPTS.fill,
            Verb::Invalidate => &SCRIPTS.invalidate,
            Verb::InvalidateTold => &SCRIPTS.invalidate_told,
        }
    }

    /// Whether behind the arguments of all calls there is the server's history, which nobody looks at where nobody is told.
    pub(crate) fn ends_with_history(&self) -> bool {
        matches!(self.verb, Verb::Invalidate | Verb::InvalidateTold)
    }

    /// Whether that has to be known.
    pub(crate) fn needs_history(&self) -> bool {
        matches!(self.verb, Verb::InvalidateTold)
    }

    /// How many keys there are in all.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len() + usize::from(self.first.is_some())
    }

    /// The same as a command to a server of this history.
    pub(crate) fn cmd(&self, history: u64) -> Cmd {
        let mut cmd = self.script().call(self.key_count());
        cmd.arg(self.first).arg(self.keys).arg(self.arguments);
        if self.ends_with_history() {
            cmd.arg(&history.to_be_bytes());
        }
        cmd
    }
}

/// What a script answers that has looked at the clock, in one string: `seconds microseconds word`, and behind a further blank what the word needs.
///
/// One string costs Redis half of what a list of three does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The server's time.
    pub(crate) now_us: i64,
    pub(crate) word: Bytes,
    /// Any bytes at all; empty if there are none.
    pub(crate) detail: Bytes,
}

impl Answer {
    /// `None` if it is not written as a script of ours would.
    pub(crate) fn parse(answer: &Bytes) -> Option<Self> {
        let mut parts = answer.splitn(4, |byte| *byte == b' ');
        let (seconds, micros) = (digits::<i64>(parts.next()?)?, digits::<i64>(parts.next()?)?);
        let word = parts.next().filter(|word| !word.is_empty() && word.iter().all(u8::is_ascii_lowercase))?;
        let now_us = seconds.checked_mul(1_000_000)?.checked_add(Some(micros).filter(|micros| *micros < 1_000_000)?)?;
        Some(Self { now_us, word: answer.slice_ref(word), detail: answer.slice_ref(parts.next().unwrap_or_default()) })
    }
}

/// A number of decimal digits and nothing else.
pub(crate) fn digits<T: FromStr>(text: &[u8]) -> Option<T> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned(), sequences: false }
    }

    fn sequencing(self) -> Self {
        Self { sequences: true, ..self }
    }

    /// A call of it, as it is sent.
    pub(crate) fn request<'a>(&self, call: &'a Cmd) -> Request<'a> {
        if self.sequences { Request::Sequenced(call) } else { Request::Run(call) }
    }

    /// `SCRIPT LOAD`. What was loaded so is never evicted, other than what `EVAL` brought (Redis 7.4 and later).
    pub(crate) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(self.text);
        cmd
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// `EVALSHA` up to the number of keys; append the keys, then the arguments.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.digest).arg(keys);
        cmd
    }
}

impl Scripts {
    /// Those of the record's verbs, which each dial loads. The others are loaded when they are first needed, by the answer NOSCRIPT.
    pub(crate) fn at_dial(&self) -> [&Script; 8] {
        let Self { acquire, fill, release, invalidate, put, invalidate_told, put_told, begin, .. } = self;
        [acquire, fill, release, invalidate, put, invalidate_told, put_told, begin]
    }

    /// The one of this digest.
    pub(crate) fn named(&self, digest: &[u8]) -> Option<&Script> {
        self.all().find(|script| script.digest.as_bytes() == digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(answer: &[u8]) -> Option<(i64, Bytes, Bytes)> {
        Answer::parse(&Bytes::copy_from_slice(answer)).map(|answer| (answer.now_us, answer.word, answer.detail))
    }

    #[test]
    fn an_answer_is_the_time_a_word_and_its_detail() {
        // Microseconds are a number, not a fraction: nothing fills them up with zeros.
        assert_eq!(parse(b"1795000000 25 hit"), Some((1_795_000_000_000_025, "hit".into(), b""[..].into())));
        assert_eq!(parse(b"1795000000 999999 busy 77"), Some((1_795_000_000_999_999, "busy".into(), b"77"[..].into())));
        assert_eq!(parse(b"0 0 done TT"), Some((0, "done".into(), b"TT"[..].into())));
    }

    #[test]
    fn a_detail_may_be_any_bytes() {
        assert_eq!(parse(b"1 2 granted  \0 \r\n\xff  "), Some((1_000_002, "granted".into(), b" \0 \r\n\xff  "[..].into())));
        assert_eq!(parse(b"1 2 granted "), Some((1_000_002, "granted".into(), b""[..].into())));
    }

    #[test]
    fn what_no_script_of_ours_would_write_is_no_answer() {
        let hostile: [&[u8]; 19] = [
            b"",
            b" ",
            b"hit",
            b"1 hit",
            b"1 2",
            b"1 2 ",
            b"1 2  hit",
            b" 1 2 hit",
            b"1  2 hit",
            b"-1 2 hit",
            b"+1 2 hit",
            b"1 -2 hit",
            b"1.5 2 hit",
            b"1e3 2 hit",
            b"1 1000000 hit",
            b"99999999999999999999 2 hit",
            b"9223372036854775807 2 hit",
            b"1 2 HIT",
            b"1 2 h\xc3\xaft",
        ];
        for answer in hostile {
            assert_eq!(parse(answer), None, "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn digits_are_digits_only() {
        assert_eq!(digits::<u64>(b"18446744073709551615"), Some(u64::MAX));
        for text in [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"0x1", b"18446744073709551616", "\u{661}".as_bytes()] {
            assert_eq!(digits::<u64>(text), None, "{}", text.escape_ascii());
        }
    }
}
