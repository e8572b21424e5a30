//! Who may enter: the records of tokens, `/regrow/access/token/<id>`.

use crate::{Kind, Time};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// What the keys of tokens begin with.
pub const TOKENS: &str = "/regrow/access/token/";

/// What every token begins with, so that people and scanners recognise one.
pub const TOKEN_MARK: &str = "rgw_";

/// Characters of a token behind its mark: 32 random bytes in base64url without padding.
pub const TOKEN_SECRET_LENGTH: usize = 43;

/// The token that `regrow init` makes, for the first administrator.
pub const FIRST_TOKEN: &str = "admin";

/// What somebody may do, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but credentials.
    Reader,
    /// Also change what runs, and write the users' own keys.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Admin];

    /// The word in records and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is no [`Role`]. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: use reader, operator or admin")]
pub struct RoleError(pub String);

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Role, RoleError> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| RoleError(text.to_owned()))
    }
}

/// A role, and what it is narrowed to. One that is narrowed reaches nothing but what it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What may be done.
    pub role: Role,
    /// Only to keys of the store that begin with one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Only to objects of these kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
}

impl Grant {
    /// A role that is not narrowed.
    pub fn whole(role: Role) -> Grant {
        Grant { role, prefixes: Vec::new(), kinds: Vec::new() }
    }

    /// Whether it is narrowed.
    pub fn is_narrowed(&self) -> bool {
        !self.prefixes.is_empty() || !self.kinds.is_empty()
    }
}

/// As people read it: `operator of keys under app/ and of group, job`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role.as_str())?;
        let mut word = " of";
        if !self.prefixes.is_empty() {
            write!(f, "{word} keys under {}", self.prefixes.join(", "))?;
            word = " and of";
        }
        if !self.kinds.is_empty() {
            let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
            write!(f, "{word} {}", kinds.join(", "))?;
        }
        Ok(())
    }
}

/// What is kept of a token: its BLAKE3 hash, as 64 hex digits in text. A token is 256 random bits, so nobody finds it
/// by trying, and a hash that is slow to compute would only slow down those who have one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seal([u8; 32]);

impl Seal {
    /// The seal of a token.
    pub fn of(token: &str) -> Seal {
        Seal(*blake3::hash(token.as_bytes()).as_bytes())
    }

    /// Compares in a time that does not tell where they differ.
    pub fn is(&self, other: &Seal) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Serialize for Seal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Seal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seal, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&text).map_err(|_| de::Error::custom("a seal has 64 hex digits"))?;
        Ok(Seal(*hash.as_bytes()))
    }
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The token's hash.
    pub seal: Seal,
    /// What it lets its holder do.
    #[serde(flatten)]
    pub grant: Grant,
    /// What it is for, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was made.
    pub created: Time,
    /// By whom.
    pub created_by: String,
    /// From when on it is refused; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// Since when it is refused for good. The record stays, so that its name tells what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// When a token was taken back, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: Time,
    /// By whom.
    pub by: String,
}

/// Whether a text has the shape of a token. It says nothing about whether there is such a token.
pub fn is_token(text: &str) -> bool {
    text.strip_prefix(TOKEN_MARK).is_some_and(|secret| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        secret.len() == TOKEN_SECRET_LENGTH && secret.bytes().all(fits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record reads back as it was written, and never has the token in it.
    #[test]
    fn records_read_back() {
        let text = format!("{TOKEN_MARK}{}", "a-Z_0".repeat(9).split_at(TOKEN_SECRET_LENGTH).0);
        assert!(is_token(&text));
        let token = Token {
            seal: Seal::of(&text),
            grant: Grant { role: Role::Operator, prefixes: vec!["app/".into()], kinds: vec![Kind::Group, Kind::Job] },
            note: "ci".into(),
            created: Time(7),
            created_by: "the owner of the agent's socket".into(),
            expires: Some(Time(9)),
            revoked: None,
        };
        let json = serde_json::to_string(&token).expect("serialises");
        assert_eq!(serde_json::from_str::<Token>(&json).expect("reads"), token);
        assert!(!json.contains(&text) && !format!("{token:?}").contains("64"), "{json} {token:?}");
        assert_eq!(token.grant.to_string(), "operator of keys under app/ and of group, job");
        assert!(Seal::of(&text).is(&token.seal) && !Seal::of("other").is(&token.seal));
    }

    /// What is no token is seen without looking it up.
    #[test]
    fn shapes() {
        let secret = "A".repeat(TOKEN_SECRET_LENGTH);
        for (text, expect) in [
            (format!("rgw_{secret}"), true),
            (format!("rgw_{}", &secret[1..]), false),
            (format!("rgw_{secret}A"), false),
            (format!("rgw_{}=", &secret[1..]), false),
            (secret.clone(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_token(&text), expect, "{text}");
        }
    }
}
