//! etcd's clients as they come, beyond `etcdctl` with API 3 (`etcd3.rs`) and the v2 interface itself (`etcd2.rs`): the
//! JSON gateway beside a real etcd's, `etcdctl` with API 2, Python's packages, gRPC by reflection, and the discovery of
//! real etcd members. What is not installed, or cannot be had from PyPI, is skipped by name.
//!
//! What goes wrong on purpose is in [`trouble`].

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

#[path = "../support/mod.rs"]
mod support;

mod discovery;
mod etcdctl2;
mod etcdctl3;
mod json;
mod python;
mod trouble;
