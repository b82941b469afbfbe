//! The command line is that of the other contestants; the rest is C, as nng's users write it.

use std::{env, ffi::CString, process::ExitCode};

unsafe extern "C" {
    fn serve() -> i32;
    fn load(address: *const i8, in_flight: i32, size: usize, seconds: f64, calls: u64) -> i32;
}

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let option = |name: &str| {
        args.windows(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse::<f64>().ok())
    };
    let status = match args.first().map(String::as_str) {
        // SAFETY: it takes nothing, and touches nothing of ours.
        Some("serve") => unsafe { serve() },
        Some("load") => {
            let Ok(address) = CString::new(args[1].clone()) else { return ExitCode::FAILURE };
            let in_flight = option("--in-flight").unwrap_or(1.0) as i32;
            let size = option("--size").unwrap_or(64.0) as usize;
            let seconds = option("--seconds").unwrap_or(1.0);
            let calls = option("--calls").unwrap_or(0.0) as u64;
            // SAFETY: the address ends with a zero and outlives the call.
            unsafe { load(address.as_ptr(), in_flight, size, seconds, calls) }
        }
        _ => 1,
    };
    if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
