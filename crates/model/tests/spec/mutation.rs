//! Shows that no text makes the loader panic, and that each error's place is inside its file and can be rendered.
//!
//! Good and bad specs are cut, doubled, spliced and sprinkled by a generator with fixed seeds: the same on every run.

use regrow_model::spec::{SourceFile, load};

/// A small generator (xorshift64*): good enough to pick places, and the same everywhere. Source: Vigna 2016.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % bound.max(1)
    }
}

const SPRINKLES: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    "\n",
    "\t",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!x ",
    "#",
    "|",
    ">",
    "?",
    "---\n",
    "...\n",
    "%",
    "@",
    "\0",
    "\u{feff}",
    "\r",
    "${",
    "$$",
    "~",
    "0",
    "-1",
    "9999999999999999999999",
    "é→\u{202e}",
];

fn mutated(text: &str, other: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(2) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(12)).min(chars.len());
        match random.below(5) {
            0 => drop(chars.drain(at..end)),
            1 => chars.truncate(at),
            2 => {
                let part: Vec<char> = chars[at..end].to_vec();
                let to = random.below(chars.len() + 1);
                chars.splice(to..to, part);
            }
            3 => {
                let donor: Vec<char> = other.chars().collect();
                let from = random.below(donor.len() + 1);
                let part = donor[from..(from + random.below(60)).min(donor.len())].to_vec();
                chars.splice(at..at, part);
            }
            _ => drop(chars.splice(at..at, SPRINKLES[random.below(SPRINKLES.len())].chars())),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_text_panics() {
    let scripts = [
        include_str!("scripts/good.txt"),
        include_str!("scripts/group.txt"),
        include_str!("scripts/template.txt"),
        include_str!("scripts/service.txt"),
        include_str!("scripts/order.txt"),
    ];
    let seeds: Vec<&str> = scripts
        .iter()
        .flat_map(|script| script.split("@@@ ").skip(1))
        .filter_map(|case| case.split_once("@@ ")?.1.split_once('\n'))
        .map(|(_, body)| body.split("\n@@ ").next().unwrap_or(body))
        .collect();
    assert!(seeds.len() > 30);
    let (mut good, mut no_yaml, mut no_spec) = (0, 0, 0);
    for seed in 1..=3_000_u64 {
        let mut random = Random(seed);
        let first = seeds[random.below(seeds.len())];
        let other = seeds[random.below(seeds.len())];
        let mut files = vec![SourceFile { name: "a.yaml".to_owned(), text: mutated(first, other, &mut random) }];
        if random.below(4) == 0 {
            files.push(SourceFile { name: "b.yaml".to_owned(), text: mutated(other, first, &mut random) });
        }
        let Err(errors) = load(&files) else {
            good += 1;
            continue;
        };
        match errors.iter().all(|error| error.path.is_empty()) {
            true => no_yaml += 1,
            false => no_spec += 1,
        }
        assert!(!errors.is_empty(), "seed {seed}: refused without an error");
        for error in errors {
            let text = files.iter().find(|file| file.name == error.file).map_or("", |file| file.text.as_str());
            let (start, length) = error.span;
            assert!(text.get(start..start + length).is_some(), "seed {seed}: {error:?} is not in its file");
            assert!(error.render(text, true).contains("error"), "seed {seed}: {error}");
        }
    }
    let shows = good > 20 && no_yaml > 500 && no_spec > 300;
    assert!(shows, "{good} loaded, {no_yaml} no YAML, {no_spec} no spec: the mutations show nothing");
}
