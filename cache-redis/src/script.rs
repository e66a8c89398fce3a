//! The Lua scripts: their text, their digests, and one way to run them.

use bytes::Bytes;
use redis::Cmd;
use std::sync::LazyLock;

/// A script and the digest that Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    digest: String,
}

/// All of the tier's scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) acquire: Script,
    pub(crate) fill: Script,
    pub(crate) release: Script,
    pub(crate) invalidate: Script,
    pub(crate) put: Script,
    // Those below are loaded when they are first needed, by the answer NOSCRIPT, and not by each dial.
    pub(crate) increment: Script,
    pub(crate) reset: Script,
    pub(crate) remaining: Script,
    pub(crate) touch: Script,
    pub(crate) writable: Script,
}

macro_rules! script {
    ($($file:literal)+) => {
        Script::new(concat!($(include_str!(concat!("scripts/", $file, ".lua")), "\n"),+))
    };
}

/// Their texts are joined and digested once a process.
pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    acquire: script!("prelude" "store" "acquire"),
    fill: script!("prelude" "store" "fill"),
    release: script!("prelude" "release"),
    invalidate: script!("prelude" "invalidate"),
    put: script!("prelude" "store" "put"),
    increment: script!("prelude" "increment"),
    reset: script!("prelude" "reset"),
    remaining: script!("prelude" "lives" "remaining"),
    touch: script!("prelude" "lives" "touch"),
    writable: script!("writable"),
});

/// What every script answers: the server's time in microseconds, a word, and what the word needs.
pub(crate) type Answer = (i64, Bytes, Bytes);

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, digest: redis::Script::new(text).get_hash().to_owned() }
    }

    /// `SCRIPT LOAD`. What was loaded so is never evicted, other than what `EVAL` brought (Redis 7.4 and later).
    pub(crate) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(self.text);
        cmd
    }

    /// `EVALSHA` up to the number of keys; append the keys, then the arguments.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.digest).arg(keys);
        cmd
    }
}

impl Scripts {
    /// Those of the record's verbs, which each dial loads.
    pub(crate) fn all(&self) -> [&Script; 5] {
        [&self.acquire, &self.fill, &self.release, &self.invalidate, &self.put]
    }
}
