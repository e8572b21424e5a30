//! A store goes to another place while it is in use.
//!
//! **Flow.** [`Mover`] copies the store at one revision, follows what is written, verifies, and asks for a short fence: while
//! [`MOVED`] exists in the old store, nothing else there changes. Behind the fence it copies the rest and writes the one
//! decisive record over it. [`Switch`] is what everybody uses as their store: it holds writes while the fence stands, goes
//! over to the new place when the decision is there, and lets watches go on.
//!
//! **Guarantees.** Until the decision the old store is the truth, whatever dies; the fence falls by itself with its lease.
//! After it, nothing that was acknowledged is missing in the new one, and no read or write through a [`Switch`] is answered
//! by the old one. Revisions in the new store are above all of the old one's, so none is ever taken for another.
//!
//! **Assumptions.** Whoever writes to an etcd cluster that is to be left writes through a `Switch`; etcd itself has no fence.
//!
//! **Caveats.** Versions of keys and revisions do not keep their numbers; what that means, and why it is safe:
//! `docs/design/0052-store-move.md`.
//!
//! **Errors.** [`MoveError`]; a `Switch` has those of the store, and `Fenced` where a fence stands too long.

mod cut;
mod follow;
mod mover;
mod pass;
mod record;
mod side;
mod switch;
mod target;
mod watch;

pub use mover::{Check, Done, MoveError, Mover, Progress};
pub use record::{Cut, Moved, Place, Standing};
pub use side::{Origin, Ways};
pub use switch::Switch;

/// What the keys about where the store is begin with. They stay where they are when the rest is copied.
pub const RESERVED: &str = "/regrow/store/";

/// In a store that is being left, or was: a [`Moved`]. While it is there, nothing else in that store changes.
pub const MOVED: &str = "/regrow/store/moved";

/// In a store that is not whole yet: what it becomes a copy of.
pub const COPY: &str = "/regrow/store/copy";

/// In a store that was moved: where it is, for those who come by another way.
pub const PLACE: &str = "/regrow/store/place";

/// In a store that is being copied: who does it, under a lease.
pub const MOVER: &str = "/regrow/store/mover";
