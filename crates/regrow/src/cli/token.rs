use super::Target;
use crate::exit::{Code, Failure, print, print_json, say};
use clap::{Args, Subcommand};
use regrow_model::access::{Grant, Role};
use regrow_model::{Kind, Name, Time};
use regrow_serve::wire::{Made, TokenLine, TokenState, Wish};
use std::time::{Duration, SystemTime};

/// Make, list and take back tokens, which let people and programs in
///
/// A token has one of three roles. A `reader` looks, an `operator` also changes what
/// runs and writes the users' own keys, an `admin` does everything. One that is
/// narrowed by --prefix or --kind reaches nothing but what it names.
///
/// Examples:
///   regrow token create ann --role admin --note "Ann, on call" > ann.token
///   regrow token create ci --role operator --prefix app/ --expires 30d
///   regrow token create board --role reader --kind group --kind job
///   regrow token ls
///   regrow token revoke ci
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Token {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a token and print it: it is shown this once, and kept nowhere
    Create {
        /// Its name, which the audit log knows its holder by
        name: Name,
        /// What its holder may do: reader, operator or admin
        #[arg(long)]
        role: Role,
        /// Only keys of the store that begin with this; may be given again
        #[arg(long, value_name = "PREFIX")]
        prefix: Vec<String>,
        /// Only objects of this kind: cluster, node, service, group, template, job …; may be given again
        #[arg(long, value_name = "KIND", value_parser = kind)]
        kind: Vec<Kind>,
        /// How long it is good for, as 12h or 30d. Default: until it is revoked
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        /// What it is for
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
        /// JSON instead of the bare token
        #[arg(long)]
        json: bool,
    },
    /// List tokens, also those that are expired or revoked
    Ls {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show one token
    Show {
        /// The token's name
        name: Name,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Take a token back for good: its next request is refused, what is open under it ends
    Revoke {
        /// The token's name
        name: Name,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.map(Kind::as_str).join(", ");
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| format!("`{text}` is not a kind: use one of {known}"))
}

impl Token {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let client = target.client()?;
        match self.verb {
            Verb::Create { name, role, prefix, kind, expires, note, json } => {
                let seconds = expires.map(|expires| expires.as_secs());
                let wish = Wish { id: name, grant: Grant { role, prefixes: prefix, kinds: kind }, note, seconds };
                let made: Made = client.post("/api/tokens", &wish).await?;
                if json {
                    return print_json(&made);
                }
                say(format!("token/{}: {}. It is shown this once.", made.line.id, made.line.grant));
                print(&format!("{}\n", made.token))
            }
            Verb::Ls { json } => {
                let all: Vec<TokenLine> = client.get("/api/tokens").await?;
                if json { print_json(&all) } else { print(&table(&all)) }
            }
            Verb::Show { name, json } => {
                let token: TokenLine = client.get(&format!("/api/tokens/{name}")).await?;
                if json { print_json(&token) } else { print(&whole(&token)) }
            }
            Verb::Revoke { name } => {
                let token: TokenLine = client.post(&format!("/api/tokens/{name}/revoke"), &()).await?;
                if token.state != TokenState::Revoked {
                    return Err(Failure::new(Code::Failed, format!("token/{name} was not revoked")));
                }
                say(format!("token/{name} is revoked."));
                Ok(())
            }
        }
    }
}

fn table(all: &[TokenLine]) -> String {
    let width = |of: &dyn Fn(&TokenLine) -> usize, least| all.iter().map(of).max().unwrap_or(0).max(least);
    let names = width(&|token| token.id.as_str().len(), 4);
    let grants = width(&|token| token.grant.to_string().len(), 5);
    let mut text = format!("{:<names$}  STATE    {:<grants$}  EXPIRES               NOTE\n", "NAME", "GRANT");
    for token in all {
        let expires = token.expires.map_or("never".to_owned(), at);
        let grant = token.grant.to_string();
        let line = format!(
            "{:<names$}  {:<7}  {grant:<grants$}  {expires:<20}  {}",
            token.id.as_str(),
            state(token.state),
            token.note
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn whole(token: &TokenLine) -> String {
    let mut text = format!("token/{}: {}, {}\n", token.id, token.grant, state(token.state));
    if !token.note.is_empty() {
        text.push_str(&format!("  note     {}\n", token.note));
    }
    text.push_str(&format!("  made     {} by {}\n", at(token.created), token.created_by));
    text.push_str(&format!("  expires  {}\n", token.expires.map_or("never".to_owned(), at)));
    if let (Some(revoked), Some(by)) = (token.revoked, &token.revoked_by) {
        text.push_str(&format!("  revoked  {} by {by}\n", at(revoked)));
    }
    text
}

fn state(state: TokenState) -> &'static str {
    match state {
        TokenState::Good => "good",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
    }
}

/// A time as people read it: `2026-01-31T12:00:00Z`.
fn at(time: Time) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time.0);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns, and a token that was taken back.
    #[test]
    fn columns() {
        let token = |id: &str, grant, state, expires| TokenLine {
            id: Name::new(id).expect("a name"),
            state,
            grant,
            note: "on call".to_owned(),
            created: Time(0),
            created_by: "owner".to_owned(),
            expires,
            revoked: (state == TokenState::Revoked).then_some(Time(1_000)),
            revoked_by: (state == TokenState::Revoked).then(|| "token/ann".to_owned()),
        };
        let narrowed = Grant { role: Role::Operator, prefixes: vec!["app/".to_owned()], kinds: Vec::new() };
        let all = [
            token("ann", Grant::whole(Role::Admin), TokenState::Good, None),
            token("ci", narrowed, TokenState::Revoked, Some(Time(86_400_000))),
        ];
        assert_eq!(
            table(&all),
            "NAME  STATE    GRANT                        EXPIRES               NOTE\n\
             ann   good     admin                        never                 on call\n\
             ci    revoked  operator of keys under app/  1970-01-02T00:00:00Z  on call\n"
        );
        assert_eq!(
            whole(&all[1]),
            "token/ci: operator of keys under app/, revoked\n  note     on call\n  made     1970-01-01T00:00:00Z by owner\n  \
             expires  1970-01-02T00:00:00Z\n  revoked  1970-01-01T00:00:01Z by token/ann\n"
        );
    }
}
