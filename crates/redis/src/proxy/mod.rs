//! One address for clients that know nothing of clusters, and the switch between two backends.
//!
//! Flow: [`Proxy`] listens and hands each client to one of its threads (`worker`). A `session` reads a client's commands
//! (`request`), finds each in the server's own list (`table`, `keys`) and sends it to its slot's master (`map`) over a
//! connection that all clients of the thread share (`link`), in parts where its keys are of several slots (`split`,
//! `merge`). Answers come back by length only (`frame`) and are put in order (`client`). A refusal or a broken connection
//! is a question to `verdict`: again, elsewhere, or to the client.
//!
//! Guarantees: the answers of a client come in the order of its commands; a write whose fate is unknown is never sent again
//! and never called good; what one client does or leaves undone costs others nothing but its share; everything is bounded
//! by [`Limits`]. While paused, commands wait, and none is in flight: that is when the backend may be changed.
//!
//! Caveats: commands of a pipeline are in flight together, so when one is refused for the moment and the next is not,
//! they are carried out in another order, as with any client of a cluster. A command with keys of several slots that may be
//! split is not carried out at one moment.

mod backend;
mod client;
mod control;
mod door;
mod frame;
pub(crate) mod http;
mod keys;
mod limits;
mod link;
mod lockout;
mod map;
mod merge;
mod metrics;
mod open;
mod remote;
mod request;
mod session;
mod settings;
mod split;
mod start;
mod table;
mod verdict;
mod wire;
mod worker;

pub use control::{ControlError, Status, Switched};
pub use limits::Limits;
pub use open::OpenError;
pub use remote::{Remote, RemoteError};
pub use settings::Secret;
pub use start::{Config, Proxy, StartError};
