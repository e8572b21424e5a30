//! The answer of `CLUSTER NODES`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::address::Address;
use crate::slot::{SLOTS, Slot};
use crate::slot_set::SlotSet;

/// The name of a node: 40 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct NodeId(String);

impl NodeId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, which is enough for people.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl FromStr for NodeId {
    type Err = BadNodes;

    fn from_str(text: &str) -> Result<Self, BadNodes> {
        if text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadNodes::new("node id", text))
        }
    }
}

impl<'de> serde::Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<[u8]> for NodeId {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// An answer of `CLUSTER NODES` that cannot be read: the server's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {part} in a cluster's list of nodes: {text:?}")]
pub struct BadNodes {
    part: &'static str,
    text: String,
}

impl BadNodes {
    fn new(part: &'static str, text: &str) -> Self {
        Self { part, text: text.chars().take(120).collect() }
    }
}

/// What a node is, in another's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// It is the node that was asked.
    pub myself: bool,
    /// It is a master (with or without slots).
    pub master: bool,
    /// It does not answer this one (`fail?`).
    pub suspect: bool,
    /// Most masters agree that it is gone (`fail`).
    pub failed: bool,
    /// It has been met, but has not answered yet.
    pub handshake: bool,
    /// Its address is not known.
    pub noaddr: bool,
}

/// A node, in the eyes of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// Where clients reach it.
    pub address: Address,
    /// Where other nodes reach it.
    pub bus_port: u16,
    /// What it is.
    pub flags: Flags,
    /// For a replica: whose.
    pub master: Option<NodeId>,
    /// Configuration epoch: who of two that claim a slot is right.
    pub epoch: u64,
    /// Whether the bus link to it stands.
    pub linked: bool,
    /// The slots it serves.
    pub slots: SlotSet,
    /// Slots on their way out, and whereto. Told about the node asked only.
    pub migrating: BTreeMap<Slot, NodeId>,
    /// Slots on their way in, and wherefrom. Told about the node asked only.
    pub importing: BTreeMap<Slot, NodeId>,
}

/// What one node says about all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The nodes, by name. The one asked is among them, with `flags.myself`.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Whether the node asked says that the cluster serves (`cluster_state:ok`). A node that has just come back says no
    /// for a moment, and refuses clients.
    pub serving: bool,
    me: NodeId,
}

/// Nodes in one answer; the cluster specification puts the limit of a cluster at about 1,000.
const NODES_MAX: usize = 16_384;

impl View {
    /// Reads an answer. `info`: that of `CLUSTER INFO`. `asked`: where the answers came from, which fills in for a node
    /// that does not know its own address yet.
    ///
    /// Shape of a line: `id host:port@bus[,name…] flags master|- ping pong epoch link [slot|first-last|[slot->-id]|[slot-<-id]]…`.
    /// Source: <https://redis.io/docs/latest/commands/cluster-nodes/>.
    pub fn parse(text: &str, info: &str, asked: &Address) -> Result<Self, BadNodes> {
        let mut nodes = BTreeMap::new();
        let mut me = None;
        for line in text.lines() {
            let node = Node::parse(line, asked)?;
            if node.flags.myself {
                me = Some(node.id.clone());
            }
            nodes.insert(node.id.clone(), node);
            if nodes.len() > NODES_MAX {
                return Err(BadNodes::new("number of nodes", line));
            }
        }
        let me = me.ok_or_else(|| BadNodes::new("list without the node asked", text))?;
        Ok(Self { nodes, serving: info.lines().any(|line| line == "cluster_state:ok"), me })
    }

    /// The node asked.
    pub fn myself(&self) -> &Node {
        &self.nodes[&self.me]
    }

    /// Who serves what in this view, in a form that two views can be compared by.
    pub fn owners(&self) -> BTreeMap<&NodeId, &SlotSet> {
        self.nodes.iter().filter(|(_, node)| !node.slots.is_empty()).map(|(id, node)| (id, &node.slots)).collect()
    }
}

impl Node {
    fn parse(line: &str, asked: &Address) -> Result<Self, BadNodes> {
        let mut words = line.split(' ');
        let mut word = |part| words.next().ok_or_else(|| BadNodes::new(part, line));
        let id: NodeId = word("node id")?.parse()?;
        let (address, bus_port) = place(word("address")?, asked)?;
        let flags = flags(word("flags")?);
        let master = match word("master")? {
            "-" => None,
            master => Some(master.parse()?),
        };
        word("ping")?;
        word("pong")?;
        let epoch = word("epoch")?.parse().map_err(|_| BadNodes::new("epoch", line))?;
        let linked = word("link")? == "connected";
        let mut node = Self {
            id,
            address,
            bus_port,
            flags,
            master,
            epoch,
            linked,
            slots: SlotSet::new(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
        };
        for word in words.filter(|word| !word.is_empty()) {
            node.slots(word).ok_or_else(|| BadNodes::new("slots", word))?;
        }
        Ok(node)
    }

    /// Takes in one word of slots.
    fn slots(&mut self, word: &str) -> Option<()> {
        if let Some(open) = word.strip_prefix('[') {
            let open = open.strip_suffix(']')?;
            if let Some((number, to)) = open.split_once("->-") {
                self.migrating.insert(slot(number)?, to.parse().ok()?);
            } else {
                let (number, from) = open.split_once("-<-")?;
                self.importing.insert(slot(number)?, from.parse().ok()?);
            }
            return Some(());
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (slot(first)?.number(), slot(last)?.number());
        if first > last {
            return None;
        }
        self.slots = self.slots.union(&(first..=last.min(SLOTS - 1)).filter_map(Slot::new).collect());
        Some(())
    }
}

fn slot(digits: &str) -> Option<Slot> {
    digits.parse().ok().and_then(Slot::new)
}

/// `host:port@bus[,hostname[,key=value]…]`. Versions before 4 have no `@bus`; the bus is then 10000 above.
fn place(word: &str, asked: &Address) -> Result<(Address, u16), BadNodes> {
    let bad = || BadNodes::new("address", word);
    let plain = word.split(',').next().unwrap_or_default();
    let (client, bus) = match plain.split_once('@') {
        Some((client, bus)) => (client, Some(bus.parse().map_err(|_| bad())?)),
        None => (plain, None),
    };
    // IPv6 hosts stand without brackets here.
    let (host, port) = client.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = if host.is_empty() { asked.host.as_str() } else { host };
    Ok((Address::new(host, port), bus.unwrap_or(port.saturating_add(10_000))))
}

fn flags(words: &str) -> Flags {
    let mut flags = Flags::default();
    for word in words.split(',') {
        match word {
            "myself" => flags.myself = true,
            "master" => flags.master = true,
            "fail?" => flags.suspect = true,
            "fail" => flags.failed = true,
            "handshake" => flags.handshake = true,
            "noaddr" => flags.noaddr = true,
            _ => {}
        }
    }
    flags
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A name made of one digit pair over and over.
    pub(crate) fn id(pair: &str) -> NodeId {
        pair.repeat(20).parse().unwrap()
    }

    /// A real answer's shapes: own address unknown, host name, open slots both ways, a failed replica, IPv6.
    #[test]
    fn reads_a_list() {
        let text = format!(
            "{a} :7001@17001,,tls-port=0 myself,master - 0 0 3 connected 0-100 200 [200->-{b}] [300-<-{b}]\n\
             {b} 10.0.0.2:7002@17002,b.example master - 0 1 2 connected 300-16383\n\
             {c} ::1:7003@17003 slave,fail {a} 0 0 3 disconnected\n",
            a = id("aa"),
            b = id("bb"),
            c = id("cc")
        );
        let view =
            View::parse(&text, "cluster_state:ok\r\ncluster_size:2\r\n", &Address::new("10.0.0.1", 7001)).unwrap();
        let me = view.myself();
        assert_eq!((me.address.to_string().as_str(), me.bus_port, me.epoch), ("10.0.0.1:7001", 17001, 3));
        assert_eq!(me.slots.to_string(), "0-100,200");
        assert_eq!(me.migrating.iter().map(|(slot, to)| (slot.number(), to)).collect::<Vec<_>>(), [(200, &id("bb"))]);
        assert_eq!(
            me.importing.iter().map(|(slot, from)| (slot.number(), from)).collect::<Vec<_>>(),
            [(300, &id("bb"))]
        );
        assert_eq!(view.nodes[&id("bb")].address.to_string(), "10.0.0.2:7002");
        let replica = &view.nodes[&id("cc")];
        assert!(replica.flags.failed && !replica.flags.master && !replica.linked);
        assert_eq!((replica.master.as_ref(), replica.address.to_string().as_str()), (Some(&id("aa")), "[::1]:7003"));
        assert_eq!(view.owners().len(), 2);
        assert!(view.serving);
    }

    #[test]
    fn refusals() {
        let a = id("aa");
        for (text, part) in [
            (String::new(), "without the node asked"),
            ("short 1.1.1.1:1@2 myself,master - 0 0 1 connected".to_owned(), "node id"),
            (format!("{a} nowhere myself,master - 0 0 1 connected"), "address"),
            (format!("{a} 1.1.1.1:1@2 myself,master - 0 0 x connected"), "epoch"),
            (format!("{a} 1.1.1.1:1@2 myself,master - 0 0 1 connected 5-3"), "slots"),
            (format!("{a} 1.1.1.1:1@2 myself,master - 0 0 1 connected 16384"), "slots"),
            (format!("{a} 1.1.1.1:1@2 myself,master - 0 0 1 connected [3->-zz]"), "slots"),
            (format!("{a} 1.1.1.1:1@2 myself"), "master"),
        ] {
            let error = View::parse(&text, "", &Address::new("h", 1)).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
