//! What clients are sent.

use regrow_gossip::wire::{Tags, Writer};
use regrow_gossip::{Coordinate, Event, KeyReport, Member};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A header, and what may follow it.
pub(super) fn header(seq: u64, error: &str) -> Writer {
    let mut writer = Writer::new();
    writer.map(2);
    writer.uint_field("Seq", seq);
    writer.raw_field("Error", error.as_bytes());
    writer
}

pub(super) fn members(writer: &mut Writer, members: &[Member]) {
    writer.map(1);
    writer.text("Members");
    list(writer, members);
}

fn list(writer: &mut Writer, members: &[Member]) {
    writer.array(members.len());
    for member in members {
        writer.map(11);
        writer.raw_field("Name", member.name.as_bytes());
        writer.text("Addr");
        match member.address.ip() {
            IpAddr::V4(ip) => writer.bin(&ip.octets()),
            IpAddr::V6(ip) => writer.bin(&ip.octets()),
        }
        writer.uint_field("Port", member.address.port().into());
        writer.text("Tags");
        texts(writer, &member.tags);
        writer.raw_field("Status", member.status.as_str().as_bytes());
        let names = ["ProtocolMin", "ProtocolMax", "ProtocolCur", "DelegateMin", "DelegateMax", "DelegateCur"];
        for (name, version) in names.into_iter().zip(member.versions) {
            writer.uint_field(name, version.into());
        }
    }
}

fn texts(writer: &mut Writer, texts: &Tags) {
    writer.map(texts.len());
    for (name, value) in texts {
        writer.raw_field(name, value.as_bytes());
    }
}

pub(super) fn number(writer: &mut Writer, name: &str, value: u64) {
    writer.map(1);
    writer.uint_field(name, value);
}

pub(super) fn keys(writer: &mut Writer, report: &KeyReport) {
    writer.map(6);
    writer.text("Messages");
    texts(writer, &report.messages);
    for (name, counts) in [("Keys", &report.keys), ("PrimaryKeys", &report.primary)] {
        writer.text(name);
        writer.map(counts.len());
        for (key, count) in counts {
            writer.uint_field(key, *count as u64);
        }
    }
    writer.uint_field("NumNodes", report.nodes as u64);
    writer.uint_field("NumErr", report.errors as u64);
    writer.uint_field("NumResp", report.answers as u64);
}

/// The error that Serf gives with a report of keys.
pub(super) fn keys_error(report: &KeyReport) -> String {
    if report.errors > 0 {
        format!("{}/{} nodes reported failure", report.errors, report.nodes)
    } else if report.answers != report.nodes {
        format!("{}/{} nodes reported success", report.answers, report.nodes)
    } else {
        String::new()
    }
}

pub(super) fn stats(writer: &mut Writer, stats: &BTreeMap<&str, Tags>) {
    writer.map(stats.len());
    for (name, values) in stats {
        writer.text(name);
        texts(writer, values);
    }
}

pub(super) fn coordinate(writer: &mut Writer, coordinate: Option<&Coordinate>) {
    writer.map(2);
    writer.text("Coord");
    let found = coordinate.copied().unwrap_or_default();
    writer.map(4);
    for (name, value) in [("Adjustment", found.adjustment), ("Error", found.error), ("Height", found.height)] {
        writer.text(name);
        writer.float(value);
    }
    writer.text("Vec");
    writer.array(found.vec.len());
    found.vec.iter().for_each(|value| writer.float(*value));
    writer.bool_field("Ok", coordinate.is_some());
}

/// A record of a stream; `None` for what Serf has no event for.
pub(super) fn event(seq: u64, event: &Event) -> Option<Vec<u8>> {
    let mut writer = header(seq, "");
    match event {
        Event::Member { change, member, .. } => {
            writer.map(2);
            writer.raw_field("Event", change.as_str().as_bytes());
            writer.text("Members");
            list(&mut writer, std::slice::from_ref(member));
        }
        Event::User { ltime, name, payload, coalesce } => {
            writer.map(5);
            writer.raw_field("Event", b"user");
            writer.uint_field("LTime", *ltime);
            writer.raw_field("Name", name.as_bytes());
            writer.text("Payload");
            writer.bin(payload);
            writer.bool_field("Coalesce", *coalesce);
        }
        Event::Query { id, ltime, name, payload, .. } => {
            writer.map(5);
            writer.raw_field("Event", b"query");
            writer.uint_field("ID", *id);
            writer.uint_field("LTime", *ltime);
            writer.raw_field("Name", name.as_bytes());
            writer.text("Payload");
            writer.bin(payload);
        }
        _ => return None,
    }
    Some(writer.finish())
}

/// A record of a query: `ack`, `response` or `done`.
pub(super) fn answer(seq: u64, kind: &str, from: &str, payload: &[u8]) -> Vec<u8> {
    let mut writer = header(seq, "");
    writer.map(3);
    writer.raw_field("Type", kind.as_bytes());
    writer.raw_field("From", from.as_bytes());
    writer.text("Payload");
    writer.bin(payload);
    writer.finish()
}

/// A record of a monitor.
pub(super) fn log(seq: u64, line: &str) -> Vec<u8> {
    let mut writer = header(seq, "");
    writer.map(1);
    writer.raw_field("Log", line.as_bytes());
    writer.finish()
}
