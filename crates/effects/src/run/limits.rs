//! Every limit of carrying runs out, in one place.

use std::time::Duration;

/// Longest line of a program's output; a longer one comes in pieces. An event of Ansible has its diff in one.
pub(super) const LINE_BYTES_MAX: usize = 256 << 10;

/// One read of output.
pub(super) const READ_BYTES: usize = 16 << 10;

/// Longest that output is still taken when everything has ended but a connection that `ssh` keeps.
pub(super) const DRAIN_WAIT_MAX: Duration = Duration::from_millis(500);

/// Longest reason.
pub(super) const WHY_BYTES_MAX: usize = 500;

/// Longest message of a host in an event.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Longest diff of a host in an event.
pub(super) const DIFF_BYTES_MAX: usize = 32 << 10;

/// Hosts of one recap: what a result may hold.
pub(super) const RECAP_HOSTS_MAX: usize = 2_000;

/// Longest name of a play, a task or a host in an event.
pub(super) const NAME_BYTES_MAX: usize = 512;

/// Hosts named in a reason.
pub(super) const HOSTS_NAMED_MAX: usize = 5;

/// Shortest secret that is masked in output: a shorter one would mask everything.
pub(super) const SECRET_BYTES_MIN: usize = 4;

/// Largest answer of an `http` task that is told.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Files that a run may leave.
pub(super) const ARTEFACTS_MAX: usize = 64;

/// Folders in folders of a run's files.
pub(super) const ARTEFACT_DEPTH_MAX: usize = 8;

/// Entries of folders looked at for a run's files.
pub(super) const ARTEFACT_ENTRIES_MAX: usize = 1_024;

/// Bytes of a file told at once: with base64 it has room in one piece of a log.
pub(super) const ARTEFACT_PIECE_BYTES: usize = 32 << 10;

/// As good as never.
pub(super) const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
