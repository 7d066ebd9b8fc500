//! What the documents say is what the code does: generated parts are compared, or written anew with `UPDATE=1`.

use std::path::{Path, PathBuf};

use meshstep::cli::explain;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

#[test]
fn the_readme_lists_every_failure_code() {
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let (before, rest) = readme.split_once("<!-- codes: written by `UPDATE=1 cargo test` -->\n").expect("the mark where the codes begin");
    let (_, after) = rest.split_once("<!-- /codes -->").expect("the mark where the codes end");
    let wanted = format!("{before}<!-- codes: written by `UPDATE=1 cargo test` -->\n{}<!-- /codes -->{after}", explain::markdown());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("README.md is written");
    } else {
        assert_eq!(readme, wanted, "run `UPDATE=1 cargo test` to write the README's codes anew");
    }
}

#[test]
fn the_architecture_fits_on_three_pages() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(text.lines().count() <= 150);
}
