//! The Redis toolbox. It stands alone: it knows no other crate of ours.
//!
//! Flow: [`url`] says where to go, [`connection`] speaks [`resp`] to one server, by [`tls`] or not, [`topology`] turns what every node of a
//! cluster says into one picture with its problems, [`plan`] turns a picture and a wish into moves (pure), [`admin`]
//! carries the moves out, [`drill`] breaks a cluster on purpose and measures it through a [`router`], [`upgrade`] restarts
//! its nodes one by one, and [`cli`] is what people type. [`replication`] follows a master as a replica does; [`rdb`] reads its snapshot and [`rebuild`] makes keys
//! anew from it; [`migrate`] moves a data set with all of that, and [`backup`] keeps one in files. [`proxy`] is one address in front of a cluster for clients
//! that know nothing of clusters; [`monitor`] says how it is.
//!
//! Pure, with no socket and no clock: [`resp`], [`slot`], [`slot_set`], [`address`], [`url`], [`info`], [`topology`],
//! [`plan`], [`rdb`], [`rebuild`]. The rest touches the network and decides nothing.

pub mod address;
pub mod admin;
pub mod backup;
pub mod cli;
pub mod connection;
pub mod disk;
pub mod drill;
pub mod info;
pub mod migrate;
pub mod monitor;
pub mod plan;
pub mod proxy;
pub mod rdb;
pub mod rebuild;
pub mod replication;
pub mod resp;
pub mod router;
pub mod slot;
pub mod slot_set;
pub mod tls;
pub mod topology;
pub mod upgrade;
pub mod url;
