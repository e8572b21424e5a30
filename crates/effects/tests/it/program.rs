//! The program that tests run: as `shim …` and `leash …`, and as an agent and a worker that can be killed.

use regrow_effects::run::Runs;
use regrow_effects::{ShimCommand, World, leash_main, shim_main};
use regrow_model::{Action, process::Process};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|role| role.to_str()) {
        Some("shim") => shim_main(args),
        Some("leash") => leash_main(args),
        Some("worker") => worker(args.map(|word| word.into_string().expect("UTF-8")).collect()),
        Some("agent") => agent(args.map(|word| word.into_string().expect("UTF-8")).collect()),
        _ => ExitCode::from(2),
    }
}

/// `agent DATA INSTANCE INCARNATION PROCESS`, the last as JSON: starts the instance, prints the outcome, and waits to
/// be killed.
fn agent(words: Vec<String>) -> ExitCode {
    let [data, instance, incarnation, process] = words.try_into().expect("four words");
    let process: Process = serde_json::from_str(&process).expect("a process");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let program = std::env::current_exe().expect("a path");
        let (seen, mut sees) = tokio::sync::mpsc::channel(16);
        let shim = ShimCommand { program, arguments: vec!["shim".to_owned()] };
        let world = World::open(&PathBuf::from(data), shim, seen).expect("a world");
        let start = Action::Start {
            instance: instance.parse().expect("an instance"),
            incarnation: incarnation.parse().expect("a number"),
            process: Box::new(process),
            listen: None,
        };
        let outcome = serde_json::to_string(&world.act(&start).await).expect("an outcome");
        writeln!(std::io::stdout(), "{outcome}").expect("somebody who reads");
        let _ = sees.recv().await;
    });
    ExitCode::SUCCESS
}

/// `worker FOLDER RUN`, the last as JSON: carries it out, and prints how it ended.
fn worker(words: Vec<String>) -> ExitCode {
    let [folder, run] = words.try_into().expect("two words");
    let run = serde_json::from_str(&run).expect("a run");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let runs = Runs::open(folder.into(), std::env::current_exe().expect("a path")).expect("a folder");
        let (lines, mut said) = tokio::sync::mpsc::channel(16);
        let (_halt, halted) = tokio::sync::watch::channel(Default::default());
        let (_beat, beats) = tokio::sync::watch::channel(std::time::Instant::now());
        let drain = tokio::spawn(async move { while said.recv().await.is_some() {} });
        let end = runs.run(&run, &Default::default(), &Default::default(), lines, halted, beats).await;
        drain.await.expect("lines");
        writeln!(std::io::stdout(), "{:?}", end.state).expect("somebody who reads");
    });
    ExitCode::SUCCESS
}
