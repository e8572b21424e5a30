//! The Redis toolbox. It stands alone: it knows no other crate of ours.
//!
//! Flow: [`url`] says where to go, [`connection`] speaks [`resp`] to one server, [`topology`] turns what every node of a
//! cluster says into one picture with its problems, [`plan`] turns a picture and a wish into moves (pure), [`admin`]
//! carries the moves out, and [`cli`] is what people type.
//!
//! Pure, with no socket and no clock: [`resp`], [`slot`], [`slot_set`], [`address`], [`url`], [`info`], [`topology`],
//! [`plan`]. The rest touches the network and decides nothing.

pub mod address;
pub mod admin;
pub mod cli;
pub mod connection;
pub mod info;
pub mod plan;
pub mod rdb;
pub mod rebuild;
pub mod replication;
pub mod resp;
pub mod slot;
pub mod slot_set;
pub mod topology;
pub mod url;
