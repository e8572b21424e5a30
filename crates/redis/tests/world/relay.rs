//! A link that can be cut: what is sent over it while it is cut goes nowhere, and neither side is told.

use anyhow::Result;
use regrow_redis::address::Address;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A port in front of a server.
pub(crate) struct Relay {
    pub(crate) address: Address,
    whole: watch::Sender<bool>,
}

impl Relay {
    pub(crate) async fn start(server: &Address) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = Address::new("127.0.0.1", listener.local_addr()?.port());
        let (whole, state) = watch::channel(true);
        let server = (server.host.clone(), server.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), state.clone()));
            }
        });
        Ok(Self { address, whole })
    }

    /// Cuts the link, for connections that are there and for those that come.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Mends it; connections from before are gone.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(mut client: TcpStream, server: (String, u16), mut state: watch::Receiver<bool>) {
    if !*state.borrow_and_update() {
        let _ = state.changed().await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    // Whoever waits for the other side's word of receipt waits for 40 ms.
    for side in [&client, &server] {
        let _ = side.set_nodelay(true);
    }
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = state.changed() => drop(state.changed().await),
    }
}
