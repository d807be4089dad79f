//! `./x loc`: lines of code per package, and the limits that some packages keep.
//!
//! A line counts if a token of the program is on it. Blank lines, comments, documentation, and
//! everything that is compiled for tests only do not count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::{Attribute, Item};

use crate::error::{Error, Result};
use crate::programs::{Workspace, folder};
use crate::repository;

/// Packages with a limit, in lines.
const LIMITS: &[(&str, usize)] = &[("hypervisor", 10_000)];

/// Prints the counts; a package above its limit is an error.
pub fn execute() -> Result<()> {
    let workspace = Workspace::load()?;
    let mut total = 0;
    let mut exceeded = Vec::new();
    for package in workspace.packages() {
        let lines = count_package(&repository::root().join(folder(package)))?;
        total += lines;
        let limit = LIMITS.iter().find(|(name, _)| *name == package.name.as_str()).map(|(_, limit)| *limit);
        let note = limit.map(|limit| format!("  (limit {limit})")).unwrap_or_default();
        println!("{:<24}{lines:>8}{note}", package.name.as_str());
        if limit.is_some_and(|limit| lines > limit) {
            exceeded.push(package.name.to_string());
        }
    }
    println!("{:<24}{total:>8}", "total");
    if exceeded.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("{} is above its limit", exceeded.join(", ")))
        .remedy("simplify it, or move policy out of it"))
}

/// Lines of code below `src` of a package, and of its build script.
fn count_package(folder: &Path) -> Result<usize> {
    let mut files = Vec::new();
    let source = folder.join("src");
    if source.is_dir() {
        collect(&source, &mut files)?;
    }
    files.extend(Some(folder.join("build.rs")).filter(|path| path.is_file()));
    let mut skipped = BTreeSet::new();
    let mut counts = Vec::new();
    for path in files {
        let text = repository::read_text(&path)?;
        let count = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                let (lines, modules) =
                    count_rust(&text).map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
                skipped.extend(modules.iter().flat_map(|name| module_paths(&path, name)));
                lines
            }
            Some("s" | "S" | "asm") => count_assembler(&text),
            _ => 0,
        };
        counts.push((path, count));
    }
    counts.retain(|(path, _)| !path.ancestors().any(|part| skipped.contains(part)));
    Ok(counts.iter().map(|(_, count)| count).sum())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in repository::list(folder)? {
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// Where `mod name;` in `file` may be: a file or a folder.
fn module_paths(file: &Path, name: &str) -> [PathBuf; 2] {
    let stem = file.file_stem().unwrap_or_default();
    let is_root = ["mod", "lib", "main"].iter().any(|root| stem == *root);
    let folder = file.parent().unwrap_or(Path::new(""));
    let base = if is_root { folder.to_path_buf() } else { folder.join(stem) };
    [base.join(format!("{name}.rs")), base.join(name)]
}

/// Lines of code of a Rust file, and the names of modules in other files that are for tests only.
fn count_rust(text: &str) -> syn::Result<(usize, Vec<String>)> {
    let file = syn::parse_file(text)?;
    if file.attrs.iter().any(is_test_only) {
        return Ok((0, Vec::new()));
    }
    let mut lines = BTreeSet::new();
    add_lines(text.parse()?, &mut lines);
    let mut modules = Vec::new();
    drop_test_items(&file.items, &mut lines, &mut modules);
    Ok((lines.len(), modules))
}

fn add_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if let TokenTree::Group(group) = &token {
            lines.insert(group.span_open().start().line);
            lines.insert(group.span_close().start().line);
            add_lines(group.stream(), lines);
            continue;
        }
        // A documentation comment arrives as the tokens `#[doc = "..."]`, all at the comment's place.
        if is_punctuation(&token, '#') {
            if tokens.peek().is_some_and(|next| is_punctuation(next, '!'))
                && tokens.clone().nth(1).is_some_and(|next| is_documentation(&next))
            {
                tokens.next();
            }
            if tokens.peek().is_some_and(is_documentation) {
                tokens.next();
                continue;
            }
        }
        lines.extend(token.span().start().line..=token.span().end().line);
    }
}

fn is_punctuation(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punctuation) if punctuation.as_char() == character)
}

fn is_documentation(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else {
        return false;
    };
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

fn drop_test_items(items: &[Item], lines: &mut BTreeSet<usize>, modules: &mut Vec<String>) {
    for item in items {
        if attributes(item).iter().any(is_test_only) {
            let span = item.span();
            lines.retain(|line| !(span.start().line..=span.end().line).contains(line));
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                modules.push(module.ident.to_string());
            }
        } else if let Item::Mod(module) = item
            && let Some((_, items)) = &module.content
        {
            drop_test_items(items, lines, modules);
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test_only(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

/// Lines of an assembler file that are neither blank nor comments.
fn count_assembler(text: &str) -> usize {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"//! Module documentation.
#![forbid(unsafe_code)]

/// Documentation.
/// More.
pub fn a() { // trailing comment

    let text = "one
two"; /* comment */
    /* only
       a comment */
    b(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn x() {}
}

#[cfg(test)]
mod elsewhere;

mod inner {
    #[cfg(test)]
    fn helper() {}
    const A: u8 = 1;
}
"#;

    #[test]
    fn only_code_counts() {
        let (lines, modules) = count_rust(SAMPLE).unwrap();
        // forbid, fn, two of the string, call, brace; inner's three.
        assert_eq!(lines, 9);
        assert_eq!(modules, ["elsewhere"]);
    }

    #[test]
    fn a_file_for_tests_counts_nothing() {
        assert_eq!(count_rust("#![cfg(test)]\nfn x() {}\n").unwrap().0, 0);
    }

    #[test]
    fn modules_are_found_where_rust_finds_them() {
        assert_eq!(module_paths(Path::new("src/lib.rs"), "tests"), ["src/tests.rs", "src/tests"].map(PathBuf::from));
        assert_eq!(module_paths(Path::new("src/a.rs"), "tests"), ["src/a/tests.rs", "src/a/tests"].map(PathBuf::from));
    }

    #[test]
    fn test_files_of_a_package_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("src");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("lib.rs"), "#[cfg(test)]\nmod tests;\nfn a() {}\n").unwrap();
        std::fs::write(source.join("tests.rs"), "fn b() {}\n").unwrap();
        std::fs::write(source.join("entry.S"), "// comment\n\n    ret\n").unwrap();
        assert_eq!(count_package(folder.path()).unwrap(), 2);
    }
}
