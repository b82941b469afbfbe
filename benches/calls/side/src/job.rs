use std::time::Duration;

use crate::Result;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) role: Role,
    pub(crate) in_flight: usize,
    pub(crate) size: usize,
    pub(crate) amount: Amount,
    pub(crate) count_allocations: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Role {
    Serve,
    Load {
        address: String,
    },
    Stream {
        address: String,
    },
    /// Server and client in one process, for the profiler.
    Solo {
        streams: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Time(Duration),
    Calls(u64),
}

impl Job {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut next = |what: &str| args.next().ok_or_else(|| format!("{what} is missing"));
        let role = match &*next("serve, load, stream or solo")? {
            "serve" => Role::Serve,
            "load" => Role::Load { address: next("the address")? },
            "stream" => Role::Stream { address: next("the address")? },
            "solo" => Role::Solo { streams: next("load or stream")? == "stream" },
            other => return Err(format!("{other}: serve, load, stream or solo is wanted").into()),
        };
        let amount = Amount::Time(Duration::from_secs(1));
        let mut job = Self { role, in_flight: 1, size: 64, amount, count_allocations: false };
        while let Some(option) = args.next() {
            if option == "--count-allocations" {
                job.count_allocations = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{option} wants a value"))?;
            match &*option {
                "--in-flight" => job.in_flight = value.parse()?,
                "--size" => job.size = value.parse()?,
                "--seconds" => job.amount = Amount::Time(Duration::from_secs_f64(value.parse()?)),
                "--calls" => job.amount = Amount::Calls(value.parse()?),
                _ => return Err(format!("{option} is unknown").into()),
            }
        }
        Ok(job)
    }
}
