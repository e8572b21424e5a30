//! Rules of schedules.

use super::super::diagnostic::{Wrongs, quoted};
use super::super::tree::At;
use super::super::{Schedule, Spec};
use super::{Written, field};
use crate::cron::{self, Cron};
use std::time::Duration;

pub(super) fn check(spec: &Spec, schedule: &Schedule, at: &At<'_>, written: &Written<'_>, wrong: &mut Wrongs) {
    field::reference(&at.get("job"), "job", &schedule.job, &written.jobs, wrong);
    match (&schedule.cron, schedule.every) {
        (None, None) => {
            wrong.key(at, "the schedule does not say when", "add `cron: \"30 2 * * *\"` or `every: 10m`");
        }
        (Some(_), Some(_)) => {
            let help = "make them two schedules, or leave one out";
            wrong.key(&at.get("every"), "the schedule is `cron` and `every` at once", help);
        }
        (Some(text), None) => {
            if let Err(error) = Cron::parse(text) {
                let help = "for example `cron: \"30 2 * * 1-5\"`: at 02:30 from Monday to Friday";
                wrong.value(&at.get("cron"), format!("{} is not a cron expression: {error}", quoted(text)), help);
            }
        }
        (None, Some(every)) => {
            if every.0 < Duration::from_secs(1) {
                let message = format!("a schedule cannot be due every {every}");
                wrong.value(&at.get("every"), message, "the shortest is 1s");
            }
            field::span(&at.get("every"), every, wrong);
        }
    }
    if cron::zone(&schedule.zone).is_none() {
        let message = format!("{} is not a time zone", quoted(&schedule.zone));
        wrong.value(&at.get("zone"), message, "use its IANA name: `UTC`, `Europe/Berlin`, `America/New_York`");
    }
    field::span(&at.get("late"), schedule.late, wrong);
    let Some(job) = spec.jobs.get(&schedule.job) else { return };
    if let Err(errors) = job.answers(&schedule.parameters) {
        for error in errors {
            wrong.key(&at.get("parameters"), error.to_string(), "give its runs what the job asks for");
        }
    }
}
