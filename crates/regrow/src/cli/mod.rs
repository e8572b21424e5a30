//! The command line. One verb, one file; its doc comment is its help.

mod agent;
mod apply;
mod audit;
mod completions;
mod down;
mod event;
mod events;
mod exec;
mod explain;
mod gossip;
mod group;
mod init;
mod job;
mod join;
mod key;
mod kv;
mod logs;
mod members;
mod monitor;
mod pause;
mod plan;
mod query;
mod redis;
mod rtt;
mod schema;
mod service;
mod status;
mod store;
mod tags;
mod template;
mod token;
mod up;
mod worker;

use crate::client::Client;
use crate::config::{Access, data_folder};
use crate::exit::{Failure, report};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Cut a node down and the cluster grows it back.
///
/// Regrow keeps what a file says running: instances, their checks, the load balancer's configuration. Begin with
/// `regrow up` in a folder with a regrow.yaml.
#[derive(Parser)]
#[command(name = "regrow", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which agent a command is about.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "How to reach the agent")]
pub(crate) struct Target {
    /// The data folder. Default: ./.regrow, or /var/lib/regrow where that is not there
    #[arg(long, env = "REGROW_DATA", value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// The agent to speak to, as https://10.0.0.11:8500, http://127.0.0.1:8500 or unix:PATH. Default: the socket in the data folder
    #[arg(long, env = "REGROW_AGENT", value_name = "URL", global = true)]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) access: Access,
}

impl Target {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::find(self.agent.as_deref(), &data_folder(self.data.as_deref(), false), &self.access)
    }
}

#[derive(Subcommand)]
enum Command {
    Up(up::Up),
    Agent(agent::Agent),
    Worker(worker::Worker),
    Down(down::Down),
    Apply(apply::Apply),
    Plan(plan::Plan),
    Status(status::Status),
    Explain(explain::Explain),
    Events(events::Events),
    Logs(logs::Logs),
    Exec(Box<exec::Exec>),
    Job(job::Job),
    Group(group::Group),
    Service(service::Service),
    Template(template::Template),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Kv(Box<kv::Kv>),
    Store(Box<store::Store>),
    Token(token::Token),
    Audit(audit::Audit),
    Members(members::Members),
    Join(join::Join),
    Leave(join::Leave),
    ForceLeave(join::ForceLeave),
    Event(event::Event),
    Query(query::Query),
    Reachability(query::Reachability),
    Rtt(rtt::Rtt),
    Tags(tags::Tags),
    Gossip(gossip::Gossip),
    Init(init::Init),
    Key(key::Key),
    Monitor(monitor::Monitor),
    Redis(Box<redis::Redis>),
    Schema(schema::Schema),
    Completions(completions::Completions),
    /// Runs one instance for the agent
    #[command(hide = true)]
    Shim(Hidden),
    /// Ends a run when its worker is no more
    #[command(hide = true)]
    Leash(Hidden),
}

#[derive(Args)]
struct Hidden {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<std::ffi::OsString>,
}

/// Parses the command line and runs it.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Shim(shim) => return regrow_effects::shim_main(shim.words),
        Command::Leash(leash) => return regrow_effects::leash_main(leash.words),
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(Failure::failed(format!("cannot start the runtime: {error}")))),
    };
    let code = match cli.command {
        Command::Redis(command) => runtime.block_on(command.run(&cli.target)),
        _ => report(runtime.block_on(run(cli))),
    };
    // What still runs in the background is reading a socket or a file: nothing that must be waited for.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let target = cli.target;
    match cli.command {
        Command::Up(command) => command.run(&target).await,
        Command::Agent(command) => command.run(&target).await,
        Command::Worker(command) => command.run(&target).await,
        Command::Down(command) => command.run(&target).await,
        Command::Apply(command) => command.run(&target).await,
        Command::Plan(command) => command.run(&target).await,
        Command::Status(command) => command.run(&target).await,
        Command::Explain(command) => command.run(&target).await,
        Command::Events(command) => command.run(&target).await,
        Command::Logs(command) => command.run(&target).await,
        Command::Exec(command) => command.run(&target).await,
        Command::Job(command) => command.run(&target).await,
        Command::Group(command) => command.run(&target).await,
        Command::Service(command) => command.run(&target).await,
        Command::Template(command) => command.run(&target).await,
        Command::Pause(command) => command.run(&target).await,
        Command::Resume(command) => command.run(&target).await,
        Command::Kv(command) => command.run(&target).await,
        Command::Store(command) => command.run(&target).await,
        Command::Token(command) => command.run(&target).await,
        Command::Audit(command) => command.run(&target).await,
        Command::Members(command) => command.run(&target).await,
        Command::Join(command) => command.run(&target).await,
        Command::Leave(command) => command.run(&target).await,
        Command::ForceLeave(command) => command.run(&target).await,
        Command::Event(command) => command.run(&target).await,
        Command::Query(command) => command.run(&target).await,
        Command::Reachability(command) => command.run(&target).await,
        Command::Rtt(command) => command.run(&target).await,
        Command::Tags(command) => command.run(&target).await,
        Command::Gossip(command) => command.run(&target).await,
        Command::Init(command) => command.run(&target),
        Command::Key(command) => command.run(&target),
        Command::Monitor(command) => command.run(&target).await,
        Command::Schema(command) => command.run(),
        Command::Completions(command) => command.run(&mut <Cli as clap::CommandFactory>::command()),
        Command::Shim(_) | Command::Leash(_) | Command::Redis(_) => unreachable!("handled before"),
    }
}
