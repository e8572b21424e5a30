//! Sources that do not end, or end in more than fits: each is an error, soon, and never a panic.

use super::cluster::Cluster;
use crate::features::template;
use proptest::prelude::*;

fn error(source: &str, text: &str) -> String {
    let rendered = Cluster::new().render(source, text);
    rendered.strip_prefix("error: ").unwrap_or_else(|| panic!("{} bytes from {text}", rendered.len())).to_owned()
}

#[test]
fn jinja_that_does_not_end() {
    for (text, expect) in [
        ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "the source does not end"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion limit exceeded"),
        ("{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(0) }}", "recursion limit exceeded"),
        ("{{ 'x' * 100000000 }}", "renders to more than 67108864 bytes"),
        ("{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", "renders to more than 67108864 bytes"),
        ("{{ range(100000000)|length }}", "range has too many elements"),
    ] {
        assert!(error("a.j2", text).contains(expect), "{text}: {}", error("a.j2", text));
    }
    let nested = format!("{}{}", "{% if true %}".repeat(2_000), "{% endif %}".repeat(2_000));
    assert!(error("a.j2", &nested).contains("a.j2:1"), "{}", error("a.j2", &nested));
    assert!(error("a.j2", &format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000))).contains("a.j2:1"));
}

#[test]
fn go_that_does_not_end() {
    let double = r#"{{$x := "aaaaaaaaaaaaaaaa"}}{{range seq 1 60}}"#;
    for (text, expect) in [
        ("{{range 1000000000}}{{end}}".to_owned(), "the source does not end"),
        ("{{range seq 1 1000000000}}{{end}}".to_owned(), "the source does not end"),
        ("{{seq -9223372036854775807 9223372036854775807}}".to_owned(), "the source does not end"),
        (r#"{{define "t"}}{{template "t"}}{{end}}{{template "t"}}"#.to_owned(), "recursion limit exceeded"),
        (
            (0..40)
                .map(|n| {
                    format!(
                        "{{{{define \"t{n}\"}}}}{{{{template \"t{}\"}}}}{{{{template \"t{}\"}}}}{{{{end}}}}",
                        n + 1,
                        n + 1
                    )
                })
                .collect::<String>()
                + r#"{{define "t40"}}{{end}}{{template "t0"}}"#,
            "the source does not end",
        ),
        (format!("{double}{{{{$x = printf \"%s%s\" $x $x}}}}{{{{end}}}}"), "the source does not end"),
        (format!("{double}{{{{$x = print $x $x}}}}{{{{end}}}}"), "the source does not end"),
        (format!("{double}{{{{$x = replace $x \"a\" $x -1}}}}{{{{end}}}}"), "the source does not end"),
        (format!("{double}{{{{$x = map \"a\" $x \"b\" $x}}}}{{{{end}}}}{{{{$x}}}}"), "the source does not end"),
        (
            format!("{double}{{{{$x = js (html $x)}}}}{{{{$x = join (split $x \"\") $x}}}}{{{{end}}}}"),
            "the source does not end",
        ),
        (format!("{{{{printf \"{}\" 1}}}}", "%60000d".repeat(20_000)), "the source does not end"),
        ("{{range 20000}}{{printf \"%5000d\" 1}}{{end}}".to_owned(), "renders to more than 67108864 bytes"),
        (format!("{{{{print{}}}}}", " 1".repeat(100)), "print takes at most 64 arguments, not 100"),
        (format!("{}{}", "{{if true}}".repeat(5_000), "{{end}}".repeat(5_000)), "nesting depth"),
        (format!("{{{{{}1{}}}}}", "(".repeat(5_000), ")".repeat(5_000)), "nesting depth"),
    ] {
        let error = error("a.tmpl", &text);
        assert!(error.contains(expect), "{}: {error}", &text[..text.len().min(200)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No text panics, in either language.
    #[test]
    fn any_text_is_rendered_or_refused(text in "(\\{\\{|\\}\\}|\\{%|%\\}|[-(){}|.$\"'a-c0-9 \\n=:,é]|for|in|if|end|endif|range|getv|service|define|template){0,40}") {
        let mut cluster = Cluster::new();
        cluster.endpoints(&["web-0:21000"]);
        for source in ["a.j2", "a.tmpl"] {
            let rendered = cluster.render(source, &text);
            if template::validate(source, &text).is_err() {
                prop_assert!(rendered.starts_with("error: "));
            }
        }
    }
}
