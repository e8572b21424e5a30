//! Rules of ports: each instance needs one of its own on its node.

use super::super::Spec;
use super::super::diagnostic::Wrongs;
use super::Written;
use std::collections::BTreeMap;

/// A fixed port inside another group's range is no clash: the planner passes it over when it draws.
pub(super) fn check(spec: &Spec, written: &Written<'_>, wrong: &mut Wrongs) {
    let mut fixed = BTreeMap::new();
    for (name, group) in &spec.groups {
        let Some(at) = written.groups.get(name.as_str()) else { continue };
        let port = at.get("port");
        let most = u64::from(group.size) + u64::from(group.update.max_surge);
        let Some(number) = group.port.fixed() else {
            let ports = u64::from(group.port.last - group.port.first) + 1;
            if ports < most {
                let message = format!("the range {} has {ports} ports for up to {most} instances", group.port);
                wrong.value(&port, message, "widen the range, or lower `size` or `update.max_surge`");
            }
            continue;
        };
        if group.size > 1 {
            let message = format!("port {number} is for one instance, and `size` is {}", group.size);
            wrong.value(&port, message, "give a range, as `port: 21000-21999`, or leave `port` out");
        } else if most > 1 {
            let message = format!("port {number} is for one instance, and `update.max_surge` adds {}", most - 1);
            wrong.value(&port, message, "leave out `update.max_surge`, or give a range of ports");
        }
        if let Some(first) = fixed.insert(number, name) {
            let message = format!("port {number} is taken by group `{first}` already");
            wrong.value(&port, message, "give one of them another port, or leave `port` out");
        }
    }
}
