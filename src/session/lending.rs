//! Reading a body from the IO straight into the memory of its reader.
//!
//! While the IO returns the body of a stream whose reader waits with room for much, the driver does
//! without its port: it lies here, the reader takes it, reads, and puts it back. So the port is
//! with one of three, and nobody waits for another: a reader who does not find it is woken like any
//! other, and the driver, by whoever puts it back. Whoever polls the IO, it is the driver that the IO
//! wakes.

use std::{
    any::Any,
    task::{Context, Poll},
};

use futures::io::{AsyncRead, AsyncWrite};

use super::{
    io::Port,
    shared::{Shared, State},
};
use crate::proto::Slot;

/// What a reader may do with the port of a driver, whatever the IO.
pub(super) trait Direct: Any + Send {
    fn poll_read_into(&mut self, out: &mut [u8]) -> Poll<usize>;
    fn break_down(&mut self);
    /// To what the driver knows it as.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: AsyncRead + AsyncWrite + Send + 'static> Direct for Port<T> {
    fn poll_read_into(&mut self, out: &mut [u8]) -> Poll<usize> {
        Self::poll_read_into(self, out)
    }

    fn break_down(&mut self) {
        Self::break_down(self);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The port, while the driver does without.
#[derive(Default)]
pub(super) struct Lending {
    port: Option<Box<dyn Direct>>,
    /// The driver came for it while a reader had it.
    missed: bool,
    /// There is no driver any more.
    over: bool,
}

impl State {
    /// The driver does without `port` until it is polled again.
    pub(super) fn lend(&mut self, port: Box<dyn Direct>) {
        self.lending.port = Some(port);
    }

    /// The driver needs the port. `None`: a reader has it, and wakes the driver when it is back.
    pub(super) fn reclaim(&mut self, cx: &Context<'_>) -> Option<Box<dyn Direct>> {
        let port = self.lending.port.take();
        self.lending.missed = port.is_none();
        if port.is_none() {
            self.driver_sleeps(cx);
        }
        port
    }

    /// There is no driver any more: a port that is not with it is to be dropped, after the lock.
    #[must_use]
    pub(super) fn end_lending(&mut self) -> Option<Box<dyn Direct>> {
        self.lending.over = true;
        self.lending.port.take()
    }

    /// The port, if the reader of `slot` may use it.
    fn borrow(&mut self, slot: Slot) -> Option<Box<dyn Direct>> {
        if self.core.may_read_directly(slot) { self.lending.port.take() } else { None }
    }

    /// A reader has done with the port. What is returned nobody needs, and is to be dropped after the
    /// lock.
    #[must_use]
    fn give_back(&mut self, port: Box<dyn Direct>) -> Option<Box<dyn Direct>> {
        if self.lending.over {
            return Some(port);
        }
        self.lending.port = Some(port);
        if std::mem::take(&mut self.lending.missed) {
            self.wake_driver();
        }
        None
    }
}

/// Reads into `out` what comes next from the IO, if that is for the reader of `slot`, which waits.
/// Returns how many bytes the reader has now.
#[cold]
pub(crate) fn read_directly(shared: &Shared, slot: Slot, out: &mut [u8]) -> Option<usize> {
    let (mut loan, left) = shared.with(|state| {
        let port = state.borrow(slot)?;
        Some((Loan { shared, port: Some(port) }, state.core.body_left()))
    })?;
    let room = out.len().min(left);
    let read = loan.port.as_mut()?.poll_read_into(&mut out[..room]);
    let now = shared.now();
    let port = loan.port.take();
    let (taken, waker, unused) = shared.with(|state| {
        let taken = match read {
            Poll::Ready(len) if state.core.handle_direct(slot, len, now) => Some(len),
            _ => None,
        };
        // Who has bytes waits no more, and was not woken.
        let waker = taken.and_then(|_| state.take_reader(slot));
        (taken, waker, port.and_then(|port| state.give_back(port)))
    });
    drop((waker, unused));
    taken
}

/// The port in the hands of a reader.
struct Loan<'a> {
    shared: &'a Shared,
    /// `None` once it was given back.
    port: Option<Box<dyn Direct>>,
}

impl Drop for Loan<'_> {
    /// With the port still here, the IO or the clock panicked.
    fn drop(&mut self) {
        if let Some(mut port) = self.port.take() {
            port.break_down();
            let unused = self.shared.with(|state| state.give_back(port));
            drop(unused);
        }
    }
}
