//! One connection to Redis, made when it is needed and again when it broke.

use crate::Error;
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::resp::{Command, Value};
use tokio::sync::Mutex;

pub(super) struct Pipe {
    dialer: Dialer,
    address: Address,
    db: u32,
    connection: Mutex<Option<Connection>>,
}

impl Pipe {
    pub(super) fn new(dialer: Dialer, address: Address, db: u32) -> Pipe {
        Pipe { dialer, address, db, connection: Mutex::new(None) }
    }

    /// One command; a refusal is an error.
    pub(super) async fn call(&self, command: &Command) -> Result<Value, Error> {
        let mut place = self.connection.lock().await;
        // Taken out meanwhile: a caller that gives up leaves nothing half read behind.
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        match connection.call(command).await {
            Ok(answer) => {
                *place = Some(connection);
                Ok(answer)
            }
            Err(error) => {
                if matches!(error, regrow_redis::connection::Error::Reply { .. }) {
                    *place = Some(connection);
                }
                Err(error.into())
            }
        }
    }

    /// Many commands at once; refusals are among the answers.
    pub(super) async fn all(&self, commands: &[Command]) -> Result<Vec<Value>, Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut place = self.connection.lock().await;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answers = connection.pipeline(commands).await?;
        *place = Some(connection);
        Ok(answers)
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let mut connection = self.dialer.connect(&self.address).await?;
        if self.db > 0 {
            connection.ok(&Command::new("SELECT").number(self.db)).await?;
        }
        Ok(connection)
    }
}
