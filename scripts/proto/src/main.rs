//! Makes the Rust of etcd's interface, and the descriptors of it that clients may ask for. See the manifest.

use prost::Message;

fn main() -> anyhow::Result<()> {
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/store");
    let sources = format!("{store}/proto");
    let files = ["kv", "rpc", "health"].map(|file| format!("{sources}/{file}.proto"));
    let set = protox::compile(files, [&sources])?;
    std::fs::write(format!("{store}/src/proto/descriptors.bin"), set.encode_to_vec())?;
    // Without `connect` functions: how connections are made is the remote store's business.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .out_dir(format!("{store}/src/proto"))
        .compile_fds(set)?;
    Ok(())
}
