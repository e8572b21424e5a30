//! The `regrow` binary: parse, load, wire, run.

mod bundle;
mod cli;
mod client;
mod config;
mod exit;
mod keys;
mod progress;
mod reach;
mod runtime;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
