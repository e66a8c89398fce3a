//! Scripts of one time, over a stream in memory.

use super::tests::{Bed, TIMEOUT, open, settle, text};
use super::*;
use crate::backplane::Server;
use crate::script::Verb;
use futures_util::FutureExt;
use tokio::time::Instant as Moment;

impl Bed {
    /// Asks a script for a key, with an argument of this length.
    fn run(&self, verb: Verb, key: &str, length: usize) -> JoinHandle<Result<RedisResult<Value>>> {
        let argument = vec![b'a'; length];
        let each = Each { verb, first: None, keys: &[key.as_bytes()], arguments: &[&argument] };
        let underway = self.multiplexer.send((Moment::now() + TIMEOUT).into_std(), Request::Each(each));
        tokio::spawn(async move { underway?.reply().await.map(|(reply, _)| reply.value) })
    }

    fn acquire(&self, key: &str) -> JoinHandle<Result<RedisResult<Value>>> {
        self.run(Verb::Acquire, key, 1)
    }

    /// What has been written, with names for the digests.
    async fn scripts(&mut self) -> String {
        let digest_of = |verb| Each { verb, first: None, keys: &[], arguments: &[] }.script().digest().to_owned();
        let names = [(Verb::Acquire, "ACQUIRE"), (Verb::Fill, "FILL"), (Verb::InvalidateTold, "TELL")];
        names.iter().fold(self.written().await, |written, (verb, name)| written.replace(&digest_of(*verb), name))
    }
}

async fn answered(call: JoinHandle<Result<RedisResult<Value>>>) -> Value {
    call.await.unwrap().unwrap().expect("no error was sent")
}

#[tokio::test(start_paused = true)]
async fn scripts_of_one_time_are_one_call_and_each_gets_its_own_answer() {
    let mut bed = open(1 << 20, true);
    let alone = bed.acquire("alone");
    assert_eq!(bed.scripts().await, "*5 $7 EVALSHA $40 ACQUIRE $1 1 $5 alone $1 a ");
    bed.answer("$5\r\nALONE\r\n").await;
    assert_eq!(answered(alone).await, text("ALONE"));

    let (first, fill, second) = (bed.acquire("1"), bed.run(Verb::Fill, "f", 2), bed.acquire("2"));
    assert_eq!(bed.scripts().await, "*7 $7 EVALSHA $40 ACQUIRE $1 2 $1 1 $1 2 $1 a $1 a *5 $7 EVALSHA $40 FILL $1 1 $1 f $2 aa ");
    bed.answer("*2\r\n$1\r\nA\r\n-OOM no memory\r\n$1\r\nF\r\n").await;
    assert_eq!(answered(first).await, text("A"));
    assert_eq!(second.await.unwrap().unwrap().unwrap_err().code(), Some("OOM"), "one's error is its own");
    assert_eq!(answered(fill).await, text("F"));

    let both = [bed.acquire("3"), bed.acquire("4")];
    settle().await;
    bed.answer("-NOSCRIPT No matching script.\r\n").await;
    for call in both {
        assert_eq!(call.await.unwrap().unwrap().unwrap_err().code(), Some("NOSCRIPT"), "an error of the call is everyone's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_so_many_keys_and_long_arguments_go_by_themselves() {
    let mut bed = open(1 << 20, true);
    let calls: Vec<_> = (10..27).map(|key| bed.acquire(&key.to_string())).collect();
    let long = bed.run(Verb::Acquire, "long", 5_000);
    let written = bed.scripts().await;
    assert!(written.starts_with("*35 $7 EVALSHA $40 ACQUIRE $2 16 $2 10 $2 11 "), "{}", &written[..900]);
    assert!(written.contains(" $2 25 $1 a "), "{}", &written[..900]);
    assert!(
        written.contains(" *5 $7 EVALSHA $40 ACQUIRE $1 1 $2 26 $1 a *5 $7 EVALSHA $40 ACQUIRE $1 1 $4 long $5000 aaa"),
        "{}",
        &written[..900]
    );
    let answers: Vec<_> = (10..26).map(|key| format!("$2\r\n{key}\r\n")).collect();
    bed.answer(&format!("*16\r\n{}$2\r\n26\r\n$4\r\nlong\r\n", answers.concat())).await;
    for (call, key) in calls.into_iter().zip(10..) {
        assert_eq!(answered(call).await, text(&key.to_string()));
    }
    assert_eq!(answered(long).await, text("long"));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_after_a_script_is_written_after_it() {
    let mut bed = open(1 << 20, true);
    // A release behind an acquire that was given up, say.
    let acquire = bed.acquire("1");
    let release = bed.send(Request::Run(redis::cmd("PING").arg("x")), TIMEOUT);
    let later = bed.acquire("2");
    assert!(bed.multiplexer.send_all(redis::pipe().cmd("PING").arg("y")).now_or_never().is_none());
    let written = bed.scripts().await;
    let places = [" $1 1 $1 a ", "PING $1 x ", " $1 2 $1 a ", "PING $1 y "].map(|part| written.find(part).expect(part));
    assert!(places.is_sorted(), "{written}");
    bed.answer("$1\r\nA\r\n+PONG\r\n$1\r\nB\r\n+PONG\r\n").await;
    assert_eq!(answered(acquire).await, text("A"));
    assert_eq!(release.await.unwrap().unwrap(), Value::SimpleString("PONG".into()));
    assert_eq!(answered(later).await, text("B"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_gone_and_one_that_is_late_leave_the_others_of_their_call_their_own_answers() {
    let mut bed = open(1 << 20, true);
    let [gone, stays, later] = ["gone", "stays", "later"].map(|key| bed.acquire(key));
    settle().await;
    gone.abort();
    bed.answer("*3\r\n$4\r\nGONE\r\n$5\r\nSTAYS\r\n").await;
    assert_eq!(answered(stays).await, text("STAYS"));
    assert_eq!(later.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    let next = bed.acquire("next");
    settle().await;
    bed.answer("$5\r\nLATER\r\n$4\r\nNEXT\r\n").await;
    assert_eq!(answered(next).await, text("NEXT"));
}

#[tokio::test(start_paused = true)]
async fn scripts_that_were_never_written_hear_that_the_connection_has_ended() {
    let bed = open(1 << 20, true);
    // On this thread the task has not run since.
    let calls = [bed.acquire("1"), bed.acquire("2")];
    bed.task.abort();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_gathered_each_script_is_a_call() {
    let mut bed = open(1 << 20, false);
    let calls = [bed.acquire("1"), bed.acquire("2")];
    let one = |key| format!("*5 $7 EVALSHA $40 ACQUIRE $1 1 $1 {key} $1 a ");
    assert_eq!(bed.scripts().await, one(1) + &one(2));
    bed.answer("$1\r\nA\r\n$1\r\nB\r\n").await;
    for (call, answer) in calls.into_iter().zip(["A", "B"]) {
        assert_eq!(answered(call).await, text(answer));
    }
}

const SERVER: Server = Server { process: 1, history: u64::from_be_bytes(*b"history!"), is_master: true };

impl Bed {
    /// Invalidates a partition's keys.
    fn tell(&self, meta: &str, keys: &[&str]) -> JoinHandle<Result<RedisResult<Value>>> {
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
        let each = Each { verb: Verb::InvalidateTold, first: Some(meta.as_bytes()), keys: &keys, arguments: &[b"a"] };
        let underway = self.multiplexer.send((Moment::now() + TIMEOUT).into_std(), Request::Each(each));
        tokio::spawn(async move { underway?.reply().await.map(|(reply, _)| reply.value) })
    }
}

#[tokio::test(start_paused = true)]
async fn invalidations_of_one_time_are_one_call_their_meta_keys_first_and_the_history_of_that_moment_last() {
    let mut bed = open(1 << 20, true);
    let unknown = bed.tell("m", &["k"]).await.unwrap().unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Credentials, "nobody knows which server it is");
    bed.multiplexer.vitals().know(&SERVER);
    let (one, two, none) = (bed.tell("m1", &["a"]), bed.tell("m2", &["b", "c"]), bed.tell("m3", &[]));
    let wanted = "*13 $7 EVALSHA $40 TELL $1 6 $2 m1 $2 m2 $2 m3 $1 a $1 b $1 c $1 a $1 a $1 a $8 history! ";
    assert_eq!(bed.scripts().await, wanted);
    bed.answer("*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n").await;
    for (call, answer) in [one, two, none].into_iter().zip(["1", "2", "3"]) {
        assert_eq!(answered(call).await, text(answer));
    }
    bed.multiplexer.vitals().know(&Server { history: u64::from_be_bytes(*b"another!"), ..SERVER });
    let _later = bed.tell("m", &["k"]);
    assert_eq!(bed.scripts().await, "*7 $7 EVALSHA $40 TELL $1 2 $1 m $1 k $1 a $8 another! ");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_full_with_so_many_keys_too() {
    let mut bed = open(1 << 20, true);
    bed.multiplexer.vitals().know(&SERVER);
    let keys: Vec<_> = (100..131).map(|key| key.to_string()).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let _calls = [bed.tell("1", &keys), bed.tell("2", &keys), bed.tell("3", &keys)];
    let written = bed.scripts().await;
    let counts: Vec<_> = written.split("TELL ").skip(1).map(|call| call.split(' ').nth(1).unwrap()).collect();
    assert_eq!(counts, ["64", "32"]);
}

#[test]
fn a_script_is_packed_as_the_driver_packs_it() {
    for arguments in [&[&b"\r\n\0"[..], b""][..], &[&[7; 300]], &[]] {
        for each in [
            Each { verb: Verb::Fill, first: None, keys: &[b"k"], arguments },
            Each { verb: Verb::InvalidateTold, first: Some(b"m"), keys: &[b"k", b"l"], arguments },
            Each { verb: Verb::InvalidateTold, first: Some(b"m"), keys: &[], arguments },
        ] {
            let (mut packed, mut wanted) = (Vec::new(), Vec::new());
            let vitals = Vitals::default();
            vitals.know(&SERVER);
            Request::Each(each).pack(&vitals, &mut packed);
            Request::Run(&each.cmd(SERVER.history)).pack(&vitals, &mut wanted);
            assert_eq!(packed, wanted);
        }
    }
}
