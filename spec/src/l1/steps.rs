//! What nodes do: flights, messages, subscriptions, polls.

use super::{Action, Entry, Flight, L1, MESSAGES, Mutant, Node, Poll, Shared, Sub};

impl L1 {
    pub(super) fn node_actions(&self, s: &Shared, n: usize, actions: &mut Vec<Action>) {
        let node = &s.nodes[n];
        if node.stopped {
            actions.push(Action::Continue(n));
            return;
        }
        match node.flight {
            // A poisoned flight is in nobody's way.
            None | Some(Flight { poisoned: true, .. }) if self.reads(s, n) => {
                actions.push(if self.is(Mutant::TicketAfterReply) { Action::Read(n) } else { Action::Ticket(n) });
            }
            _ => {}
        }
        match node.flight {
            Some(Flight { value: None, .. }) => {
                actions.push(Action::Read(n));
                if self.is(Mutant::UnleasedReplicaRead) {
                    actions.push(Action::ReadReplica(n));
                }
            }
            Some(Flight { ticket: false, .. }) => actions.push(Action::Ticket(n)),
            Some(_) => actions.push(Action::Store(n)),
            None => {}
        }
        for at in (0..MESSAGES).filter(|at| node.coming & (1 << at) != 0) {
            actions.push(Action::Deliver(n, at));
            if self.double {
                actions.push(Action::DeliverTwice(n, at));
            }
            if self.lose {
                actions.push(Action::Lose(n, at));
            }
        }
        match node.sub {
            Sub::Off if !node.cut => actions.push(Action::Subscribe(n)),
            Sub::Active => actions.push(Action::Confirm(n)),
            Sub::Off | Sub::On => {}
        }
        if node.sub != Sub::Off && s.broken < self.breaks {
            actions.push(Action::Disconnect(n));
        }
        match node.poll {
            Poll::No => {
                let subscribed = node.sub == Sub::On || self.is(Mutant::TrustBeforeSubscribed);
                let needless = node.verified > 0 && self.is(Mutant::NoPolls);
                if subscribed && !needless && !node.cut {
                    actions.push(Action::PollSend(n));
                }
            }
            Poll::Sent(..) => actions.extend([Action::PollRun(n), Action::PollLost(n)]),
            Poll::Ran(..) => actions.push(Action::PollReply(n)),
        }
        if self.cut {
            actions.push(if node.cut { Action::Heal(n) } else { Action::Cut(n) });
        }
        if self.stop {
            actions.push(Action::Stop(n));
        }
        if node.push > 0 {
            actions.push(Action::Push(n));
        }
    }

    /// Whether a reader would begin a flight: not if the key is blocked (that read stores nothing), nor if the entry is served.
    fn reads(&self, s: &Shared, n: usize) -> bool {
        !self.blocked(s, n) && (self.refresh || s.nodes[n].entry.is_none_or(|entry| !self.is_hit(&s.nodes[n], entry)))
    }

    pub(super) fn step(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Refill => s.l2 = Some(s.db),
            Action::SyncRedisReplica => s.l2_replica = s.l2,
            Action::EvictMeta => (s.meta, s.evicted) = (None, s.evicted + 1),
            Action::EvictRecord => (s.l2, s.evicted) = (None, s.evicted + 1),
            Action::ForeignWrite => {
                s.db += 1;
                s.l2 = None;
                s.foreign |= 1 << s.db;
                for (node, reads) in s.nodes.iter_mut().zip(self.readers) {
                    if reads {
                        node.push = s.db;
                    }
                }
            }
            Action::Tick => {
                for node in &mut s.nodes {
                    node.tick(self);
                }
                for age in s.writes.iter_mut().filter_map(|write| write.done.as_mut()) {
                    *age = (*age + 1).min(self.longest());
                }
            }
            Action::Ticket(n) | Action::Read(n) | Action::ReadReplica(n) | Action::Store(n) => self.fly(s, n, action),
            Action::Deliver(n, at) | Action::DeliverTwice(n, at) | Action::Lose(n, at) => self.bus(s, n, at, action),
            Action::PollSend(n) | Action::PollRun(n) | Action::PollReply(n) | Action::PollLost(n) => self.poll(s, n, action),
            Action::Disconnect(n) => {
                s.broken += 1;
                s.nodes[n].part(self);
            }
            Action::Subscribe(n) => s.nodes[n].sub = Sub::Active,
            Action::Confirm(n) => s.nodes[n].sub = Sub::On,
            Action::Cut(n) => {
                let node = &mut s.nodes[n];
                // How long it was verified is remembered: grace counts from there.
                let (verified, grace) = (node.verified, node.grace);
                node.part(self);
                (node.verified, node.grace, node.cut, node.poll) = (verified, grace, true, Poll::No);
            }
            Action::Heal(n) => s.nodes[n].cut = false,
            Action::Stop(n) => s.nodes[n].stopped = true,
            Action::Continue(n) => s.nodes[n].stopped = false,
            Action::Push(n) => {
                let node = &mut s.nodes[n];
                if let Some(entry) = &mut node.entry {
                    entry.marked = true;
                }
                if let (Some(flight), false) = (&mut node.flight, self.is(Mutant::PushMissesFlights)) {
                    flight.marked = true;
                }
                (node.pushed, node.push) = (node.pushed.max(node.push), 0);
            }
            write => self.write(s, write),
        }
    }

    fn fly(&self, s: &mut Shared, n: usize, action: Action) {
        let blocked = self.blocked(s, n);
        let found = if s.nodes[n].cut { s.db } else { s.l2.unwrap_or(s.db) };
        let found = if self.is(Mutant::RedisReplica) { s.l2_replica.unwrap_or(s.db) } else { found };
        let db_replica = s.db_replica;
        let node = &mut s.nodes[n];
        match action {
            Action::Ticket(_) => match &mut node.flight {
                Some(flight) if !flight.poisoned => flight.ticket = true,
                flight => *flight = Some(Flight { value: None, ticket: true, poisoned: false, marked: false, age: 0 }),
            },
            Action::Read(_) | Action::ReadReplica(_) => {
                let value = Some(if matches!(action, Action::ReadReplica(_)) { db_replica } else { found });
                match &mut node.flight {
                    Some(flight) => flight.value = value,
                    flight => *flight = Some(Flight { value, ticket: false, poisoned: false, marked: false, age: 0 }),
                }
            }
            Action::Store(_) => {
                let Some(Flight { value: Some(value), poisoned, marked, age, .. }) = node.flight.take() else { unreachable!() };
                let revalidates =
                    self.is(Mutant::RevalidateWithoutTicket) && node.entry.is_some_and(|entry| entry.value == value);
                if (!poisoned && !blocked) || revalidates {
                    node.entry = Some(Entry { value, suspect: false, marked, age });
                }
            }
            _ => unreachable!(),
        }
    }

    fn bus(&self, s: &mut Shared, n: usize, at: usize, action: Action) {
        let node = &mut s.nodes[n];
        if !matches!(action, Action::DeliverTwice(..)) {
            node.coming &= !(1 << at);
        }
        let Some(message) = s.messages[at] else { unreachable!() };
        if matches!(action, Action::Lose(..)) {
            return;
        }
        let same = message.incarnation == node.incarnation || (self.is(Mutant::NoIncarnation) && node.incarnation != 0);
        // Our own, answered already: removed twice by then.
        if usize::from(message.from) == n && same && node.has(message.sequence) {
            return;
        }
        if message.version > 0 {
            node.remove(message.version, self);
            node.processed = node.processed.max(message.version);
        }
        // Of another incarnation: it has removed what it names, and counts for nothing. The next poll finds out.
        if same {
            node.apply(message.sequence, self);
        }
    }

    fn poll(&self, s: &mut Shared, n: usize, action: Action) {
        let node = &mut s.nodes[n];
        match (action, node.poll) {
            (Action::PollSend(_), _) => node.poll = Poll::Sent(0, node.sub == Sub::On),
            (Action::PollRun(_), Poll::Sent(age, confirmed)) => {
                if s.meta.is_none() && !self.is(Mutant::AbsentIsUnchanged) {
                    s.incarnations += 1;
                    s.meta = Some((s.incarnations, 0));
                }
                node.poll = Poll::Ran(age, confirmed, s.meta);
            }
            (Action::PollReply(_), Poll::Ran(age, confirmed, found)) => {
                node.poll = Poll::No;
                if (confirmed && node.sub == Sub::On) || self.is(Mutant::TrustBeforeSubscribed) {
                    node.polled(age, found, self);
                }
            }
            (Action::PollLost(_), _) => node.poll = Poll::No,
            _ => unreachable!(),
        }
    }
}

impl Node {
    /// The subscription is gone: nothing is verified any more. It is no suspicion: the next poll tells whether anything was missed.
    /// A poll that is on its way was sent under the old subscription, and does not count for a new one.
    fn part(&mut self, model: &L1) {
        (self.sub, self.coming, self.verified) = (Sub::Off, 0, 0);
        if let (Poll::Sent(_, confirmed) | Poll::Ran(_, confirmed, _), false) =
            (&mut self.poll, model.is(Mutant::PollOfOldSubscription))
        {
            *confirmed = false;
        }
    }
}
