//! Commands by which a client could lock out the proxy. Pure.
//!
//! They change how somebody logs in to the servers, or where the servers are reached. The proxy sends such a command to
//! the masters only, never to replicas, and goes on using what its URL says: after the next broken connection neither the
//! proxy nor the replicas would get in, and nobody could undo it by way of the proxy. Whoever runs the servers sets these
//! on each of them, and tells the proxy by a switch.

use super::keys::Words;

/// Settings of how one logs in: clients with `requirepass`, replicas with the others.
const LOGIN: [&str; 3] = ["requirepass", "masterauth", "masteruser"];
/// Settings of where and how a server is reached.
const REACH: [&str; 4] = ["bind", "port", "protected-mode", "cluster-preferred-endpoint-type"];
/// What the names of further such settings begin with.
const REACH_STARTS: [&str; 4] = ["tls-", "cluster-announce-", "replica-announce-", "slave-announce-"];

/// The error for a command that could lock out the proxy, which has logged in as `user` (`None`: the default user); `None`
/// for any other command. Nothing of the command's values is in it.
pub(crate) fn refusal(words: Words<'_>, user: Option<&str>) -> Option<String> {
    let what = match () {
        () if words.is(0, "CONFIG") && words.is(1, "SET") => {
            let name = words.from(2).step_by(2).find_map(setting)?;
            format!("CONFIG SET {name}")
        }
        () if words.is(0, "ACL") && words.is(1, "LOAD") => "ACL LOAD".to_owned(),
        () if words.is(0, "ACL") && words.is(1, "SETUSER") => {
            words.get(2).filter(|name| is_ours(name, user))?;
            "ACL SETUSER for this user".to_owned()
        }
        () if words.is(0, "ACL") && words.is(1, "DELUSER") => {
            words.from(2).find(|name| is_ours(name, user))?;
            "ACL DELUSER for this user".to_owned()
        }
        () => return None,
    };
    Some(format!(
        "{what} is not carried by the proxy: it could lock out the proxy and the replicas; do it on each server, replicas too"
    ))
}

/// The user of the proxy, or the one that replicas log in as when no other is set. Names are told apart by case.
fn is_ours(name: &[u8], user: Option<&str>) -> bool {
    name == b"default" || user.is_some_and(|user| name == user.as_bytes())
}

/// The name of a setting that could lock the proxy out, as it is to be shown.
fn setting(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let found = LOGIN.contains(&&*name)
        || REACH.contains(&&*name)
        || REACH_STARTS.iter().any(|start| name.starts_with(start)) && name.bytes().all(is_of_settings);
    found.then_some(name)
}

/// Names of settings have no other letters; others are unknown to the server, and are not repeated in an answer.
fn is_of_settings(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::with_words;
    use super::*;

    /// Whether a command is refused, and as what, when the proxy has logged in as `user`.
    fn refused(line: &str, user: Option<&str>) -> Option<String> {
        let text = with_words(line, |words| refusal(words, user))?;
        text.split(" is not carried").next().map(str::to_owned)
    }

    /// What changes a login or a server's address is refused, wherever it stands in the command.
    #[test]
    fn refused_commands() {
        for (line, user, wanted) in [
            ("CONFIG SET requirepass x", None, "CONFIG SET requirepass"),
            ("config set RequirePass x", Some("regrow"), "CONFIG SET requirepass"),
            ("CONFIG SET maxmemory 0 masterauth x", None, "CONFIG SET masterauth"),
            ("CONFIG SET masteruser x", None, "CONFIG SET masteruser"),
            ("CONFIG SET port 0", None, "CONFIG SET port"),
            ("CONFIG SET tls-port 1", None, "CONFIG SET tls-port"),
            ("CONFIG SET cluster-announce-ip 10.0.0.1", None, "CONFIG SET cluster-announce-ip"),
            ("ACL SETUSER default off", None, "ACL SETUSER for this user"),
            ("acl setuser default >x", Some("regrow"), "ACL SETUSER for this user"),
            ("ACL SETUSER regrow on", Some("regrow"), "ACL SETUSER for this user"),
            ("ACL DELUSER a regrow", Some("regrow"), "ACL DELUSER for this user"),
            ("ACL LOAD", None, "ACL LOAD"),
        ] {
            assert_eq!(refused(line, user).as_deref(), Some(wanted), "{line}");
        }
    }

    /// Everything else is the servers' affair, values that look like names too.
    #[test]
    fn other_commands() {
        for (line, user) in [
            ("CONFIG SET maxmemory 1gb", None),
            ("CONFIG SET maxmemory requirepass", None),
            ("CONFIG SET tls-\r\nx 1", None),
            ("CONFIG GET requirepass", None),
            ("CONFIG SET", None),
            ("ACL SETUSER app on", None),
            ("ACL SETUSER Default on", None),
            ("ACL SETUSER regrow on", Some("Regrow")),
            ("ACL SETUSER app default", None),
            ("ACL DELUSER app", Some("regrow")),
            ("ACL WHOAMI", None),
            ("ACL", None),
            ("GET requirepass", None),
        ] {
            assert_eq!(refused(line, user), None, "{line}");
        }
    }
}
