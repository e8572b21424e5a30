use crate::exit::say;
use clap::Args;
use regrow_redis::cli::{Command, Io};
use std::process::ExitCode;

/// Make, check, mend, reshape and drill Redis clusters
#[derive(Args)]
pub(super) struct Redis {
    #[command(subcommand)]
    verb: Command,
}

impl Redis {
    pub(super) async fn run(self) -> ExitCode {
        let exit = match regrow_redis::cli::run(self.verb, &mut Io::standard()).await {
            Ok(exit) => exit,
            Err(failure) => {
                say(format!("regrow: {}", failure.message()));
                if let Some(hint) = failure.hint() {
                    say(format!("  {hint}"));
                }
                failure.exit()
            }
        };
        ExitCode::from(exit.code())
    }
}
