//! The homes of `unsafe`, which `docs/architecture.md` lists with their reasons: it occurs nowhere else.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::repository;

/// Rows of the list's table begin with paths.
const DOCUMENT: &str = "docs/architecture.md";
const TABLE: &str = "`unsafe` has homes";

fn documented() -> BTreeSet<String> {
    let text = repository::read_text(&repository::root().join(DOCUMENT)).unwrap();
    let table = text.split_once(TABLE).unwrap().1.lines().skip(4).take_while(|line| line.starts_with('|'));
    let rows = table.map(|row| row.split('|').nth(1).unwrap());
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn is_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(word) => word == "unsafe",
        TokenTree::Group(group) => is_unsafe(group.stream()),
        _ => false,
    })
}

/// Source files with the word in their code, relative to the repository.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for path in repository::list(folder).unwrap() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, found);
            }
        } else if name.ends_with(".rs") && is_unsafe(repository::read_text(&path).unwrap().parse().unwrap()) {
            found.insert(path.strip_prefix(repository::root()).unwrap().to_string_lossy().into_owned());
        }
    }
}

#[test]
fn unsafe_code_stays_at_home() {
    let (mut files, homes) = (BTreeSet::new(), documented());
    collect(&repository::root(), &mut files);
    let lives_in = |file: &str, home: &str| Path::new(file).starts_with(home);
    let strays: Vec<_> = files.iter().filter(|file| !homes.iter().any(|home| lives_in(file, home))).collect();
    let empty: Vec<_> = homes.iter().filter(|home| !files.iter().any(|file| lives_in(file, home))).collect();
    assert!(strays.is_empty() && empty.is_empty(), "`unsafe` outside: {strays:?}; homes without it: {empty:?}");
}
