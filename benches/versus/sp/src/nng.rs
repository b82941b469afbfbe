//! nng's C library, as its users use it for speed: a context for every request under way, driven
//! by callbacks on the library's own threads.

use std::{
    io::{Write, stdout},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nng::{Aio, AioResult, Context, Message, Protocol, Socket};

use crate::job::{Party, Result, Sample, Watch};

pub fn serve(party: &Party) -> Result<()> {
    let socket = Socket::new(Protocol::Rep0)?;
    let mut workers = Vec::new();
    for _ in 0..party.job.contexts {
        let context = Context::new(&socket)?;
        let answering = context.clone();
        let aio = Aio::new(move |aio, done| answer(&answering, &aio, done))?;
        context.recv(&aio)?;
        workers.push((context, aio));
    }
    socket.listen(&party.address("tcp"))?;
    println!("ready");
    stdout().flush()?;
    loop {
        thread::park();
    }
}

fn answer(context: &Context, aio: &Aio, done: AioResult) {
    let next = match done {
        AioResult::Recv(Ok(request)) => context.send(aio, request).map_err(|(_, error)| error),
        AioResult::Send(Ok(())) => context.recv(aio),
        // The client is gone.
        _ => Ok(()),
    };
    next.expect("one operation at a time");
}

pub fn ask(party: &Party) -> Result<Sample> {
    let socket = Socket::new(Protocol::Req0)?;
    socket.dial(&party.address("tcp"))?;
    let mut workers = Vec::new();
    for watch in party.watches() {
        let context = Context::new(&socket)?;
        let watch = Arc::new(Mutex::new(watch));
        let (asking, timing, size) = (context.clone(), watch.clone(), party.job.size);
        let aio = Aio::new(move |aio, done| {
            next_step(&asking, &aio, done, &mut lock(&timing), size);
        })?;
        lock(&watch).ask();
        let first = Message::from(&vec![7; party.job.size][..]);
        context.send(&aio, first).map_err(|(_, error)| error)?;
        workers.push((context, aio, watch));
    }
    thread::sleep(party.length());
    Sample::of(workers.iter().map(|(_, _, watch)| lock(watch).clone()), party.measure)
}

fn next_step(context: &Context, aio: &Aio, done: AioResult, watch: &mut Watch, size: usize) {
    match done {
        AioResult::Send(sent) => {
            sent.map_err(|(_, error)| error).expect("the server is there");
            context.recv(aio).expect("one operation at a time");
        }
        AioResult::Recv(reply) => {
            let reply = reply.expect("the server answers");
            assert_eq!(reply.len(), size);
            if watch.answered() {
                watch.ask();
                // The reply is the next request: nothing needs to be allocated for it.
                context.send(aio, reply).expect("one operation at a time");
            }
        }
        AioResult::Sleep(_) => {}
    }
}

/// Nobody else holds it while its callback runs, but the one who asks for the result.
fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}
