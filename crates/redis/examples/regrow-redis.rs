//! The toolbox as a program of its own, for tests and for trying it out: `cargo run --example regrow-redis -- status 127.0.0.1:7001`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use regrow_redis::cli::{Command, Io, run};

/// The Redis toolbox.
#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut io = Io::standard();
    let exit = match run(Program::parse().command, &mut io).await {
        Ok(exit) => exit,
        Err(failure) => {
            let _ = writeln!(io.err, "error: {}", failure.message());
            if let Some(hint) = failure.hint() {
                let _ = writeln!(io.err, "hint: {hint}");
            }
            failure.exit()
        }
    };
    ExitCode::from(exit.code())
}
