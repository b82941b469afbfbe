//! Reading a body from the IO straight into the memory of its reader.
//!
//! While the IO returns the body of a stream whose reader waits with room for much, the driver does
//! without its port: it lies here, the reader takes it, reads, and puts it back. So the port is
//! with one of three, and nobody waits for another: a reader who does not find it is woken like any
//! other, and the driver, by whoever puts it back. Whoever polls the IO, it is the driver that the IO
//! wakes.

use std::{
    any::Any,
    io,
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
        self.core.direct_reader().filter(|reader| *reader == slot)?;
        self.lending.port.take()
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

/// The port in the hands of a reader.
pub(crate) struct Loan<'a> {
    shared: &'a Shared,
    slot: Slot,
    /// `None` once it was given back.
    port: Option<Box<dyn Direct>>,
    /// Bytes of the body that are still to come.
    left: usize,
}

impl<'a> Loan<'a> {
    /// The port, if the reader of `slot`, which waits, may use it.
    #[inline]
    pub(crate) fn take(shared: &'a Shared, state: &mut State, slot: Slot) -> Option<Self> {
        // There is none, as a rule.
        state.lending.port.as_ref()?;
        let port = state.borrow(slot)?;
        Some(Self { shared, slot, port: Some(port), left: state.core.body_left() })
    }

    /// Reads into `out`, gives the port back, and says how many bytes the reader has now. With none
    /// it asks `otherwise`, with the port back already: it is to look and to wait as if there had
    /// been no port.
    pub(crate) fn read(
        mut self,
        out: &mut [u8],
        otherwise: impl FnOnce(&mut State, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let room = out.len().min(self.left);
        let read = match &mut self.port {
            Some(port) => port.poll_read_into(&mut out[..room]),
            None => Poll::Pending,
        };
        let now = self.shared.now();
        let port = self.port.take();
        let (unused, result) = self.shared.with(|state| {
            let unused = port.and_then(|port| state.give_back(port));
            if let Poll::Ready(len) = read
                && state.core.handle_direct(self.slot, len, now)
            {
                return (unused, Poll::Ready(Ok(len)));
            }
            (unused, otherwise(state, out))
        });
        drop(unused);
        result
    }
}

impl Drop for Loan<'_> {
    /// With the port still here, the IO or the clock panicked.
    fn drop(&mut self) {
        if let Some(mut port) = self.port.take() {
            port.break_down();
            let unused = self.shared.with(|state| {
                state.wake_driver();
                state.give_back(port)
            });
            drop(unused);
        }
    }
}
