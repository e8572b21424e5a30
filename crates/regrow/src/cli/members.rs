use super::Target;
use crate::exit::{Failure, print, print_json};
use clap::Args;
use regrow_serve::membership::wire::MemberLine;

/// List the members of the cluster as this node sees them
///
/// Examples:
///   regrow members
///   regrow members --status alive --tag role=web
///   regrow members --json | jq -r '.[].address'
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Members {
    /// Only in this state: alive, suspect, leaving, left or failed
    #[arg(long, value_name = "STATE")]
    status: Option<String>,
    /// Only with this tag; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Members {
    pub(super) async fn run(self, target: &Target) -> Result<(), Failure> {
        let wanted = self
            .tag
            .iter()
            .map(|tag| tag.split_once('=').ok_or_else(|| Failure::usage(format!("the tag `{tag}` is not NAME=VALUE"))));
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        let mut members: Vec<MemberLine> = target.client()?.get("/api/members").await?;
        members.retain(|member| {
            self.status.as_ref().is_none_or(|status| member.status == *status)
                && wanted.iter().all(|(name, value)| member.tags.get(*name).is_some_and(|has| has == value))
        });
        if self.json { print_json(&members) } else { print(&table(&members)) }
    }
}

fn table(members: &[MemberLine]) -> String {
    let width = |of: fn(&MemberLine) -> usize| members.iter().map(of).max().unwrap_or(0);
    let (names, addresses) = (width(|member| member.name.len()), width(|member| member.address.len()));
    let mut text = String::new();
    for member in members {
        let tags: Vec<String> = member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let quarantined = if member.quarantined { "  (quarantined: it comes and goes)" } else { "" };
        let line = format!(
            "{:<names$}  {:<addresses$}  {:<8}{}{}",
            member.name,
            member.address,
            member.status,
            tags.join(","),
            quarantined
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the columns, tags, and the remark on one that flaps.
    #[test]
    fn columns() {
        let member = |name: &str, status: &str, tags: &[(&str, &str)], quarantined| MemberLine {
            name: name.to_owned(),
            address: "10.0.0.1:7946".to_owned(),
            status: status.to_owned(),
            tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            incarnation: 1,
            quarantined,
        };
        let all = [member("a", "alive", &[("role", "web"), ("zone", "1")], false), member("long", "failed", &[], true)];
        assert_eq!(
            table(&all),
            "a     10.0.0.1:7946  alive   role=web,zone=1\n\
             long  10.0.0.1:7946  failed    (quarantined: it comes and goes)\n"
        );
    }
}
