//! The whole table: every identity against everything that can be asked.

use super::*;

fn token(role: Role, prefixes: &[&str], kinds: &[Kind]) -> Identity {
    let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
    Identity::Token { id: "t".into(), grant: Grant { role, prefixes, kinds: kinds.to_vec() } }
}

fn client(role: Option<Role>) -> Identity {
    Identity::Client { name: "c".into(), role }
}

/// A letter each: `+` whole, `~` without credentials, `-` denied, `?` not known who asks.
fn row(identity: &Identity, all: &[Asked<'_>]) -> String {
    let letter = |asked: &Asked<'_>| match decide(identity, asked) {
        Ok(Sight::Whole) => '+',
        Ok(Sight::WithoutCredentials) => '~',
        Err(Refusal::Denied(_)) => '-',
        Err(Refusal::Unknown(_)) => '?',
    };
    all.iter().map(letter).collect()
}

/// Keys: who reads and who writes which.
#[test]
fn keys() {
    use Access::{Read, Write};
    let one = |key: &'static str| Span::key(key.as_bytes());
    let all = Span::new(b"\0", b"\0");
    let spans = [
        one("app/a"),
        Span::new(b"app/", b"app0"),
        one("web/a"),
        all,
        one("/regrow/desired/group/web"),
        Span::new(b"/regrow/", b"/regrow0"),
        one("/regrow/access/token/x"),
        Span::new(b"/regrow/access/", b"/regrow/access0"),
        one("/regrow/staged/a/1/access/token/x"),
        one("/regrow/decided"),
    ];
    let reads: Vec<Asked<'_>> = spans.iter().map(|span| Asked::Keys(Read, *span)).collect();
    let writes: Vec<Asked<'_>> = spans.iter().map(|span| Asked::Keys(Write, *span)).collect();
    let everything = ("++++++++++", "++++++++++");
    for (identity, (read, write)) in [
        (Identity::Anonymous, ("??????????", "??????????")),
        (Identity::Open, everything),
        (Identity::Owner, everything),
        (Identity::Node { name: "n".into() }, everything),
        (Identity::RpcKey, ("----------", "----------")),
        (client(None), ("----------", "----------")),
        (client(Some(Role::Reader)), ("+++~+~--++", "----------")),
        (client(Some(Role::Operator)), ("+++~+~--++", "+++-------")),
        (client(Some(Role::Admin)), everything),
        (token(Role::Reader, &[], &[]), ("+++~+~--++", "----------")),
        (token(Role::Operator, &[], &[]), ("+++~+~--++", "+++-------")),
        (token(Role::Admin, &[], &[]), everything),
        (token(Role::Reader, &["app/"], &[]), ("++--------", "----------")),
        (token(Role::Operator, &["app/"], &[]), ("++--------", "++--------")),
        (token(Role::Operator, &["other/", "app/"], &[]), ("++--------", "++--------")),
        (token(Role::Operator, &["/regrow/"], &[]), ("----+~--++", "----------")),
        (token(Role::Operator, &[""], &[]), ("+++~+~--++", "+++-------")),
        (token(Role::Admin, &["/regrow/"], &[]), ("----+~--++", "----+-----")),
        (token(Role::Admin, &["/regrow/access/"], &[]), ("----------", "----------")),
        (token(Role::Admin, &["app/"], &[]), ("++--------", "++--------")),
        (token(Role::Admin, &[], &[Kind::Group]), ("----------", "----------")),
    ] {
        assert_eq!(row(&identity, &reads), read, "reads of {identity}");
        assert_eq!(row(&identity, &writes), write, "writes of {identity}");
    }
}

/// Everything that is no key.
#[test]
fn the_rest() {
    use Access::{Read, Write};
    let all = [
        Asked::Health,
        Asked::Signed,
        Asked::Leases(Read),
        Asked::Leases(Write),
        Asked::Store,
        Asked::Care("compact the store"),
        Asked::Objects(Read, Kind::Group),
        Asked::Objects(Write, Kind::Group),
        Asked::Objects(Write, Kind::Instance),
        Asked::Objects(Read, Kind::Cluster),
        Asked::Objects(Write, Kind::Cluster),
        Asked::Objects(Read, Kind::Node),
        Asked::Objects(Write, Kind::Node),
        Asked::Members("change the keys of gossip"),
        Asked::Credentials(Read),
        Asked::Credentials(Write),
    ];
    let everything = "++++++++++++++++";
    for (identity, expect) in [
        (Identity::Anonymous, "++??????????????"),
        (Identity::Open, everything),
        (Identity::Owner, everything),
        (Identity::Node { name: "n".into() }, everything),
        (Identity::RpcKey, "++---------+++--"),
        (client(None), "++--------------"),
        (client(Some(Role::Reader)), "+++-+-+--+-+----"),
        (client(Some(Role::Operator)), "+++++-+++++++---"),
        (client(Some(Role::Admin)), everything),
        (token(Role::Reader, &[], &[]), "+++-+-+--+-+----"),
        (token(Role::Operator, &[], &[]), "+++++-+++++++---"),
        (token(Role::Admin, &[], &[]), everything),
        (token(Role::Operator, &["app/"], &[]), "+++++-----------"),
        (token(Role::Admin, &["app/"], &[]), "+++++-----------"),
        (token(Role::Reader, &[], &[Kind::Group]), "++--+-+---------"),
        (token(Role::Operator, &[], &[Kind::Group]), "++--+-+++-------"),
        (token(Role::Operator, &[], &[Kind::Instance]), "++--+---+-------"),
        (token(Role::Operator, &["app/"], &[Kind::Group]), "+++++-+++-------"),
        (token(Role::Operator, &[], &[Kind::Node]), "++--+------++---"),
        (token(Role::Admin, &[], &[Kind::Node]), "++--+------+++--"),
        (token(Role::Admin, &[], &[Kind::Cluster]), "++--+----++-----"),
    ] {
        assert_eq!(row(&identity, &all), expect, "{identity}");
    }
}

/// A refusal says who, what, and what it would take.
#[test]
fn refusals_say_what_it_takes() {
    let says = |identity: Identity, asked: Asked<'_>| decide(&identity, &asked).expect_err("refused").to_string();
    assert_eq!(
        says(token(Role::Operator, &["app/"], &[]), Asked::Keys(Access::Write, Span::key(b"web/a"))),
        "token/t (operator of keys under app/) may not write the key web/a: it is narrowed to other keys"
    );
    assert_eq!(
        says(token(Role::Reader, &[], &[]), Asked::Objects(Access::Write, Kind::Group)),
        "token/t (reader) may not change what is of the kind group: it takes the role operator"
    );
    assert_eq!(
        says(Identity::Anonymous, Asked::Store),
        "credentials are needed to ask how the store is: show a token (`regrow token create` makes one) or a certificate of \
         this cluster"
    );
    assert_eq!(
        says(token(Role::Operator, &[], &[]), Asked::Keys(Access::Write, Span::key(b"/regrow/decided"))),
        "token/t (operator) may not write the key /regrow/decided: keys of Regrow's own take the role admin, and credentials \
         one that is not narrowed"
    );
}
