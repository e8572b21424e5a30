//! Makes the Rust of etcd's interface. See the manifest.

fn main() -> anyhow::Result<()> {
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/store");
    let sources = format!("{store}/proto");
    let files = ["kv", "rpc", "health"].map(|file| format!("{sources}/{file}.proto"));
    let set = protox::compile(files, [&sources])?;
    // Without `connect` functions: how connections are made is the remote store's business.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .out_dir(format!("{store}/src/proto"))
        .compile_fds(set)?;
    Ok(())
}
