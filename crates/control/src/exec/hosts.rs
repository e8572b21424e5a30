//! Lists of hosts as people write them: `web[1-3,7]` is `web1 web2 web3 web7`, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Most hosts of one list.
pub const HOSTS_MAX: usize = 10_000;

/// Longest host, in bytes: a name of DNS (RFC 1035, section 2.3.4) with a user and a port.
pub const HOST_BYTES_MAX: usize = 320;

/// Why a list of hosts is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// A bracket without its other half, or what is in it is no number or range.
    #[error("`{0}` is not a list of hosts: write numbers as web[1-3,7] or web[01-12]")]
    Range(String),
    /// Not the name of a host.
    #[error("`{0}` is not a host: letters, digits, `.`, `_`, `-`, as user@host:port, and no `-` in front")]
    Name(String),
    /// More than [`HOSTS_MAX`].
    #[error("`{0}` names more than {HOSTS_MAX} hosts")]
    TooMany(String),
}

/// The hosts of one term, in its order: `db1`, `web[01-12,20].shop`, `rack[1-2]-web[1-4]`, `me@db1:2200`.
pub fn expand(term: &str) -> Result<Vec<String>, HostsError> {
    let mut hosts = vec![String::new()];
    let mut rest = term;
    while let Some((before, bracket)) = rest.split_once('[') {
        let (list, after) = bracket.split_once(']').ok_or_else(|| HostsError::Range(term.to_owned()))?;
        let numbers = numbers(list, term)?;
        if hosts.len().saturating_mul(numbers.len()) > HOSTS_MAX {
            return Err(HostsError::TooMany(term.to_owned()));
        }
        let with =
            |host: &String| -> Vec<String> { numbers.iter().map(|number| format!("{host}{before}{number}")).collect() };
        hosts = hosts.iter().flat_map(with).collect();
        rest = after;
    }
    hosts.iter_mut().for_each(|host| host.push_str(rest));
    match hosts.iter().find(|host| !is_host(host)) {
        Some(host) => Err(HostsError::Name(host.clone())),
        None => Ok(hosts),
    }
}

/// The numbers in a bracket, with the leading zeros of their range.
fn numbers(list: &str, term: &str) -> Result<Vec<String>, HostsError> {
    let wrong = || HostsError::Range(term.to_owned());
    let mut all = Vec::new();
    for part in list.split(',') {
        // Ansible writes ranges with a colon.
        let (first, last) = part.split_once(['-', ':']).unwrap_or((part, part));
        let number = |text: &str| -> Result<u64, HostsError> {
            let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or_else(wrong)
        };
        let (from, to) = (number(first)?, number(last)?);
        let width = if first.starts_with('0') { first.len() } else { 0 };
        if from > to {
            return Err(wrong());
        }
        if to - from >= HOSTS_MAX as u64 || all.len() as u64 + (to - from) >= HOSTS_MAX as u64 {
            return Err(HostsError::TooMany(term.to_owned()));
        }
        all.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(all)
}

/// Whether a text can be a host, with a user before `@` and a port behind `:` where they are given. What `ssh` would
/// take for an option is none.
pub fn is_host(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let plain = |part: &str, also: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c));
    text.len() <= HOST_BYTES_MAX
        && !host.is_empty()
        && !text.starts_with('-')
        && !host.starts_with('-')
        && user.is_empty() != text.contains('@')
        && plain(user, "._-+\\")
        && plain(host, "._-:")
}

/// Hosts as a short list, each once, in order: `web1 web2 web3` is `web[1-3]`.
///
/// The number that is folded is the last one of the first label, or the last part of an IPv4 address.
pub fn fold<'a>(hosts: impl IntoIterator<Item = &'a str>) -> String {
    let hosts: Vec<(&str, Option<Split<'_>>)> = hosts.into_iter().map(|host| (host, split(host))).collect();
    let splits = || hosts.iter().filter_map(|(_, split)| *split);
    // A number without leading zeros belongs to the series of its length that has them.
    let padded: BTreeSet<(&str, usize, &str)> = splits()
        .filter(|(_, digits, ..)| digits.len() > 1 && digits.starts_with('0'))
        .map(|(before, digits, after, _)| (before, digits.len(), after))
        .collect();
    let mut series: BTreeMap<(&str, usize, &str), Vec<u64>> = BTreeMap::new();
    for (before, digits, after, number) in splits() {
        let width = if padded.contains(&(before, digits.len(), after)) { digits.len() } else { 0 };
        series.entry((before, width, after)).or_default().push(number);
    }
    let mut single: Vec<String> =
        hosts.iter().filter(|(_, split)| split.is_none()).map(|(host, _)| (*host).to_owned()).collect();
    for ((before, width, after), mut numbers) in series {
        numbers.sort_unstable();
        numbers.dedup();
        let folded = ranges(&numbers, width);
        let many = numbers.len() > 1;
        single.push(if many { format!("{before}[{folded}]{after}") } else { format!("{before}{folded}{after}") });
    }
    single.sort();
    single.dedup();
    single.join(",")
}

/// What is before the number, its digits, what is behind, and the number.
type Split<'a> = (&'a str, &'a str, &'a str, u64);

fn split(host: &str) -> Option<Split<'_>> {
    let label = if host.parse::<Ipv4Addr>().is_ok() { host.len() } else { host.find('.').unwrap_or(host.len()) };
    let end = host[..label].rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = host[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let digits = &host[start..end];
    // Longer ones are no counters.
    let number = (digits.len() <= 9).then(|| digits.parse().ok())??;
    Some((&host[..start], digits, &host[end..], number))
}

fn ranges(numbers: &[u64], width: usize) -> String {
    let mut text = Vec::new();
    let mut at = 0;
    while at < numbers.len() {
        let length = (at..numbers.len()).take_while(|next| numbers[*next] - numbers[at] == (next - at) as u64).count();
        let (first, last) = (numbers[at], numbers[at + length - 1]);
        text.push(match length {
            1 => format!("{first:0width$}"),
            _ => format!("{first:0width$}-{last:0width$}"),
        });
        at += length;
    }
    text.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(term: &str) -> String {
        expand(term).unwrap_or_else(|error| panic!("{term}: {error}")).join(" ")
    }

    /// Shows what people write.
    #[test]
    fn lists_expand() {
        assert_eq!(expanded("db1"), "db1");
        assert_eq!(expanded("web[1-3,7].shop"), "web1.shop web2.shop web3.shop web7.shop");
        assert_eq!(expanded("web[08-11]"), "web08 web09 web10 web11");
        assert_eq!(expanded("r[1-2]n[1:2]"), "r1n1 r1n2 r2n1 r2n2");
        assert_eq!(expanded("me@127.0.0.[1-2]:2200"), "me@127.0.0.1:2200 me@127.0.0.2:2200");
    }

    /// Shows that what is no host is refused, above all what `ssh` would take for an option.
    #[test]
    fn hostile_terms_are_refused() {
        for term in ["-oProxyCommand=x", "a b", "a;b", "a\nb", "$(x)", "", "@a", "me@-x", "a/b", "a`b`", "a'b", "é"] {
            assert!(matches!(expand(term), Err(HostsError::Name(_))), "{term:?}");
        }
        for term in ["web[1-", "web[3-1]", "web[]", "web[a]", "web[1-2-3]", "web[-1]", "web[1-99999999999999999999]"] {
            assert!(matches!(expand(term), Err(HostsError::Range(_))), "{term:?}");
        }
        for term in ["web[1-20000]", "a[1-1000]b[1-1000]", "a[1-9999,1-9999]", "a[0-999999999999999999]"] {
            assert!(matches!(expand(term), Err(HostsError::TooMany(_))), "{term:?}");
        }
    }

    /// Shows how lists are folded for people.
    #[test]
    fn lists_fold() {
        assert_eq!(fold(["web3", "web1", "web2", "db1", "web7", "web1"]), "db1,web[1-3,7]");
        assert_eq!(fold(["n08.a", "n09.a", "n10.a"]), "n[08-10].a");
        assert_eq!(fold(["127.0.9.1", "127.0.9.2"]), "127.0.9.[1-2]");
        assert_eq!(fold(["a", "b"]), "a,b");
        assert_eq!(fold([]), "");
    }

    proptest! {
        /// Property: a folded list expands to the very same hosts.
        #[test]
        fn folding_loses_nothing(hosts in proptest::collection::btree_set("[a-c]{1,2}[0-9]{0,3}(-[0-9]{1,2})?(\\.x1)?", 1..40)) {
            let folded = fold(hosts.iter().map(String::as_str));
            let mut back: Vec<String> = Vec::new();
            let mut depth = 0;
            let terms = folded.split(|c| { depth += i32::from(c == '[') - i32::from(c == ']'); c == ',' && depth == 0 });
            for term in terms {
                back.extend(expand(term).unwrap());
            }
            back.sort();
            prop_assert_eq!(back, hosts.into_iter().collect::<Vec<_>>());
        }
    }
}
