//! Users and groups by name, as the system's name service knows them.

use crate::error::error;
use nix::unistd::{Gid, Group, Uid, User};
use regrow_model::observed::{WorldError, WorldErrorKind};

/// A user by name or number.
pub(crate) fn user(name: &str) -> Result<User, WorldError> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    match found {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(error(WorldErrorKind::NotFound, format!("there is no user `{name}` on this machine"))),
        Err(source) => Err(error(WorldErrorKind::Other, format!("cannot look up user `{name}`: {source}"))),
    }
}

/// Ids of `user` or `user:group`; without a group it is the user's own.
pub(crate) fn ids(owner: &str) -> Result<(Uid, Gid), WorldError> {
    match owner.split_once(':') {
        None => user(owner).map(|user| (user.uid, user.gid)),
        Some((name, group_name)) => Ok((user(name)?.uid, group(group_name)?)),
    }
}

fn group(name: &str) -> Result<Gid, WorldError> {
    let found = match name.parse() {
        Ok(number) => return Ok(Gid::from_raw(number)),
        Err(_) => Group::from_name(name),
    };
    match found {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(error(WorldErrorKind::NotFound, format!("there is no group `{name}` on this machine"))),
        Err(source) => Err(error(WorldErrorKind::Other, format!("cannot look up group `{name}`: {source}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows names, numbers, and that an unknown one is named.
    #[test]
    fn looks_up() {
        assert_eq!(ids("root"), Ok((Uid::from_raw(0), Gid::from_raw(0))));
        assert_eq!(ids("0:0"), Ok((Uid::from_raw(0), Gid::from_raw(0))));
        assert!(ids("nobody-here").unwrap_err().text.contains("no user `nobody-here`"));
        assert!(ids("root:nogroup-here").unwrap_err().text.contains("no group `nogroup-here`"));
    }
}
