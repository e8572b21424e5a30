//! `migrate` after a cut-over with a way back.

use crate::migrate::MigrateError;
use crate::migrate::cut_over::{CutOver, CutOverReport};
use crate::migrate::options::Options;
use crate::migrate::run::{Hand, Migration, Sides};
use crate::migrate::verify::Verdict;
use crate::migrate::way_back;
use crate::replication::Feed;

use super::failure::{Exit, Failure};
use super::io::Io;
use super::migrate::{Args, compare, kept, plan, watch, word};
use super::migrate_request::{self as request, Answer, Request};
use super::migrate_show::{Line, verdict_shown};

#[derive(serde::Serialize)]
struct Outcome {
    done: bool,
    /// Whether clients are at the source again; else it was given up.
    back: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_over: Option<CutOverReport>,
}

/// Carries writes back to the source, until clients are back there or it is given up. `forward`: the migration that was cut over; its feeds
/// are stopped. `first`: links for the way back, if this process has cut over.
pub(super) async fn run(
    args: &Args,
    mut forward: Migration,
    sides: Sides,
    options: Options,
    first: Vec<Feed>,
    io: &mut Io,
) -> Result<Exit, Failure> {
    let databases = options.databases.iter().map(|(from, to)| (*to, *from)).collect();
    let options = Options { databases, left: Vec::new(), ..options };
    let mut back = Migration::open(sides.swapped(), &way_back::folder(&args.state), options, &word()).await?;
    let hand = back.hand();
    let begun = async {
        back.start_back(first).await?;
        back.beside(forward.leave()).await?;
        let work = work(args, hand, io);
        back.beside(work).await
    };
    let worked = tokio::select! {
        worked = begun => worked.map_err(Failure::from),
        _ = tokio::signal::ctrl_c() => Err(Failure::from(MigrateError::Stopped)),
    };
    io.end_line();
    back.stop().await;
    let (outcome, asked) = match worked {
        Ok(done) => done,
        Err(error) => {
            kept(args, io);
            return Err(error);
        }
    };
    if outcome.done {
        back.finish().await?;
        forward.end()?;
    }
    if asked {
        request::answer(&args.state, &answer(&outcome))?;
    }
    io.data(args.access.json, &outcome, || {
        let verdict = outcome.verdict.as_ref().map_or_else(String::new, verdict_shown);
        verdict + &answer(&outcome).text
    })?;
    Ok(if outcome.done { Exit::Done } else { Exit::Failed })
}

fn answer(outcome: &Outcome) -> Answer {
    if outcome.back {
        Answer::of("back", Ok((outcome.cut_over.as_ref(), outcome.verdict.as_ref())))
    } else {
        Answer { done: true, paused_ms: None, text: "confirmed: nothing is carried back any more".to_owned() }
    }
}

/// Until the end, and whether another process asked for it.
async fn work(args: &Args, hand: Hand, io: &mut Io) -> Result<(Outcome, bool), MigrateError> {
    let confirmed = Outcome { done: true, back: false, verdict: None, cut_over: None };
    if args.confirm {
        return Ok((confirmed, false));
    }
    let mut line = Line::new();
    watch(&hand, io, &mut line, hand.caught_up()).await?;
    if args.back {
        return Ok((go_back(args, &hand, &plan(args), io).await?, false));
    }
    io.say("the way back is open: writes are carried back as they come; go back with --back, give the source up with --confirm");
    loop {
        match watch(&hand, io, &mut line, request::wait(&args.state)).await? {
            Request::CutOver(_) => {
                let why = "it is cut over already: go back with --back, or give the source up with --confirm";
                request::answer(&args.state, &Answer::refused(why))?;
            }
            Request::Confirm => return Ok((confirmed, true)),
            Request::Back(plan) => match go_back(args, &hand, &plan, io).await {
                Ok(outcome) => return Ok((outcome, true)),
                Err(error) => {
                    let said = Err(crate::admin::chain(&error));
                    request::answer(&args.state, &Answer::of("back", said))?;
                    return Err(error);
                }
            },
        }
    }
}

async fn go_back(args: &Args, hand: &Hand, plan: &CutOver, io: &mut Io) -> Result<Outcome, MigrateError> {
    let verdict = match args.verify.0 {
        None => None,
        Some(extent) => Some(compare(hand, extent, args.ttl_tolerance, io).await?),
    };
    if verdict.as_ref().is_some_and(|verdict| !verdict.equal()) {
        return Ok(Outcome { done: false, back: true, verdict, cut_over: None });
    }
    let report = hand.cut_over(plan, args.ttl_tolerance, None, &mut |step| io.say(step)).await?;
    Ok(Outcome { done: true, back: true, verdict, cut_over: Some(report) })
}
