//! The page `jobs` of the guide: its example is true.

#![allow(clippy::print_stderr, reason = "support prints an agent's log when a test fails")]

mod support;

use std::path::Path;
use support::{Cluster, guide};

/// Shows that what the page says of jobs is what happens.
#[test]
fn the_page_is_true() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/jobs.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let spec = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a spec");
    let cluster = Cluster::empty();
    cluster.write("regrow.yaml", spec);
    cluster.write("greet.sh", "echo \"Hello, $1\"\n");
    guide::run("jobs.md", |shell| {
        shell.current_dir(cluster.folder.path()).env("REGROW_DATA", cluster.path("data"));
        for door in ["HTTP", "ETCD", "GOSSIP", "RPC"] {
            shell.env(format!("REGROW_{door}"), "off");
        }
    });
}
