use crate::exit::{Failure, print};
use clap::Args;
use clap_complete::Shell;

/// Print the completions for a shell
///
/// Example:
///   regrow completions bash > /etc/bash_completion.d/regrow
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, command: &mut clap::Command) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "regrow", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
