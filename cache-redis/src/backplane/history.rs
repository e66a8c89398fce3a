//! Which server this is, and which of its lives.

use redis::Cmd;
use twox_hash::XxHash3_64;

/// What a server says of itself in INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    /// Names the process. Never 0.
    pub(crate) process: u64,
    /// Names the process and what it replicates: another one after a restart, and after each promotion. Never 0.
    ///
    /// Sequences of one history are never another's: the run id alone comes back if a master is promoted twice.
    pub(crate) history: u64,
    pub(crate) is_master: bool,
}

impl Server {
    /// The command whose reply is [read](Self::read).
    pub(crate) fn ask() -> Cmd {
        let mut cmd = redis::cmd("INFO");
        cmd.arg(&["server", "replication"]);
        cmd
    }

    /// `None` if the text does not tell.
    pub(crate) fn read(info: &[u8]) -> Option<Self> {
        let field = |name: &[u8]| {
            let mut lines = info.split(|byte| *byte == b'\n');
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":")).map(<[u8]>::trim_ascii_end)
        };
        let (run, replication, role) = (field(b"run_id")?, field(b"master_replid")?, field(b"role")?);
        let digest = |text: &[u8]| XxHash3_64::oneshot(text).max(1);
        Some(Self { process: digest(run), history: digest(&[run, b" ", replication].concat()), is_master: role == b"master" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(run: &str, replication: &str, role: &str) -> Server {
        let text = format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{run}\r\n\r\n# Replication\r\nrole:{role}\r\nmaster_replid:{replication}\r\n\
            master_replid2:0000\r\n"
        );
        Server::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_restart_and_a_promotion_are_another_history_and_the_role_alone_is_none() {
        let server = read("aa", "bb", "master");
        assert!(server.is_master && !read("aa", "bb", "slave").is_master);
        assert_eq!(read("aa", "bb", "slave").history, server.history);
        assert_eq!(read("aa", "cc", "master").process, server.process);
        assert_ne!(read("aa", "cc", "master").history, server.history);
        assert_ne!(read("cc", "bb", "master").history, server.history);
        assert_ne!(read("cc", "bb", "master").process, server.process);
    }

    #[test]
    fn a_text_that_does_not_tell_all_three_tells_nothing() {
        for text in ["", "run_id:a\r\nrole:master", "run_id:a\nmaster_replid:b", "xrun_id:a\nrole:master\nmaster_replid:b"] {
            assert_eq!(Server::read(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not(text in any::<Vec<u8>>()) {
            let _ = Server::read(&text);
        }
    }
}
