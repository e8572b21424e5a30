//! Shows that the committed schema is the one that the types make, and that it leaves no key without a word.

use crate::scripts::update;
use regrow_model::spec::schema;
use std::path::Path;

#[test]
fn schema_is_committed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/spec.schema.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&schema()).expect("JSON"));
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if now != committed {
        if update() {
            std::fs::write(&path, now).expect("written");
        } else {
            panic!("{} is not what the types make: REGROW_UPDATE=1 writes it", path.display());
        }
    }
}

#[test]
fn every_key_is_documented() {
    let schema = schema();
    let mut undocumented = Vec::new();
    let definitions = schema["$defs"].as_object().expect("definitions");
    for (name, definition) in
        definitions.iter().map(|(name, definition)| (name.as_str(), definition)).chain([("Spec", &schema)])
    {
        for (key, value) in definition["properties"].as_object().into_iter().flatten() {
            if value["description"].as_str().is_none_or(str::is_empty) {
                undocumented.push(format!("{name}.{key}"));
            }
        }
        if definition["properties"].is_object() {
            assert_eq!(definition["additionalProperties"], false, "{name} takes unknown keys");
        }
    }
    assert!(undocumented.is_empty(), "{undocumented:?}");
}
