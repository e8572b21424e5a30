//! Go sources with confd's functions, each as confd documents it.

use super::cluster::{Cluster, name};
use crate::features::template;

/// Renders an expression with some keys, variables and endpoints there.
fn go(source: &str) -> String {
    let mut cluster = Cluster::new();
    for (key, value) in [
        ("/app/db/host", "db1"),
        ("/app/db/port", "5432"),
        ("/app/upstream/b", "10.0.1.100:80"),
        ("/app/upstream/a", "10.0.1.101:80"),
        ("/app/upstream/long-name", "10.0.1.102:80"),
        ("/app/json", r#"{"id": "h1", "port": 8080, "big": 12345678, "deep": {"list": [1, "two"]}, "on": true}"#),
        ("/app/list", r#"["x", "y"]"#),
        ("/top", "t"),
    ] {
        cluster.key(key, Some(value));
    }
    cluster.endpoints(&["web-0:21000", "web-1:21001"]);
    cluster.view.local.environment.insert("HOME".to_owned(), "/root".to_owned());
    cluster.view.local.environment.insert("EMPTY".to_owned(), String::new());
    cluster.render("a.tmpl", source)
}

fn check(table: &[(&str, &str)]) {
    for (source, expect) in table {
        assert_eq!(go(source), *expect, "{source}");
    }
}

#[test]
fn get_gets_getv_getvs_exists() {
    check(&[
        (r#"{{with get "/app/db/host"}}{{.Key}}={{.Value}}{{end}}"#, "/app/db/host=db1"),
        (r#"{{get "/no"}}"#, "error: a.tmpl:1:3: get: the key `/no` does not exist: set it, or give a default"),
        (r#"{{getv "/app/db/host"}}"#, "db1"),
        (r#"{{getv "/no" "default"}}"#, "default"),
        (r#"{{getv "/no" ""}}"#, ""),
        (r#"{{getv "/no"}}"#, "error: a.tmpl:1:3: getv: the key `/no` does not exist: set it, or give a default"),
        (
            r#"{{range gets "/app/upstream/*"}}{{.Key}}={{.Value}} {{end}}"#,
            "/app/upstream/a=10.0.1.101:80 /app/upstream/b=10.0.1.100:80 /app/upstream/long-name=10.0.1.102:80 ",
        ),
        (r#"{{range gets "/app/*/host"}}{{.Value}}{{end}}"#, "db1"),
        (r#"{{range gets "/none/*"}}x{{else}}none{{end}}"#, "none"),
        (r#"{{gets "/[/*"}}"#, "error: a.tmpl:1:3: gets: `/[/*` is not a pattern of keys"),
        // Sorted by value, not by key.
        (r#"{{join (getvs "/app/upstream/*") " "}}"#, "10.0.1.100:80 10.0.1.101:80 10.0.1.102:80"),
        (r#"{{if exists "/top"}}yes{{end}}{{if exists "/app"}}no{{end}}"#, "yes"),
    ]);
}

#[test]
fn ls_and_lsdir_name_what_is_right_below() {
    check(&[
        (r#"{{ls "/app"}}"#, "[db json list upstream]"),
        (r#"{{ls "/app/"}}"#, "[db json list upstream]"),
        (r#"{{ls "/app/db"}}"#, "[host port]"),
        (r#"{{ls "/app/db/host"}}"#, "[host]"),
        (r#"{{ls "/no"}}"#, "[]"),
        (r#"{{ls "/ap"}}"#, "[]"),
        (r#"{{lsdir "/app"}}"#, "[db upstream]"),
        (r#"{{lsdir "/app/db"}}"#, "[]"),
    ]);
}

#[test]
fn paths_and_text() {
    check(&[
        (r#"{{base "/a/b"}} {{dir "/a/b"}}"#, "b /a"),
        (r#"{{$url := split "db1:5432" ":"}}{{index $url 0}} {{index $url 1}}"#, "db1 5432"),
        (r#"{{split "añb" ""}}"#, "[a ñ b]"),
        (r#"{{len (split "" ":")}}"#, "1"),
        (r#"{{join (split "a,b" ",") "-"}}"#, "a-b"),
        (r#"{{toUpper "vaLue"}} {{toLower "VaLue"}}"#, "VALUE value"),
        (
            r#"{{replace "a-b-c" "-" "_" -1}} {{replace "a-b-c" "-" "_" 1}} {{replace "a-b" "-" "_" 0}}"#,
            "a_b_c a_b-c a-b",
        ),
        (r#"{{replace "ab" "" "." -1}} {{replace "ab" "" "." 2}}"#, ".a.b. .a.b"),
        (r#"{{trimSuffix "web.cfg" ".cfg"}} {{trimSuffix "web" ".cfg"}}"#, "web web"),
        (r#"{{contains "haproxy" "prox"}} {{contains "haproxy" "x y"}}"#, "true false"),
        (r#"{{base64Encode "Value"}} {{base64Decode "VmFsdWU="}}"#, "VmFsdWU= Value"),
        (
            r#"{{base64Decode "?"}}"#,
            "error: a.tmpl:1:3: base64Decode: the text is not base64: Invalid symbol 63, offset 0.",
        ),
        (r#"{{parseBool "true"}} {{parseBool "0"}} {{parseBool "T"}}"#, "true false true"),
        (r#"{{parseBool "yes"}}"#, "error: a.tmpl:1:3: parseBool: `yes` is neither true nor false"),
        (r#"{{getenv "HOME"}} {{getenv "NO"}}|{{getenv "NO" "d"}} {{getenv "EMPTY" "d"}}"#, "/root |d d"),
    ]);
}

#[test]
fn json_and_maps() {
    check(&[
        (r#"{{$d := json (getv "/app/json")}}{{$d.id}} {{$d.port}} {{$d.on}}"#, "h1 8080 true"),
        // Every number is a float, as in Go; a large one is shown in full, where Go would write 1.2345678e+07.
        (r#"{{$d := json (getv "/app/json")}}{{$d.big}} {{printf "%.0f" $d.big}}"#, "12345678 12345678"),
        (r#"{{$d := json (getv "/app/json")}}{{index $d.deep.list 1}}"#, "two"),
        (r#"{{range jsonArray (getv "/app/list")}}{{.}};{{end}}"#, "x;y;"),
        (r#"{{json "[1]"}}"#, "error: a.tmpl:1:3: json: the text is JSON, but no object: for a list use jsonArray"),
        (r#"{{$e := map "name" "es" "port" 9200}}{{index $e "name"}}:{{index $e "port"}}"#, "es:9200"),
        (r#"{{map "name"}}"#, "error: a.tmpl:1:3: map: it takes keys and values in turn"),
    ]);
}

#[test]
fn numbers_and_order() {
    check(&[
        ("{{add 1 2}} {{sub 1 2}} {{mul 3 4}} {{div 7 2}} {{mod 7 2}} {{mod -7 2}}", "3 -1 12 3 1 -1"),
        ("{{div 1 0}}", "error: a.tmpl:1:3: div: division by zero"),
        ("{{div (sub -9223372036854775807 1) -1}}", "-9223372036854775808"),
        ("{{range seq 1 3}}{{.}}{{end}}|{{range seq 3 1}}x{{end}}", "123|"),
        (r#"{{add (atoi "21") 1}}"#, "22"),
        (r#"{{atoi "x"}}"#, "error: a.tmpl:1:3: atoi: `x` is not a whole number"),
        (r#"{{reverse (split "a b c" " ")}}"#, "[c b a]"),
        (r#"{{sortByLength (split "ccc a bb dd" " ")}}"#, "[a bb dd ccc]"),
        (r#"{{range sortKVByLength (gets "/app/*")}}{{.Key}} {{end}}"#, "/app/json /app/list "),
        (r#"{{range reverse (gets "/app/db/*")}}{{.Value}} {{end}}"#, "5432 db1 "),
    ]);
}

#[test]
fn datetime_is_when_the_spec_was_applied() {
    check(&[
        ("{{datetime}}", "1970-01-01 00:16:40 +0000 UTC"),
        (r#"{{datetime.Format "Jan 2, 2006 at 3:04pm (MST)"}}"#, "Jan 1, 1970 at 12:16am (UTC)"),
        ("{{datetime.Unix}}", "1000"),
        ("{{datetime.Year}}", "error: a.tmpl:1:3: no function is called `datetime.Year`; did you mean `datetime.UTC`?"),
    ]);
}

#[test]
fn services_are_there_too() {
    check(&[
        (
            r#"{{range service "web"}}{{.Id}} {{.Address}}:{{.Port}} {{.Node}} {{len .Tags}};{{end}}"#,
            "web-0 127.0.0.1:21000 n1 0;web-1 127.0.0.1:21001 n1 0;",
        ),
        (
            r#"{{range service "wbe"}}{{end}}"#,
            "error: a.tmpl:1:9: service: no service is called `wbe`; did you mean `web`?",
        ),
        ("{{services}} {{cluster}} {{node.Name}}", "[web] shop n1"),
    ]);
}

#[test]
fn functions_that_ask_the_world_are_left_out_and_say_so() {
    for function in ["lookupIP", "lookupSRV", "fileExists"] {
        let text = go(&format!("x\n{{{{range {function} \"a\"}}}}{{{{end}}}}"));
        assert!(
            text.starts_with(&format!("error: a.tmpl:2:9: `{function}` is left out of confd's functions: ")),
            "{text}"
        );
    }
    check(&[(r#"{{getvv "/a"}}"#, "error: a.tmpl:1:3: no function is called `getvv`; did you mean `getv`?")]);
    let error = template::validate("a.tmpl", "{{ lookupIP \"a\" }}").unwrap_err();
    assert!(error.to_string().starts_with("a.tmpl:1:4: `lookupIP` is left out"), "known when it is applied: {error}");
}

#[test]
fn the_language_itself() {
    check(&[
        ("a {{- 1 -}} b", "a1b"),
        ("{{/* a comment */}}x", "x"),
        (r#"{{define "row"}}<{{.}}>{{end}}{{range seq 1 2}}{{template "row" .}}{{end}}"#, "<1><2>"),
        (r#"{{block "b" 1}}{{.}}{{end}}"#, "1"),
        ("{{if and (eq 1 1) (lt 1 2) (not false)}}yes{{else}}no{{end}}", "yes"),
        ("{{with 0}}x{{else}}empty{{end}}", "empty"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{range $i, $e := seq 5 6}}{{$i}}={{$e}} {{end}}", "0=5 1=6 "),
        ("{{range seq 1 9}}{{if gt . 2}}{{break}}{{end}}{{.}}{{end}}", "12"),
        (r#"{{"a" | printf "%s-%s" "b"}} {{printf "%05d|%-4s|%q|%v" 42 "a" "b" true}}"#, "b-a 00042|a   |\"b\"|true"),
        (r#"{{print 1 2 "a"}} {{println "x"}}"#, "1 2a x\n"),
        (r#"{{html "<a>"}} {{urlquery "a b"}} {{js "'"}}"#, "&lt;a&gt; a+b \\&#39;".replace("&#39;", "'").leak()),
        (r#"{{len "abc"}} {{index (split "a b" " ") 1}} {{slice "abc" 1 2}}"#, "3 b b"),
        (
            "{{if true}}a{{end}}\n{{/* {{end */}}b{{- end -}}c",
            "error: a.tmpl:2:17: an {{end}} or {{else}} that belongs to nothing",
        ),
        (
            "{{range seq 1 2}}a{{else}}b{{end}}{{ else }}",
            "error: a.tmpl:1:35: an {{end}} or {{else}} that belongs to nothing",
        ),
        ("{{end}}", "error: a.tmpl:1:1: an {{end}} or {{else}} that belongs to nothing"),
    ]);
}

#[test]
fn errors_point_at_the_action_that_failed() {
    let source = "ok\n{{range seq 1 3}}\n  {{if eq . 2}}{{index (split \"a\" \",\") 7}}{{end}}\n{{end}}";
    assert_eq!(go(source), "error: a.tmpl:3:18: index out of range: 7");
    let source = "{{define \"t\"}}\n{{.Nope}}{{end}}{{template \"t\" 1}}";
    assert_eq!(go(source), "error: a.tmpl:2:3: can't evaluate field Nope in type int");
}

#[test]
fn a_prefix_is_put_before_every_key_and_other_keys_are_not_there() {
    let mut cluster = Cluster::new();
    for (key, value) in [("/prod/nginx/domain", "example.com"), ("/nginx/domain", "wrong"), ("/prod/nginxx/a", "x")] {
        cluster.key(key, Some(value));
    }
    let mut render = |text: &str| {
        cluster.template(text, |spec| {
            spec.source = Some("nginx.tmpl".to_owned());
            spec.prefix = Some("prod".to_owned());
            spec.keys = vec!["/nginx/".to_owned(), "/app/db".to_owned()];
        });
        assert_eq!(template::watched(&cluster.view.templates[&name("web")].spec), ["/prod/nginx", "/prod/app/db"]);
        match template::render(&cluster.view, &name("n1"), &name("web")) {
            Ok(set) => set.files[0].content.to_string(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(render(r#"{{getv "/nginx/domain"}} {{(get "/nginx/domain").Key}}"#), "example.com /nginx/domain");
    assert_eq!(
        render(r#"{{ls "/nginx"}} {{range gets "/*/domain"}}{{.Value}}{{end}} {{ls "/app"}}"#),
        "[domain] example.com []"
    );
    let outside = "is outside the template's `keys` (it declares /nginx, /app/db): add";
    assert_eq!(
        render(r#"{{getv "/other/key" "d"}}"#),
        format!("nginx.tmpl:1:3: getv: the key `/other/key` {outside} `/other` to them")
    );
    assert_eq!(
        render(r#"{{exists "/nginxx/a"}}"#),
        format!("nginx.tmpl:1:3: exists: the key `/nginxx/a` {outside} `/nginxx` to them")
    );
    assert_eq!(
        render(r#"{{gets "/other/*"}}"#),
        format!("nginx.tmpl:1:3: gets: the key `/other` {outside} `/other` to them")
    );
}

/// The kind of file that people bring: the load balancer of story A2, and nested folders.
#[test]
fn whole_files_render_as_confd_renders_them() {
    let mut cluster = Cluster::new();
    for (key, value) in [
        ("/proxy/frontend/web1", "10.1.0.1:32768"),
        ("/proxy/frontend/web2", "10.1.0.2:32771"),
        ("/services/web/cust1/2", r#"{"IP": "10.0.0.2"}"#),
        ("/services/web/cust1/1", r#"{"IP": "10.0.0.1"}"#),
        ("/services/web/cust2/1", r#"{"IP": "10.0.0.3"}"#),
    ] {
        cluster.key(key, Some(value));
    }
    let haproxy = "backend web\n  balance roundrobin\n{{range gets \"/proxy/frontend/*\"}}  server {{base .Key}} {{.Value}} check\n{{end}}";
    assert_eq!(
        cluster.render("haproxy.cfg.tmpl", haproxy),
        "backend web\n  balance roundrobin\n  server web1 10.1.0.1:32768 check\n  server web2 10.1.0.2:32771 check\n"
    );
    let nested = "{{range $dir := lsdir \"/services/web\"}}\nupstream {{base $dir}} {\n    \
        {{$custdir := printf \"/services/web/%s/*\" $dir}}{{range gets $custdir}}\n    \
        server {{$data := json .Value}}{{$data.IP}}:80;\n    {{end}}\n}\n{{end}}";
    assert_eq!(
        cluster.render("services.conf.tmpl", nested),
        "\nupstream cust1 {\n    \n    server 10.0.0.1:80;\n    \n    server 10.0.0.2:80;\n    \n}\n\
         \nupstream cust2 {\n    \n    server 10.0.0.3:80;\n    \n}\n"
    );
}
