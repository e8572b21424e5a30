//! A client of Serf's RPC that looks at errors only.

use regrow_gossip::wire::{Reader, Writer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A client of Serf's RPC.
pub(crate) struct Rpc {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
    seq: u64,
}

impl Rpc {
    pub(crate) async fn connect(address: &str) -> Rpc {
        let stream = TcpStream::connect(address).await.expect("connects");
        let mut client = Rpc { stream, bytes: Vec::new(), seq: 0 };
        let mut body = Writer::new();
        body.map(1);
        body.uint_field("Version", 1);
        assert_eq!(client.send("handshake", body).await, "");
        client
    }

    pub(crate) async fn ask(&mut self, command: &str, fields: &[(&str, &str)]) -> String {
        let mut body = Writer::new();
        if !matches!(command, "members" | "stats" | "leave" | "list-keys") {
            body.map(fields.len());
            fields.iter().for_each(|(name, value)| body.raw_field(name, value.as_bytes()));
        }
        self.send(command, body).await
    }

    /// The error of the answer. A body is passed over: it has no number.
    async fn send(&mut self, command: &str, body: Writer) -> String {
        self.seq += 1;
        let mut writer = Writer::new();
        writer.map(2);
        writer.raw_field("Command", command.as_bytes());
        writer.uint_field("Seq", self.seq);
        writer.plain(&body.finish());
        self.stream.write_all(&writer.finish()).await.expect("sent");
        loop {
            let (mut seq, mut error) = (0, String::new());
            let mut reader = Reader::new(&self.bytes);
            let read = reader.fields(|name, reader| {
                match name {
                    b"Seq" => seq = reader.uint("Seq")?,
                    b"Error" => error = reader.text("Error", 4096)?,
                    _ => return Ok(false),
                }
                Ok(true)
            });
            if read.is_ok() {
                let read = reader.position();
                self.bytes.drain(..read);
                if seq == self.seq {
                    return error;
                }
                continue;
            }
            let more = self.stream.read_buf(&mut self.bytes).await.expect("an answer");
            assert!(more > 0, "the connection ended");
        }
    }
}
