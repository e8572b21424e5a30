//! Coverage-guided fuzzing of the decoders that peers reach.
//!
//! `make fuzz`, or `fuzz/run.sh [RUNS [TARGET …]]`. Each target is run so many times (ten million) on inputs that grow
//! from real packets of Serf (`corpus/`) and from messages of our own by mutation; an input that reaches a new edge,
//! or one more often than before, is kept and mutated further. A panic prints the input and ends the run; so does one
//! execution that allocates more than its target's limit, or a few hundred inputs that take 20 seconds.
//!
//! The engine is 150 lines of our own: cargo-fuzz and libFuzzer need nightly or a C++ compiler, and neither measures memory.

mod coverage;
mod engine;
mod memory;
mod samples;
mod targets;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let runs = arguments.next().map_or(Ok(10_000_000), |runs| runs.replace('_', "").parse());
    let Ok(runs) = runs else {
        eprintln!("usage: regrow-fuzz [RUNS [TARGET …]]");
        return ExitCode::from(2);
    };
    let wanted: Vec<String> = arguments.collect();
    let targets = targets::all();
    if let Some(unknown) = wanted.iter().find(|name| !targets.iter().any(|target| target.name == **name)) {
        let names: Vec<_> = targets.iter().map(|target| target.name).collect();
        eprintln!("no target {unknown}; there are: {}", names.join(" "));
        return ExitCode::from(2);
    }
    if coverage::edges() == 0 {
        eprintln!("built without coverage counters: use fuzz/run.sh");
        return ExitCode::from(2);
    }
    engine::report_panics();
    println!("| target | executions | inputs kept | edges | most bytes allocated by one | seconds |");
    println!("|---|---|---|---|---|---|");
    for target in targets.into_iter().filter(|target| wanted.is_empty() || wanted.iter().any(|w| w == target.name)) {
        let name = target.name;
        let done = engine::fuzz(target, runs);
        println!(
            "| {name} | {} | {} | {} | {} | {:.0} |",
            done.executions, done.kept, done.edges, done.most_bytes, done.seconds
        );
    }
    ExitCode::SUCCESS
}
