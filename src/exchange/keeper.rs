//! Who keeps the time of a set: expires its exchanges, closes an idle session, and pings.

use std::{
    pin::pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{
    channel::oneshot::Receiver,
    future::{BoxFuture, Either, select},
};

use super::{ExchangeError, Health, table::Exchanges};
use crate::{
    GoAwayCode, PingError, Session, SessionError,
    runtime::{Runtime, after},
};

/// Keeps the time of a set, in one task.
pub(super) struct Keeper {
    tables: [Exchanges; 2],
    runtime: Runtime,
    session: Session,
    idle_timeout: Option<Duration>,
    /// Since when nothing changed, and what had been counted by then.
    idle: Option<(Instant, [u64; 2])>,
    health: Option<Pulse>,
    sleep: Option<(Instant, crate::runtime::BoxFuture)>,
}

impl Keeper {
    pub(super) fn new(
        tables: [Exchanges; 2],
        runtime: &Runtime,
        session: &Session,
        idle_timeout: Option<Duration>,
        health: Option<Health>,
    ) -> Self {
        Self {
            tables,
            runtime: runtime.clone(),
            session: session.clone(),
            idle_timeout,
            idle: None,
            health: health.map(|health| Pulse::new(health, runtime.now())),
            sleep: None,
        }
    }

    /// Until the set is released, or the session ends, and all exchanges with it.
    pub(super) async fn keep(mut self, released: Receiver<()>) {
        let session = self.session.clone();
        let kept = std::future::poll_fn(|cx| self.poll(cx));
        let closed = pin!(session.closed());
        let until = select(closed, released);
        if let Either::Right((Either::Left((end, _)), _)) = select(kept, until).await {
            let error = ExchangeError::Session(end.err().unwrap_or(SessionError::Closed));
            self.tables.iter().for_each(|table| table.fail_all(&error));
        }
    }

    /// Never ready: what it does, it does on the way.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.runtime.now();
            let mut next = self.tables.iter().filter_map(|table| table.expire(now, cx)).min();
            next = earlier(next, self.check_idle(now));
            if let Some(pulse) = &mut self.health {
                next = earlier(next, pulse.poll(&self.session, now, cx));
            }
            let Some(at) = next else {
                self.sleep = None;
                return Poll::Pending;
            };
            if self.sleep.as_ref().is_none_or(|(until, _)| *until != at) {
                self.sleep = Some((at, self.runtime.sleep_until(at)));
            }
            let Some((_, sleep)) = &mut self.sleep else { return Poll::Pending };
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
    }

    /// When to look again.
    fn check_idle(&mut self, now: Instant) -> Option<Instant> {
        let timeout = self.idle_timeout?;
        let [(inbound, a), (outbound, b)] = [self.tables[0].activity(), self.tables[1].activity()];
        if inbound + outbound > 0 {
            self.idle = None;
            return None;
        }
        let since = match self.idle {
            Some((since, seen)) if seen == [a, b] => since,
            _ => now,
        };
        self.idle = Some((since, [a, b]));
        let until = after(since, timeout);
        if now < until {
            return Some(until);
        }
        self.idle_timeout = None;
        let session = self.session.clone();
        // How it ends is what the session's own `closed` says.
        self.runtime.spawn(async move {
            let _ = session.close().await;
        });
        None
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}

/// Pings, and counts those without an answer.
struct Pulse {
    health: Health,
    next: Instant,
    failed: u32,
    asked: Option<BoxFuture<'static, Result<Duration, PingError>>>,
}

impl Pulse {
    fn new(health: Health, now: Instant) -> Self {
        Self { health, next: after(now, health.interval), failed: 0, asked: None }
    }

    fn poll(&mut self, session: &Session, now: Instant, cx: &mut Context<'_>) -> Option<Instant> {
        if self.asked.is_none() {
            if now < self.next {
                return Some(self.next);
            }
            let session = session.clone();
            self.asked = Some(Box::pin(async move { session.ping().await }));
        }
        let Poll::Ready(answer) = self.asked.as_mut()?.as_mut().poll(cx) else { return None };
        self.asked = None;
        self.next = after(now, self.health.interval);
        match answer {
            Ok(_) => self.failed = 0,
            Err(PingError::TimedOut) => self.failed += 1,
            Err(PingError::Unsupported | PingError::Session(_)) => return None,
        }
        if self.failed >= self.health.failures {
            session.abort(GoAwayCode::INTERNAL_ERROR);
            return None;
        }
        Some(self.next)
    }
}
