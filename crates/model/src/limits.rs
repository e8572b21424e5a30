//! Every bound of the model in one place: what is larger is refused with the name of the limit.

use std::time::Duration;

/// Longest group name: leaves room for `-` and a slot within a [`crate::name::NAME_LENGTH_MAX`] label.
pub const GROUP_NAME_LENGTH_MAX: usize = 56;
/// Most instances of one group.
pub const GROUP_SIZE_MAX: u32 = 10_000;
/// Most objects of one kind in a spec.
pub const OBJECTS_MAX: usize = 10_000;
/// Largest spec file, bytes: far above any that people write, and parsed in well under a second.
pub const SPEC_BYTES_MAX: usize = 4 << 20;
/// Most files of one spec.
pub const SPEC_FILES_MAX: usize = 1_000;
/// Most values in a spec, counting what aliases repeat: fifty for each of [`OBJECTS_MAX`] objects, in tens of megabytes.
pub const SPEC_NODES_MAX: usize = 500_000;
/// Deepest nesting of values in a spec: far above any that people write, far below what a thread's stack holds.
pub const SPEC_DEPTH_MAX: usize = 64;
/// Most errors told about one spec: who has made more mends the first ones first.
pub const DIAGNOSTICS_MAX: usize = 50;
/// Most changes that the governor's budget may allow in a window.
pub const BUDGET_CHANGES_MAX: u32 = 10_000;
/// Most passes or failures in a row that a check may ask for.
pub const CHECK_STREAK_MAX: u32 = 1_000;
/// Longest script that is shown whole in its check's label, characters.
pub const CHECK_LABEL_LENGTH_MAX: usize = 80;
/// Largest log file of an instance, MiB.
pub const LOG_SIZE_MIB_MAX: u64 = 65_536;
/// Most closed log files kept of an instance.
pub const LOG_FILES_MAX: u32 = 1_000;
/// Longest tag of a service, bytes.
pub const TAG_LENGTH_MAX: usize = 255;
/// Largest template source, bytes: with its record it must fit one etcd request of 1.5 MiB.
pub const TEMPLATE_SOURCE_BYTES_MAX: usize = 1 << 20;
/// Largest rendered file, bytes.
pub const RENDERED_BYTES_MAX: usize = 64 << 20;
/// Most files in one template's set.
pub const TEMPLATE_FILES_MAX: usize = 64;
/// Most checks of one service.
pub const CHECKS_MAX: usize = 16;
/// Most words of a command.
pub const COMMAND_WORDS_MAX: usize = 1_024;
/// Kept output of a check, a reload or a command that failed, bytes: enough for a reason, small enough for a record.
pub const OUTPUT_BYTES_MAX: usize = 4_096;
/// Events kept; the oldest go first.
pub const EVENTS_KEPT: usize = 10_000;
/// Versions of one object remembered as bad.
pub const BAD_VERSIONS_KEPT: usize = 16;
/// Shortest interval of a check: below it the checks themselves become the load.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest span that a spec may name.
pub const SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// First and last port of the range that groups draw from when they name none: below Linux's ephemeral range
/// (32768–60999), so no outgoing connection takes one.
pub const PORTS_DEFAULT: (u16, u16) = (20_000, 29_999);
/// Most parameters of one job: a survey that people still fill in.
pub const PARAMETERS_MAX: usize = 64;
/// Longest value of a parameter, bytes: it travels in an environment variable or an argument (execve(2)).
pub const PARAMETER_BYTES_MAX: usize = 64 << 10;
/// Most items of a list parameter.
pub const PARAMETER_ITEMS_MAX: usize = 1_000;
/// Most steps of one job.
pub const STEPS_MAX: usize = 64;
/// Most hosts that an `ssh` job names.
pub const JOB_HOSTS_MAX: usize = 10_000;
/// Highest priority of a run; 0 is the lowest.
pub const PRIORITY_MAX: u8 = 9;
/// Most concurrency keys of one run.
pub const CONCURRENCY_KEYS_MAX: usize = 16;
/// Most runs at a time that a concurrency limit may allow.
pub const CONCURRENCY_RUNS_MAX: u32 = 1_000;
/// Most tries again after a failure.
pub const RETRIES_MAX: u32 = 100;
/// Most output kept of one run, MiB.
pub const RUN_OUTPUT_MIB_MAX: u32 = 64;
/// Most memory of one process of a run, MiB: as good as none.
pub const RUN_MEMORY_MIB_MAX: u32 = 1 << 20;
/// Least memory of one process of a run, MiB: below it hardly a program starts.
pub const RUN_MEMORY_MIB_MIN: u32 = 16;
/// Largest record of a run, bytes: with its end it must fit one etcd request of 1.5 MiB.
pub const RUN_BYTES_MAX: usize = 512 << 10;
/// Lines about one member that go with a verdict on it.
pub const PEER_TRAIL_LINES_MAX: usize = 24;
/// Ended runs kept at most, whatever their retention: the oldest go first.
pub const RUNS_KEPT: usize = 100_000;
/// Most tokens, revoked ones counted; beyond it the oldest that are revoked or expired go.
pub const TOKENS_MAX: usize = 1_000;
/// Most key prefixes of one token.
pub const TOKEN_PREFIXES_MAX: usize = 32;
/// Longest key prefix of a token, bytes.
pub const TOKEN_PREFIX_BYTES_MAX: usize = 1_024;
/// Longest note of a token, bytes.
pub const TOKEN_NOTE_BYTES_MAX: usize = 256;
