use super::Target;
use crate::exit::say;
use clap::Args;
use regrow_redis::cli::{Command, Io};
use std::process::ExitCode;

mod launch;

/// Make, check, mend, reshape and drill Redis clusters
#[derive(Args)]
pub(super) struct Redis {
    #[command(subcommand)]
    verb: Command,
}

impl Redis {
    pub(super) async fn run(self, target: &Target) -> ExitCode {
        let mut verb = self.verb;
        if let Some((wanted, yes, dry_run)) = verb.launch() {
            match launch::launch(target, wanted, yes, dry_run).await {
                Ok(Some(servers)) => verb = verb.launched(servers),
                Ok(None) => return ExitCode::SUCCESS,
                Err(failure) => return crate::exit::report(Err(failure)),
            }
        }
        let exit = match regrow_redis::cli::run(verb, &mut Io::standard()).await {
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
