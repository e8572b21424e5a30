//! Whose replica a new server should be.

use crate::topology::{Node, NodeId, Picture};

/// The master that a replica on `host` serves best: not on the same host where that can be had, then with the fewest
/// replicas, then with the fewest of them on that host, then the first by name. Masters without slots need none, and
/// `not` is left out. `None`: there is no master with slots.
pub fn master_for_replica<'a>(picture: &'a Picture, host: &str, not: Option<&NodeId>) -> Option<&'a Node> {
    picture.masters().filter(|master| !master.slots.is_empty() && Some(&master.id) != not).min_by_key(|master| {
        let replicas: Vec<_> = picture.replicas(&master.id).filter(|replica| Some(&replica.id) != not).collect();
        (
            master.address.host == host,
            replicas.len(),
            replicas.iter().filter(|replica| replica.address.host == host).count(),
            &master.id,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::picture;

    /// Hosts are 10.0.0.1, .2, … in order of the list.
    #[test]
    fn choices() {
        let picture = picture(&[
            ("aa", "master", "-", "0-9"),
            ("bb", "master", "-", "10-19"),
            ("cc", "master", "-", ""),
            ("dd", "slave", "bb", ""),
        ]);
        let choose = |host, not: Option<&str>| {
            master_for_replica(&picture, host, not.map(crate::topology::tests::id).as_ref())
                .map(|node| node.id.as_str()[..2].to_owned())
        };
        assert_eq!(choose("10.0.0.9", None).as_deref(), Some("aa"));
        assert_eq!(choose("10.0.0.1", None).as_deref(), Some("bb"));
        assert_eq!(choose("10.0.0.1", Some("bb")).as_deref(), Some("aa"));
    }
}
