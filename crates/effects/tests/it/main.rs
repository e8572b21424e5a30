//! The world against real processes, files, sockets and HAProxy.

mod bench;
mod instances;
