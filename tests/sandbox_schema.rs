//! The committed schema of world files is the one the types give; rewrite it with `UPDATE=1 cargo test --test sandbox_schema`.

use std::path::Path;

#[test]
fn the_committed_schema_of_world_files_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/world.schema.json");
    let schema = serde_json::to_string_pretty(&meshstep::sandbox::world::schema()).expect("a schema is JSON") + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &schema).expect("the schema can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == schema, "{} is out of date", path.display());
}
