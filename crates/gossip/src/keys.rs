//! Keys of the whole cluster: changed and listed by queries, so that Serf agents take part.

use crate::event::{Event, KeyReport};
use crate::gossip::Gossip;
use crate::io::{CommandError, KeyOp, QueryRequest};
use crate::query::Asker;
use crate::wire::{Key, KeyReply, KeyRequest, Keyring, KeyringError, Query};

/// What is known of a change or listing of keys that runs.
#[derive(Debug)]
pub(crate) struct KeyCount {
    pub(crate) token: u64,
    pub(crate) report: KeyReport,
}

impl KeyCount {
    /// Counts an answer. Says whether all have answered.
    pub(crate) fn add(&mut self, from: String, payload: &[u8]) -> bool {
        let report = &mut self.report;
        report.answers += 1;
        match KeyReply::decode(payload) {
            Ok(reply) => {
                if !reply.result {
                    report.errors += 1;
                }
                if !reply.result || !reply.message.is_empty() {
                    report.messages.insert(from, reply.message);
                }
                for key in reply.keys {
                    *report.keys.entry(key).or_default() += 1;
                }
                if !reply.primary.is_empty() {
                    *report.primary.entry(reply.primary).or_default() += 1;
                }
            }
            Err(error) => {
                report.errors += 1;
                report.messages.insert(from, error.to_string());
            }
        }
        report.answers >= report.nodes
    }
}

impl Gossip {
    pub(crate) fn on_keys(&mut self, token: u64, op: KeyOp, relay_factor: u8) {
        if self.config.envelope.keyring.is_none() {
            return self.reject(CommandError::NoKeyring);
        }
        let (name, key) = match &op {
            KeyOp::Install(key) => ("install-key", key.as_bytes()),
            KeyOp::Use(key) => ("use-key", key.as_bytes()),
            KeyOp::Remove(key) => ("remove-key", key.as_bytes()),
            KeyOp::List => ("list-keys", &[][..]),
        };
        let request = QueryRequest {
            token,
            name: format!("_serf_{name}"),
            payload: KeyRequest { key: key.to_vec() }.encode(),
            filters: Vec::new(),
            ack: false,
            relay_factor,
            timeout: None,
        };
        let report = KeyReport { nodes: self.alive_count(), ..KeyReport::default() };
        if let Err(error) = self.ask(request, Asker::Keys(KeyCount { token, report })) {
            self.reject(error);
        }
    }

    pub(crate) fn on_set_keys(&mut self, ring: Keyring) {
        match &mut self.config.envelope.keyring {
            None => self.reject(CommandError::NoKeyring),
            Some(own) if *own == ring => {}
            Some(own) => {
                *own = ring;
                let keys = self.keys();
                self.emit(Event::KeyringChanged { keys });
            }
        }
    }

    /// Does what a key query says; `None` when it is none.
    pub(crate) fn answer_keys(&mut self, name: &str, query: &Query) -> Option<Vec<u8>> {
        if name == "list-keys" {
            return Some(self.list_keys(query));
        }
        if !matches!(name, "install-key" | "use-key" | "remove-key") {
            return None;
        }
        let message = match self.change_keys(name, &query.payload) {
            Ok(()) => String::new(),
            Err(error) => error,
        };
        let result = message.is_empty();
        Some(KeyReply { result, message, ..KeyReply::default() }.encode())
    }

    fn change_keys(&mut self, name: &str, payload: &[u8]) -> Result<(), String> {
        let text = |error: KeyringError| error.to_string();
        let request = KeyRequest::decode(payload).map_err(|error| error.to_string())?;
        let key = Key::new(&request.key).map_err(text)?;
        let Some(ring) = &mut self.config.envelope.keyring else {
            return Err("No keyring to modify (encryption not enabled)".to_owned());
        };
        match name {
            "install-key" => ring.install(key),
            "use-key" => ring.use_key(&key),
            _ => ring.remove(&key),
        }
        .map_err(text)?;
        let keys = self.keys();
        self.emit(Event::KeyringChanged { keys });
        Ok(())
    }

    /// The list of keys, cut to what fits into an answer.
    fn list_keys(&self, query: &Query) -> Vec<u8> {
        if self.config.envelope.keyring.is_none() {
            let message = "Keyring is empty (encryption not enabled)".to_owned();
            return KeyReply { message, ..KeyReply::default() }.encode();
        }
        let keys = self.keys();
        let (total, primary) = (keys.len(), keys[0].clone());
        let mut reply = KeyReply { result: true, message: String::new(), keys, primary };
        // Ends: each turn drops a key, and without any it is sent as it is.
        loop {
            let encoded = reply.encode();
            if self.response_length(query, &encoded) <= self.config.response_bytes_max || reply.keys.is_empty() {
                return encoded;
            }
            reply.keys.pop();
            reply.message = format!("truncated key list response, showing first {} of {total} keys", reply.keys.len());
        }
    }
}
