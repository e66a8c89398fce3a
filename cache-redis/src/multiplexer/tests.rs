//! The multiplexer over a stream in memory, on tokio's paused clock.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant as Moment, advance};

pub(super) const TIMEOUT: Duration = Duration::from_millis(50);

pub(super) struct Bed {
    pub(super) multiplexer: Multiplexer,
    pub(super) task: JoinHandle<()>,
    pub(super) server: DuplexStream,
}

fn bed(buffer: usize) -> Bed {
    open(buffer, false)
}

pub(super) fn open(buffer: usize, gathers: bool) -> Bed {
    let (client, server) = duplex(buffer);
    let (multiplexer, task) = Multiplexer::open(client, 1_000, gathers);
    Bed { multiplexer, task, server }
}

impl Bed {
    pub(super) fn send(&self, request: Request<'_>, within: Duration) -> JoinHandle<Result<Value>> {
        let underway = self.multiplexer.send((Moment::now() + within).into_std(), request);
        tokio::spawn(async move { underway?.reply().await.map(|(reply, _)| reply.value.expect("no error was sent")) })
    }

    fn get(&self, key: &str) -> JoinHandle<Result<Value>> {
        self.send(Request::Get(key.as_bytes()), TIMEOUT)
    }

    /// What has been written so far.
    pub(super) async fn written(&mut self) -> String {
        let mut bytes = vec![0; 1 << 20];
        let count = self.server.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).replace("\r\n", " ")
    }

    pub(super) async fn answer(&mut self, replies: &str) {
        self.server.write_all(replies.as_bytes()).await.unwrap();
    }
}

/// Lets every task run until it waits.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn text(value: &str) -> Value {
    Value::BulkString(value.into())
}

#[tokio::test(start_paused = true)]
async fn calls_at_one_time_are_one_write_and_replies_go_by_their_order() {
    let mut bed = bed(1 << 20);
    let calls = [bed.get("a"), bed.get("b"), bed.send(Request::Run(redis::cmd("PING").arg("x")), TIMEOUT)];
    assert_eq!(bed.written().await, "*2 $3 GET $1 a *2 $3 GET $1 b *2 $4 PING $1 x ");
    bed.answer("$1\r\n1\r\n$-1\r\n+PONG\r\n").await;
    let wanted = [text("1"), Value::Nil, Value::SimpleString("PONG".into())];
    for (call, wanted) in calls.into_iter().zip(wanted) {
        assert_eq!(call.await.unwrap().unwrap(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_is_nobody_s_and_the_next_call_gets_its_own() {
    let mut bed = bed(1 << 20);
    let late = bed.get("late");
    settle().await;
    advance(TIMEOUT + Duration::from_millis(2)).await;
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    let cancelled = bed.get("cancelled");
    cancelled.abort();
    let next = bed.get("next");
    settle().await;
    bed.answer("$4\r\nlate\r\n$9\r\ncancelled\r\n$4\r\nnext\r\n").await;
    assert_eq!(next.await.unwrap().unwrap(), text("next"));
}

#[tokio::test(start_paused = true)]
async fn each_call_ends_at_its_own_time_in_whatever_order_they_came() {
    let bed = bed(1 << 20);
    let began = Moment::now();
    let withins = [50, 53, 51, 20, 90, 49, 50, 1].map(Duration::from_millis);
    let calls = withins.map(|within| {
        let call = bed.send(Request::Get(b"k"), within);
        tokio::spawn(async move { (within, call.await.unwrap().unwrap_err().kind(), began.elapsed()) })
    });
    for call in calls {
        let (within, kind, after) = call.await.unwrap();
        assert_eq!(kind, ErrorKind::Timeout);
        assert!(after >= within && after <= within + Duration::from_millis(6), "{within:?} ended after {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_command_cannot_even_be_written_ends_in_time() {
    let mut bed = bed(64);
    let calls: Vec<_> = (0..100).map(|key| bed.get(&format!("key {key}"))).collect();
    settle().await;
    let began = Moment::now();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(began.elapsed() <= TIMEOUT + Duration::from_millis(4), "{:?}", began.elapsed());
    assert!(!bed.written().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_is_refused_and_nothing_before_it_is_lost() {
    let bed = bed(64);
    let mut set = redis::cmd("SET");
    set.arg("key").arg(&vec![b'x'; MOST_WAITING / 4][..]);
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(bed.send(Request::Run(&set), Duration::from_secs(9)));
        // The task has taken it, and cannot write it.
        settle().await;
    }
    let refused: Vec<_> = calls.iter().map(JoinHandle::is_finished).collect();
    assert_eq!(refused, [false, false, false, false, true, true], "those over the limit end at once");
    for call in calls.into_iter().skip(4) {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Overloaded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_ends_its_calls_and_takes_no_more() {
    for garbled in [None, Some("x\n"), Some("+nobody asked\r\n+nobody asked\r\n")] {
        let mut bed = bed(1 << 20);
        let call = bed.get("a");
        let many = {
            let multiplexer = bed.multiplexer.clone();
            tokio::spawn(async move {
                let mut commands = redis::pipe();
                commands.cmd("ONE").cmd("TWO");
                multiplexer.send_all(&commands).await
            })
        };
        settle().await;
        match garbled {
            None => drop(bed.server),
            Some(bytes) => bed.answer(&format!("$1\r\nx\r\n+one\r\n+two\r\n{bytes}")).await,
        }
        assert_eq!(call.await.unwrap().is_ok(), garbled.is_some());
        assert_eq!(many.await.unwrap().is_ok(), garbled.is_some());
        bed.task.await.unwrap();
        let after = bed.multiplexer.send(Instant::now() + TIMEOUT, Request::Get(b"b"));
        assert_eq!(after.err().map(|err| err.kind()), Some(ErrorKind::Unavailable));
    }
}

#[tokio::test(start_paused = true)]
async fn replies_of_several_commands_come_together_and_errors_are_among_them() {
    let mut bed = bed(1 << 20);
    let multiplexer = bed.multiplexer.clone();
    let many = tokio::spawn(async move {
        let mut commands = redis::pipe();
        commands.cmd("ONE").cmd("TWO").cmd("THREE");
        multiplexer.send_all(&commands).await
    });
    settle().await;
    let other = bed.get("other");
    settle().await;
    bed.answer("+one\r\n-ERR two\r\n").await;
    settle().await;
    bed.answer(":3\r\n$1\r\no\r\n").await;
    let replies = many.await.unwrap().unwrap().replies;
    assert_eq!((replies[0].clone().unwrap(), replies[2].clone().unwrap()), (Value::SimpleString("one".into()), Value::Int(3)));
    assert_eq!(replies[1].clone().unwrap_err().code(), Some("ERR"));
    assert_eq!(other.await.unwrap().unwrap(), text("o"));
}

#[tokio::test(start_paused = true)]
async fn five_late_calls_in_a_row_put_the_connection_in_doubt_and_a_late_reply_speaks_for_it() {
    let mut bed = bed(1 << 20);
    let late = async |bed: &mut Bed, count: usize| {
        for _ in 0..count {
            assert!(bed.get("k").await.unwrap().is_err());
        }
    };
    late(&mut bed, 4).await;
    bed.answer("$1\r\n1\r\n").await;
    settle().await;
    late(&mut bed, 4).await;
    let vitals = bed.multiplexer.vitals().clone();
    let doubted = tokio::spawn(async move { vitals.doubted().await });
    settle().await;
    assert!(!doubted.is_finished(), "four, since it answered");
    late(&mut bed, 1).await;
    assert_eq!(doubted.await.unwrap(), crate::vitals::Loss::Timeouts);
}

/// Whether the connection is in doubt by now.
async fn is_doubted(bed: &Bed) -> bool {
    let vitals = bed.multiplexer.vitals().clone();
    tokio::time::timeout(Duration::from_millis(1), vitals.doubted()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_early_put_a_dead_connection_in_doubt_at_their_deadline() {
    let bed = bed(1 << 20);
    // Of either kind: whose time the task keeps, and who keep it themselves, for they must end sooner.
    let calls = [50, 50, 50, 20, 20].map(|within| bed.send(Request::Get(b"k"), Duration::from_millis(within)));
    settle().await;
    advance(Duration::from_millis(10)).await;
    calls.iter().for_each(JoinHandle::abort);
    advance(Duration::from_millis(38)).await;
    assert!(!is_doubted(&bed).await, "they might still be answered in time");
    advance(Duration::from_millis(4)).await;
    assert!(is_doubted(&bed).await);
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_and_answered_in_time_speak_for_the_connection() {
    let mut bed = bed(1 << 20);
    for _ in 0..20 {
        let call = bed.get("k");
        settle().await;
        call.abort();
        bed.answer("$1\r\n1\r\n").await;
        settle().await;
    }
    advance(TIMEOUT * 2).await;
    assert!(!is_doubted(&bed).await);
}

#[tokio::test(start_paused = true)]
async fn a_long_reply_that_is_arriving_speaks_for_the_connection_until_it_stops() {
    let mut bed = bed(1 << 20);
    let long = bed.get("long");
    settle().await;
    bed.answer("$100000\r\n").await;
    let piece = "x".repeat(1_000);
    for _ in 0..99 {
        let behind: Vec<_> = (0..10).map(|_| bed.get("behind")).collect();
        for _ in 0..3 {
            advance(TIMEOUT / 3).await;
            settle().await;
            bed.answer(&piece[..333]).await;
            settle().await;
        }
        for call in behind {
            // It waits behind the long one, or is not let in to do so.
            let kind = call.await.unwrap().unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Overloaded), "{kind:?}");
        }
        assert!(!is_doubted(&bed).await);
    }
    // It comes to a halt, and a timeout later callers are let in to find out.
    advance(TIMEOUT).await;
    let behind: Vec<_> = (0..10).map(|_| bed.get("behind")).collect();
    for call in behind {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(is_doubted(&bed).await, "it came to a halt");
    drop(long);
}

#[test]
fn a_get_is_packed_as_the_driver_packs_it() {
    for key in [&b""[..], b"key", &[0, 13, 10, 255], &[b'x'; 300]] {
        let mut packed = b"before".to_vec();
        Request::Get(key).pack(&Vitals::default(), &mut packed);
        let mut wanted = b"before".to_vec();
        Request::Run(redis::cmd("GET").arg(key)).pack(&Vitals::default(), &mut wanted);
        assert_eq!(packed, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn gets_of_one_time_are_mgets_of_some_and_each_gets_its_own_value() {
    let mut bed = open(1 << 20, true);
    let alone = bed.get("alone");
    assert_eq!(bed.written().await, "*2 $3 GET $5 alone ");
    bed.answer("$5\r\nALONE\r\n").await;
    assert_eq!(alone.await.unwrap().unwrap(), text("ALONE"));

    let calls: Vec<_> = (10..76).map(|key| bed.get(&key.to_string())).collect();
    let other = bed.send(Request::Run(&redis::cmd("PING")), TIMEOUT);
    settle().await;
    let late = bed.get("late");
    settle().await;
    let written = bed.written().await;
    assert!(written.starts_with("*1 $4 PING *65 $4 MGET $2 10 $2 11 "), "{written}");
    assert!(written.contains(" $2 73 *3 $4 MGET $2 74 $2 75 *2 $3 GET $4 late "), "{written}");
    let value = |key: u32| if key == 20 { "$-1\r\n".to_owned() } else { format!("$3\r\nv{key}\r\n") };
    let values = |keys: std::ops::Range<u32>| keys.map(value).collect::<String>();
    let answer = format!("+PONG\r\n*64\r\n{}*2\r\n{}$1\r\nL\r\n", values(10..74), values(74..76));
    // In pieces, for the header of a group may be cut too.
    for piece in answer.as_bytes().chunks(7) {
        bed.server.write_all(piece).await.unwrap();
        settle().await;
    }
    for (call, key) in calls.into_iter().zip(10..) {
        assert_eq!(call.await.unwrap().unwrap(), if key == 20 { Value::Nil } else { text(&format!("v{key}")) });
    }
    assert_eq!(other.await.unwrap().unwrap(), Value::SimpleString("PONG".into()));
    assert_eq!(late.await.unwrap().unwrap(), text("L"));
}

#[tokio::test(start_paused = true)]
async fn an_mget_that_is_refused_is_refused_to_each_and_one_of_another_length_ends_the_connection() {
    let mut bed = open(1 << 20, true);
    let ask = |bed: &Bed| {
        let underway =
            [b"a", b"b"].map(|key| bed.multiplexer.send((Moment::now() + TIMEOUT).into_std(), Request::Get(key)).unwrap());
        underway.map(|underway| tokio::spawn(async { underway.reply().await.map(|(reply, _)| reply.value) }))
    };
    let calls = ask(&bed);
    settle().await;
    bed.answer("-NOPERM no mget\r\n").await;
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().unwrap_err().code(), Some("NOPERM"));
    }
    let calls = ask(&bed);
    settle().await;
    bed.answer("*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n").await;
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    bed.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_getter_that_has_gone_leaves_the_others_of_its_group_their_own_values() {
    let mut bed = open(1 << 20, true);
    let [gone, stays, late] = [bed.get("gone"), bed.get("stays"), bed.send(Request::Get(b"late"), Duration::from_millis(60))];
    settle().await;
    gone.abort();
    bed.answer("*3\r\n$4\r\nGONE\r\n$5\r\nSTAYS\r\n").await;
    assert_eq!(stays.await.unwrap().unwrap(), text("STAYS"));
    assert_eq!(late.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    let next = bed.get("next");
    settle().await;
    bed.answer("$4\r\nLATE\r\n$4\r\nNEXT\r\n").await;
    assert_eq!(next.await.unwrap().unwrap(), text("NEXT"));
}
