//! The world against real processes, files, sockets and HAProxy.

mod bench;
mod checks;
mod disk;
mod files;
mod instances;
mod output;
mod proxy;
mod refusals;
mod runs;
mod stops;
mod telling;
