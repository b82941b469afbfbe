//! A long path: a process that passes on every byte, a fixed time later.
//!
//! Per direction, a thread reads and stamps, and another waits and writes. What is under way is bounded, as on any
//! path; the bound is far above what the time and a fast loopback make of it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{die_with_the_harness, text};
use crate::job::parse;

/// Arguments: the address to pass on to, and the delay in milliseconds.
pub(super) fn run(args: &[String]) -> Result<(), String> {
    let [to, delay] = args else {
        return Err("relay: an address and a delay are wanted".into());
    };
    let to = parse("address", to)?;
    let delay = Duration::from_millis(parse("delay", delay)?);
    die_with_the_harness()?;
    serve(to, delay).map_err(text)
}

fn serve(to: SocketAddr, delay: Duration) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    loop {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(to)?;
        for socket in [&near, &far] {
            crate::net::tune_path(socket)?;
        }
        pass_on(near.try_clone()?, far.try_clone()?, delay);
        pass_on(far, near, delay);
    }
}

/// Bytes under way, and when they are due.
struct Parcel {
    due: Instant,
    bytes: Vec<u8>,
    length: usize,
}

fn pass_on(from: TcpStream, to: TcpStream, delay: Duration) {
    let (departures, arrivals) = sync_channel(PARCELS);
    let (empties, emptied) = sync_channel(PARCELS);
    thread::spawn(move || depart(from, delay, &departures, &emptied));
    thread::spawn(move || arrive(to, &arrivals, &empties));
}

fn depart(
    mut from: TcpStream,
    delay: Duration,
    departures: &SyncSender<Parcel>,
    emptied: &Receiver<Vec<u8>>,
) {
    loop {
        let mut bytes = match emptied.try_recv() {
            Ok(bytes) => bytes,
            Err(TryRecvError::Empty) => vec![0; PARCEL],
            Err(TryRecvError::Disconnected) => return,
        };
        let length = match from.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if departures.send(Parcel { due: Instant::now() + delay, bytes, length }).is_err() {
            return;
        }
    }
}

fn arrive(mut to: TcpStream, arrivals: &Receiver<Parcel>, empties: &SyncSender<Vec<u8>>) {
    while let Ok(parcel) = arrivals.recv() {
        thread::sleep(parcel.due.saturating_duration_since(Instant::now()));
        if to.write_all(&parcel.bytes[..parcel.length]).is_err() {
            break;
        }
        // Buffers are used again: fresh ones would cost a page fault per 4 KiB.
        let _ = empties.try_send(parcel.bytes);
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The most that one read takes.
const PARCEL: usize = 64 << 10;

/// The most that is under way per direction: 256 MiB in full parcels, 64 MiB in parcels a quarter full.
const PARCELS: usize = 4096;
