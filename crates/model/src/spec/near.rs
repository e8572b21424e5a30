//! The word that was probably meant.

/// Words longer than this are not compared: no key or name is.
const WORD_LENGTH_MAX: usize = 64;

/// Most words that one is compared with: a spec of thousands of wrong names must be answered at once as well.
const COMPARED_MAX: usize = 1_000;

/// The nearest of `known` to `word`, when it is near enough to be a slip: a third of the letters at most, two of them
/// swapped counting as one.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Words of one or two letters are all near each other.
    let far = match word.chars().count() {
        0..=2 => 0,
        letters => (letters / 3).max(1),
    };
    let alike =
        known.into_iter().filter(|candidate| candidate.len().abs_diff(word.len()) <= far * char::MAX.len_utf8());
    let distances = alike.take(COMPARED_MAX).map(|candidate| (distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, candidate)| candidate)
}

/// `did you mean …?` for a near word, else what there is.
pub(super) fn help<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone, what: &str) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    match listed(known) {
        Some(list) => format!("{what}: {list}"),
        None => format!("{what}: none"),
    }
}

/// At most so many words are listed: a screen's worth.
const LISTED_MAX: usize = 24;

/// Words as a list for people; `None` for none.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut words = words.into_iter();
    let first: Vec<String> = words.by_ref().take(LISTED_MAX).map(|word| format!("`{word}`")).collect();
    if first.is_empty() {
        return None;
    }
    let more = words.count();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(first.join(", ") + &tail)
}

/// How many letters must be put in, left out, changed or swapped with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    if one.len() > WORD_LENGTH_MAX || other.len() > WORD_LENGTH_MAX {
        return usize::MAX;
    }
    let one: Vec<char> = one.chars().flat_map(char::to_lowercase).collect();
    let other: Vec<char> = other.chars().flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let change = last[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that slips are recognised and that different words are left alone.
    #[test]
    fn slips_and_strangers() {
        let keys = ["size", "service", "command", "max_unavailable"];
        let table = [
            ("sise", Some("size")),
            ("szie", Some("size")),
            ("Size", Some("size")),
            ("services", Some("service")),
            ("max_unavailble", Some("max_unavailable")),
            ("replicas", None),
            ("s", None),
            ("", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
        assert_eq!(nearest(&"size".repeat(1_000), keys), None);
    }

    /// Shows that the list of what there is has an end.
    #[test]
    fn a_list_has_an_end() {
        let words: Vec<String> = (0..30).map(|n| format!("w{n}")).collect();
        let list = listed(words.iter().map(String::as_str)).expect("there are words");
        assert!(list.ends_with("`w23` and 6 more"), "{list}");
        assert_eq!(listed([]), None);
    }
}
