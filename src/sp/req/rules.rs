//! What pipes, messages and time do to requests.

use bytes::Bytes;

use super::{Due, Failure, Key, Req, Request, Stage};
use crate::sp::{
    pattern::{Base, Pattern},
    protocol::{Info, ProtocolId},
};

impl Pattern for Req {
    type Pipe = ();
    type Due = Due;

    const INFO: Info = Info { own: ProtocolId::REQ, peer: ProtocolId::REP };

    fn add_pipe(&mut self, _: &mut Base<Self>, _: u32) -> bool {
        true
    }

    fn remove_pipe(&mut self, base: &mut Base<Self>, id: u32, (): ()) {
        self.ready.leave(id);
        let alone = base.pipes.attached() == 0;
        for slot in 0..self.slots.len() {
            let Some(request) = &self.slots[slot].request else { continue };
            let key = Key { slot: slot as u32, id: request.id };
            let lost = match request.stage {
                Stage::Sent(pipe) => pipe == id,
                Stage::Queued => false,
                Stage::Done(_) => continue,
            };
            if alone && request.fail_without_peers {
                self.finish(base, key, Err(Failure::NoPeers));
            } else if lost && request.retry.is_none() {
                self.finish(base, key, Err(Failure::Cancelled));
            } else if lost {
                self.again(base, key);
            }
        }
        self.assign(base);
    }

    fn handle_room(&mut self, base: &mut Base<Self>, id: u32) {
        if base.pipes.get(id).is_some_and(|entry| entry.is_free() && entry.attached) {
            self.ready.join(id);
            self.assign(base);
        }
    }

    fn handle_message(
        &mut self,
        base: &mut Base<Self>,
        id: u32,
        message: Bytes,
    ) -> Result<(), Bytes> {
        let reply_to = message.first_chunk().map(|word| u32::from_be_bytes(*word));
        let open = reply_to.and_then(|reply_to| Some((reply_to, *self.open.get(&reply_to)?)));
        let Some(((reply_to, slot), entry)) = open.zip(base.pipes.get(id)) else {
            base.stats.junk += 1;
            return Ok(());
        };
        let pipe = entry.pipe.clone();
        // Who answered is likely to be ready for more.
        self.ready.prefer(id);
        self.finish(base, Key { slot, id: reply_to }, Ok((message, pipe)));
        Ok(())
    }

    fn wants(&self, _: &Base<Self>, _: u32) -> bool {
        true
    }

    fn handle_timeout(&mut self, base: &mut Base<Self>, due: Due) {
        let (Due::Retry(key) | Due::Send(key) | Due::Recv(key)) = due;
        let request = self.slots.get_mut(key.slot as usize).and_then(|slot| slot.request.as_mut());
        let Some(request) = request.filter(|request| request.id == key.id) else { return };
        let at = match due {
            Due::Retry(_) => &mut request.retry_at,
            Due::Send(_) => &mut request.send_at,
            Due::Recv(_) => &mut request.recv_at,
        };
        if at.is_none_or(|at| at > base.now) {
            return;
        }
        *at = None;
        match due {
            Due::Retry(_) => {
                self.again(base, key);
                self.assign(base);
            }
            Due::Send(_) => self.finish(base, key, Err(Failure::NotSent)),
            Due::Recv(_) => self.finish(base, key, Err(Failure::NoReply)),
        }
    }

    fn close(&mut self, base: &mut Base<Self>) {
        for slot in 0..self.slots.len() {
            let Some(Request { id, stage: Stage::Queued | Stage::Sent(_), .. }) =
                self.slots[slot].request
            else {
                continue;
            };
            self.finish(base, Key { slot: slot as u32, id }, Err(Failure::Closed));
        }
        self.queue.clear();
    }
}
