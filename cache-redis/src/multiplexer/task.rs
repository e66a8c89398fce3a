//! The task behind a connection: it writes what callers packed, reads replies, hands them out in order, and tells who has waited too long.

use super::line::Line;
use super::replies::{Garbled, Group, Replies};
use super::{Caller, Ended, GET, Late, Lot, Many, Reply, Shared, State, Waiting};
use crate::error::is_read_only;
use cache_core::record::HEADER_LEN;
use redis::{RedisResult, Value};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// Strings up to this length are read whole, however short records have to be.
const LEAST_MOST: usize = 1 << 20;
/// Memory that is kept for the next write.
const KEPT: usize = 1 << 20;
/// Calls of which the memory is kept for the next ones.
const KEPT_CALLS: usize = 8 << 10;
/// So many replies are handed out before the callers' next commands are written: Redis works on these while the rest of the replies are read. With all of
/// them, the two would work in turns; with twice as many, the callers' memory has left the processor's caches by the time they run.
const TURN: usize = 32;
/// Keys of one MGET: it costs Redis a third of as many GETs, and keeps it from others for some 20 µs.
const GROUP: usize = 64;
/// Between two looks at who has waited too long. Also what tokio's timers can tell apart.
const ALARM_SPACING: Duration = Duration::from_millis(1);

pub(super) struct Task<S> {
    shared: Arc<Shared>,
    stream: Pin<Box<S>>,
    replies: Replies,
    /// What is being written, and how much of it has been.
    packed: Vec<u8>,
    written: usize,
    is_flushed: bool,
    /// Commands whose replies have not come, in the order of both.
    underway: VecDeque<Sent>,
    taken: Vec<Waiting>,
    keys: Vec<u8>,
    ends: Vec<usize>,
    getters: Vec<Waiting>,
    /// When something was last read.
    heard: Instant,
    line: Line,
    alarm: Pin<Box<Sleep>>,
    is_alarm_set: bool,
}

/// A command that was taken.
struct Sent {
    waiting: Waiting,
    at: Instant,
    /// The server's time then, at most.
    now: u64,
}

/// The connection has ended: closed by the other end, or by an error.
struct End(Option<io::Error>);

impl From<io::Error> for End {
    fn from(err: io::Error) -> Self {
        Self(Some(err))
    }
}

impl<S: AsyncRead + AsyncWrite> Task<S> {
    pub(super) fn new(shared: Arc<Shared>, stream: S, most: usize) -> Self {
        let now = Instant::now();
        Self {
            shared,
            stream: Box::pin(stream),
            replies: Replies::new(most.max(LEAST_MOST), HEADER_LEN),
            packed: Vec::new(),
            written: 0,
            is_flushed: true,
            underway: VecDeque::new(),
            taken: Vec::new(),
            keys: Vec::new(),
            ends: Vec::new(),
            getters: Vec::new(),
            heard: now,
            line: Line::new(now),
            alarm: Box::pin(sleep(Duration::ZERO)),
            is_alarm_set: false,
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            self.take();
            if !self.write(cx)? {
                break;
            }
        }
        let count = self.read(cx)?;
        self.tell_the_late(cx);
        if count > 1 {
            // To the end of the queue of tasks that are ready to run: the callers just woken come before, and their next commands are one write.
            cx.waker().wake_by_ref();
        } else {
            self.sleep(cx);
        }
        Ok(())
    }

    /// Hands out some replies, and tells how many.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<usize, End> {
        let (mut count, mut hears) = (0, false);
        let oldest = self.oldest();
        while count < TURN {
            match self.next()? {
                Some(handed) => count += handed,
                None => match self.replies.poll_more(cx, self.stream.as_mut()) {
                    Poll::Ready(Ok(true)) => hears = true,
                    Poll::Ready(Ok(false)) => return Err(End(None)),
                    Poll::Ready(Err(err)) => return Err(err.into()),
                    Poll::Pending => break,
                },
            }
        }
        self.line.answered(count);
        if hears {
            // Be it a late reply, or a part of a long one: whoever sends is there.
            self.heard = Instant::now();
            self.shared.vitals.answered();
            if let Some((at, timeout)) = oldest {
                self.line.heard(self.heard, at, timeout);
            }
        }
        Ok(count)
    }

    /// When the first of those that wait was sent, and how long it had.
    fn oldest(&self) -> Option<(Instant, Duration)> {
        // A group's own place has no time; its first caller is behind it.
        let sent = self.underway.iter().take(2).find(|sent| sent.waiting.deadline.is_some())?;
        Some((sent.at, sent.waiting.deadline?.saturating_duration_since(sent.at)))
    }

    /// Hands out the next reply, or begins with the next group of them: to how many callers. `None` if more must be read first.
    fn next(&mut self) -> Result<Option<usize>, End> {
        let Some(Sent { waiting: Waiting { caller: Caller::Group(count), .. }, .. }) = self.underway.front() else {
            let Some(reply) = self.replies.next().map_err(|Garbled| End(None))? else { return Ok(None) };
            self.hand_out(reply)?;
            return Ok(Some(1));
        };
        let count = *count;
        match self.replies.next_group().map_err(|Garbled| End(None))? {
            None => return Ok(None),
            Some(Group::Of(length)) if length == count => {
                self.underway.pop_front();
                return Ok(Some(0));
            }
            Some(Group::Of(_)) => return Err(End(None)),
            Some(Group::None(reply)) => {
                self.underway.pop_front();
                for _ in 0..count {
                    self.hand_out(reply.clone())?;
                }
            }
        }
        Ok(Some(count))
    }

    fn hand_out(&mut self, reply: Value) -> Result<(), End> {
        // What nobody asked for cannot be told from an answer.
        let first = self.underway.front_mut().ok_or(End(None))?;
        let value: RedisResult<Value> = reply.extract_error();
        if value.as_ref().is_err_and(is_read_only) {
            self.shared.vitals.read_only();
        }
        let (sent, now) = (first.at, first.now);
        match &mut first.waiting.caller {
            Caller::One(caller) => {
                if let Some(caller) = caller.take() {
                    let _ = caller.send(Ok(Reply { value, sent: sent.into_std(), now }));
                }
            }
            // Its replies are those of the callers behind it.
            Caller::Group(_) => return Err(End(None)),
            Caller::Many { left, replies, caller } => {
                replies.push(value);
                *left -= 1;
                if *left > 0 {
                    return Ok(());
                }
                if let Some(caller) = caller.take() {
                    let _ = caller.send(Ok(Many { replies: std::mem::take(replies), sent: sent.into_std() }));
                }
            }
        }
        self.underway.pop_front();
        Ok(())
    }

    /// Takes what callers have packed, also while the stream takes no more of what came before: their time is kept from here on.
    fn take(&mut self) {
        let mut state = self.shared.state.lock();
        state.close_lots(self.shared.history());
        // What is written and not freed counts, too: it is memory.
        state.unwritten = self.packed.len() + state.len();
        self.tell_line(&mut state);
        state.in_line += state.waiting.len() + state.getters.len();
        if state.is_empty() {
            return;
        }
        if self.packed.is_empty() {
            std::mem::swap(&mut self.packed, &mut state.packed);
        } else {
            self.packed.append(&mut state.packed);
        }
        std::mem::swap(&mut self.taken, &mut state.waiting);
        std::mem::swap(&mut self.keys, &mut state.keys);
        std::mem::swap(&mut self.ends, &mut state.ends);
        std::mem::swap(&mut self.getters, &mut state.getters);
        drop(state);
        let at = Instant::now();
        let now = self.shared.vitals.latest_ms(at.into_std());
        let sent = |waiting| Sent { waiting, at, now };
        self.underway.extend(self.taken.drain(..).map(sent));
        let (mut getters, mut from) = (self.getters.drain(..), 0);
        for ends in self.ends.chunks(GROUP) {
            if let [_] = ends {
                self.packed.extend_from_slice(GET);
            } else {
                self.packed.push(b'*');
                self.packed.extend_from_slice(itoa::Buffer::new().format(ends.len() + 1).as_bytes());
                self.packed.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
                self.underway.push_back(sent(Waiting { caller: Caller::Group(ends.len()), deadline: None }));
            }
            let to = ends[ends.len() - 1];
            self.packed.extend_from_slice(&self.keys[from..to]);
            from = to;
            self.underway.extend(getters.by_ref().take(ends.len()).map(sent));
        }
        drop(getters);
        self.keys.clear();
        self.ends.clear();
        // What a burst took is given back.
        self.keys.shrink_to(KEPT);
        self.ends.shrink_to(KEPT_CALLS);
        self.getters.shrink_to(KEPT_CALLS);
        self.taken.shrink_to(KEPT_CALLS);
        if self.underway.len() < KEPT_CALLS / 2 {
            self.underway.shrink_to(KEPT_CALLS);
        }
    }

    /// Has callers know how many are in line, and how many more may come.
    fn tell_line(&self, state: &mut State) {
        state.in_line = self.underway.len();
        state.most_in_line = self.line.most();
        state.refused_until = self.line.refused_until();
    }

    /// Writes all there is, or what the stream takes. Whether more may have come meanwhile.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut any = false;
        while self.written < self.packed.len() {
            match self.stream.as_mut().poll_write(cx, &self.packed[self.written..]) {
                Poll::Ready(Ok(0)) => return Err(End(None)),
                Poll::Ready(Err(err)) => return Err(err.into()),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.is_flushed = false;
                    any = true;
                }
                Poll::Pending => {
                    self.forget_written();
                    return Ok(false);
                }
            }
        }
        self.packed.clear();
        self.packed.shrink_to(KEPT);
        self.written = 0;
        if !self.is_flushed {
            match self.stream.as_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_flushed = true,
                Poll::Ready(Err(err)) => return Err(err.into()),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(any)
    }

    /// Frees what has been written before all has: behind a server that always leaves a rest it would grow for ever. Not before it is the greater part, so that
    /// no byte is moved more than once for each that was written.
    fn forget_written(&mut self) {
        if self.written > KEPT && self.written * 2 > self.packed.len() {
            self.packed.drain(..self.written);
            self.packed.shrink_to(KEPT.max(self.packed.len() * 2));
            self.written = 0;
        }
    }

    fn tell_the_late(&mut self, cx: &mut Context<'_>) {
        loop {
            if !self.is_alarm_set {
                let mut waiting = self.underway.iter().filter(|sent| sent.waiting.caller.waits());
                let Some(first) = waiting.find_map(|sent| sent.waiting.deadline) else { return };
                self.alarm.as_mut().reset(first.max(Instant::now() + ALARM_SPACING));
                self.is_alarm_set = true;
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return;
            }
            self.is_alarm_set = false;
            let now = Instant::now();
            for sent in &mut self.underway {
                if sent.waiting.deadline.is_some_and(|deadline| deadline <= now) && sent.waiting.caller.tell_late() {
                    // A call behind a long reply that is still arriving is late too. Only silence speaks against the connection.
                    let waited = now.saturating_duration_since(sent.at);
                    if now.saturating_duration_since(self.heard) >= waited / 2 {
                        self.shared.vitals.timed_out();
                    }
                }
            }
        }
    }

    fn sleep(&mut self, cx: &mut Context<'_>) {
        let mut state = self.shared.state.lock();
        self.tell_line(&mut state);
        if state.is_empty() {
            state.sleeper = Some(cx.waker().clone());
        } else {
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncRead + AsyncWrite> Future for Task<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(End(cause)) => {
                this.shared.state.lock().cause = cause;
                Poll::Ready(())
            }
        }
    }
}

/// However the task ends, its callers hear of it, and none comes after.
impl<S> Drop for Task<S> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.is_open = false;
        let waiting = [std::mem::take(&mut state.waiting), std::mem::take(&mut state.getters)];
        let in_lots = state.lots.each_mut().map(Lot::take_callers);
        (state.packed, state.keys, state.ends) = (Vec::new(), Vec::new(), Vec::new());
        state.sleeper = None;
        drop(state);
        drop((waiting, in_lots));
    }
}

impl Caller {
    /// Whether it has neither its reply nor been told that it is late.
    fn waits(&self) -> bool {
        match self {
            Self::One(caller) => caller.is_some(),
            Self::Group(_) => false,
            Self::Many { caller, .. } => caller.is_some(),
        }
    }

    /// Tells whoever still waits. Whether that was not done before: a call that was given up is as late as any other.
    fn tell_late(&mut self) -> bool {
        match self {
            Self::One(caller) => tell_late(caller),
            Self::Group(_) => false,
            Self::Many { caller, .. } => tell_late(caller),
        }
    }
}

fn tell_late<T>(caller: &mut Option<oneshot::Sender<Ended<T>>>) -> bool {
    caller.take().map(|caller| caller.send(Err(Late))).is_some()
}
