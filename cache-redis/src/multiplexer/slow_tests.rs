//! Ways that carry less than callers ask for, on tokio's paused clock.

use super::tests::{Bed, TIMEOUT, open};
use super::*;
use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::task::LocalSet;
use tokio::time::{Instant as Moment, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// How calls ended.
#[derive(Default)]
struct Ends {
    fine: Cell<u32>,
    late: Cell<u32>,
    refused: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

/// Asks again and again. Who is refused comes back a little later.
async fn ask(multiplexer: Multiplexer, ends: Rc<Ends>) {
    loop {
        let ended = match multiplexer.send((Moment::now() + TIMEOUT).into_std(), Request::Get(b"key")) {
            Ok(underway) => underway.reply().await.map(drop),
            Err(err) => Err(err),
        };
        match ended.map_err(|err| err.kind()) {
            Ok(()) => count(&ends.fine),
            Err(ErrorKind::Timeout) => count(&ends.late),
            Err(ErrorKind::Overloaded) => {
                count(&ends.refused);
                sleep(TIMEOUT / 5).await;
            }
            Err(kind) => panic!("{kind:?}"),
        }
    }
}

/// A server behind a way that carries so many replies a millisecond, as long as that is not zero.
async fn serve(server: tokio::io::DuplexStream, pace: Rc<Cell<usize>>) -> (Infallible, Infallible) {
    let (mut from, mut to) = split(server);
    let asked = Rc::new(Cell::new(0_usize));
    let reading = {
        let asked = asked.clone();
        async move {
            let mut bytes = vec![0; 1 << 16];
            loop {
                let length = from.read(&mut bytes).await.unwrap();
                // Each of these begins with the one asterisk that is in it.
                asked.set(asked.get() + bytes[..length].split(|byte| *byte == b'*').count() - 1);
            }
        }
    };
    let writing = async move {
        loop {
            sleep(MS).await;
            let replies = asked.get().min(pace.get());
            asked.set(asked.get() - replies);
            to.write_all("$1\r\nx\r\n".repeat(replies).as_bytes()).await.unwrap();
        }
    };
    tokio::join!(reading, writing)
}

/// Runs so many callers over a way whose pace is set meanwhile. How calls ended is counted anew by whoever sets it.
async fn run(callers: u32, pace: usize, then: impl AsyncFnOnce(&Cell<usize>, &Ends)) {
    let Bed { multiplexer, server, .. } = open(1 << 20, false);
    let (pace, ends) = (Rc::new(Cell::new(pace)), Rc::new(Ends::default()));
    let local = LocalSet::new();
    for _ in 0..callers {
        local.spawn_local(ask(multiplexer.clone(), ends.clone()));
    }
    local.spawn_local(serve(server, pace.clone()));
    local.run_until(async { then(&pace, &ends).await }).await;
    assert!(timeout(MS, multiplexer.vitals().doubted()).await.is_err(), "bytes came all the time");
}

#[tokio::test(start_paused = true)]
async fn a_way_that_carries_a_tenth_of_what_is_asked_for_carries_that_and_does_not_make_all_late() {
    // In the time of a call it carries an eighth of the callers.
    run(400, 1, async |_, ends| {
        sleep(TIMEOUT * 30).await;
        ends.fine.set(0);
        ends.late.set(0);
        sleep(TIMEOUT * 40).await;
        let carried = 50 * 40;
        let (fine, late, refused) = (ends.fine.get(), ends.late.get(), ends.refused.get());
        assert!(fine > carried / 2 && late < carried / 2 && refused > 0, "of {carried}: {fine} fine, {late} late");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_on_a_way_that_carries_all_and_soon_nobody_when_it_does_again() {
    run(400, 100, async |pace, ends| {
        sleep(TIMEOUT * 10).await;
        assert_eq!((ends.late.get(), ends.refused.get()), (0, 0));
        pace.set(1);
        sleep(TIMEOUT * 20).await;
        assert!(ends.refused.get() > 0);
        pace.set(100);
        sleep(TIMEOUT * 20).await;
        ends.refused.set(0);
        sleep(TIMEOUT * 10).await;
        assert_eq!(ends.refused.get(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn commands_that_are_few_bytes_are_bounded_by_their_number() {
    let Bed { multiplexer, .. } = open(64, true);
    let later = (Moment::now() + TIMEOUT).into_std();
    let mut calls = Vec::new();
    let refused =
        (0..=line::MOST + 1).find_map(|_| multiplexer.send(later, Request::Get(b"")).map(|call| calls.push(call)).err());
    assert_eq!((calls.len(), refused.map(|err| err.kind())), (line::MOST, Some(ErrorKind::Overloaded)));
}

#[tokio::test]
async fn what_is_written_is_let_go_of_though_the_other_end_always_leaves_a_rest() {
    let Bed { multiplexer, mut server, .. } = open(1 << 16, true);
    let long = vec![b'x'; 1 << 20];
    let mut command = redis::cmd("SET");
    command.arg("key").arg(&long);
    let mut read = vec![0; 1 << 16];
    // Three MiB wait at all times, and three times as much passes as may wait.
    for sent in 0..3 * MOST_WAITING / long.len() {
        let later = std::time::Instant::now() + Duration::from_secs(3_600);
        drop(multiplexer.send(later, Request::Run(&command)).expect("little waits"));
        let mut wanted = if sent < 3 { 0 } else { long.len() };
        while wanted > 0 {
            wanted = wanted.saturating_sub(server.read(&mut read).await.unwrap());
        }
    }
}
