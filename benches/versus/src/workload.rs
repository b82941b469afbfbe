//! The workloads: what is sent, what is counted, what is compared.

use std::time::Duration;

/// One group of rows in the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The name, as given to `--only`.
    pub name: &'static str,
    /// One line for the reader of the table.
    pub about: &'static str,
    /// What client and server do.
    pub load: Load,
    /// What is counted.
    pub unit: Unit,
    /// What is compared.
    pub figure: Figure,
    /// How the processes may be placed.
    pub placement: Placement,
    /// Threads of the runtime on each side; 0 is the current thread.
    pub workers: usize,
    /// The time from the start until measuring begins, where it must be longer than usual.
    pub start: Option<Duration>,
    /// Whether the connection passes a relay that delays it.
    pub relayed: bool,
    /// `TCP_NOTSENT_LOWAT` of every socket.
    pub notsent_lowat: Option<u32>,
    /// Operations of each task of the client where a fixed amount of work is asked for; 0 where that means nothing.
    pub fixed: u64,
}

/// What client and server do.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// The client sends messages on every stream, the server counts what arrives.
    OneWay { streams: usize, message: usize },
    /// The client sends 64 bytes on every stream and waits for them to come back.
    PingPong { streams: usize },
    /// The client opens a stream, sends 64 bytes and finishes; the server answers 64 and finishes.
    OpenClose { in_flight: usize },
    /// The client opens streams, each is used once and then left alone.
    Idle { streams: usize },
    /// A ping-pong beside a stream that sends as fast as it can.
    BesideBulk,
}

/// What is counted: `size` counts of the workload's counters make one.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// As in "MiB/s".
    pub name: &'static str,
    /// Bytes or operations.
    pub size: u64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Units per second: more is better.
    Rate,
    /// The 99th percentile of the round trip: less is better.
    TailLatency,
    /// Bytes of heap per stream, client and server: less is better.
    Heap,
    /// The slowest stream's share of the fastest's: more is better.
    Evenness,
}

/// How the processes may be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Once pinned to one core, once wherever the scheduler likes.
    Both,
    /// Pinned to one core only: nothing but cost is of interest.
    Pinned,
    /// Unpinned only: a third process takes part.
    Unpinned,
}

impl Workload {
    /// The workload called `name`.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|workload| workload.name == name).copied()
    }

    /// Whether a window must cover a long path for the figure to be good.
    pub fn is_long_path(&self) -> bool {
        self.relayed
    }

    /// Whether more of the figure is better.
    pub fn more_is_better(&self) -> bool {
        matches!(self.figure, Figure::Rate | Figure::Evenness)
    }

    /// Ports the server listens on.
    pub fn ports(&self) -> usize {
        match self.load {
            // Raw TCP makes a connection per operation, and each takes a client port out of use for a minute.
            Load::OpenClose { .. } => 16,
            _ => 1,
        }
    }

    const fn new(name: &'static str, about: &'static str, load: Load, unit: Unit) -> Self {
        Self {
            name,
            about,
            load,
            unit,
            figure: Figure::Rate,
            placement: Placement::Both,
            workers: 0,
            start: None,
            relayed: false,
            notsent_lowat: None,
            fixed: 0,
        }
    }
}

impl Load {
    /// The most streams alive at once.
    pub fn streams(self) -> usize {
        match self {
            Self::OneWay { streams, .. } | Self::PingPong { streams } | Self::Idle { streams } => {
                streams
            }
            Self::OpenClose { in_flight } => in_flight,
            Self::BesideBulk => 2,
        }
    }

    /// The same load, with another number of streams where that is its only parameter.
    pub fn with_idle_streams(self, streams: usize) -> Self {
        match self {
            Self::Idle { .. } => Self::Idle { streams },
            other => other,
        }
    }

    /// Operations of one task to units of work of all, for a fixed amount of work.
    pub fn bytes_or_operations(self, per_task: u64) -> u64 {
        match self {
            Self::OneWay { streams, message } => per_task * (streams * message) as u64,
            _ => per_task * self.streams() as u64,
        }
    }
}

/// Every workload, in the order of the table.
pub const ALL: &[Workload] = &[
    Workload {
        fixed: 512,
        ..Workload::new("bulk1", "one stream, 64 KiB writes and reads, one way", ONE_BULK, MIB)
    },
    Workload {
        fixed: 8,
        ..Workload::new(
            "bulk100",
            "100 streams (raw: 100 connections), 64 KiB writes and reads",
            MANY_BULK,
            MIB,
        )
    },
    Workload {
        fixed: 10_000,
        ..Workload::new(
            "small_writes",
            "64-byte writes on one stream, one way",
            Load::OneWay { streams: 1, message: 64 },
            MESSAGE,
        )
    },
    Workload {
        fixed: 1_000,
        ..Workload::new(
            "pingpong",
            "64 bytes there and back, one stream",
            Load::PingPong { streams: 1 },
            ROUND_TRIP,
        )
    },
    Workload {
        fixed: 10,
        ..Workload::new(
            "pingpong_256",
            "256 streams (raw: connections), each in a task of its own",
            Load::PingPong { streams: 256 },
            ROUND_TRIP,
        )
    },
    Workload {
        workers: 2,
        ..Workload::new(
            "pingpong_256_2w",
            "the same with two workers a side",
            Load::PingPong { streams: 256 },
            ROUND_TRIP,
        )
    },
    Workload {
        fixed: 500,
        ..Workload::new(
            "open_close",
            "open, 64 bytes each way, close; one after the other",
            Load::OpenClose { in_flight: 1 },
            STREAM,
        )
    },
    Workload {
        fixed: 20,
        ..Workload::new(
            "open_close_64",
            "the same, 64 in flight",
            Load::OpenClose { in_flight: 64 },
            STREAM,
        )
    },
    Workload {
        placement: Placement::Unpinned,
        start: Some(Duration::from_secs(3)),
        relayed: true,
        ..Workload::new(
            "wan",
            "one stream over a path of 50 ms, after a start of 3 s (raw: what the relay can do)",
            ONE_BULK,
            MIB,
        )
    },
    Workload {
        figure: Figure::Heap,
        placement: Placement::Pinned,
        ..Workload::new(
            "idle",
            "streams used once and left alone: heap of client and server",
            Load::Idle { streams: 100_000 },
            STREAM,
        )
    },
    Workload {
        figure: Figure::TailLatency,
        notsent_lowat: Some(128 << 10),
        ..Workload::new(
            "latency_beside_bulk",
            "64-byte ping-pong beside a bulk stream (raw: a second connection), 128 KiB unsent in the kernel",
            Load::BesideBulk,
            MIB,
        )
    },
    Workload {
        figure: Figure::TailLatency,
        ..Workload::new(
            "latency_beside_bulk_unbounded",
            "the same, as much unsent in the kernel as it likes",
            Load::BesideBulk,
            MIB,
        )
    },
    Workload {
        figure: Figure::Evenness,
        ..Workload::new(
            "fairness",
            "100 bulk streams: the slowest divided by the fastest",
            MANY_BULK,
            MIB,
        )
    },
];

const ONE_BULK: Load = Load::OneWay { streams: 1, message: 64 << 10 };
const MANY_BULK: Load = Load::OneWay { streams: 100, message: 64 << 10 };

const MIB: Unit = Unit { name: "MiB", size: 1 << 20 };
const MESSAGE: Unit = Unit { name: "message", size: 64 };
const ROUND_TRIP: Unit = Unit { name: "round trip", size: 1 };
const STREAM: Unit = Unit { name: "stream", size: 1 };
