//! Every public item of this crate is used by another file, and every public module of the program
//! from outside of it.
//!
//! The compiler reports private items that nothing uses. It cannot find the users of a library's
//! public items, so this test looks for their names in all Rust files of the repository. An item
//! that only its own file names should be private, and then the compiler judges it.
//!
//! What can go wrong: names are compared, not items. An item whose name another one has, such as
//! `new`, is not found.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What may stand between `pub` and the name.
const WORDS: [&str; 4] = ["unsafe", "const", "static", "fn"];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The names in a file, without its comments.
fn names(text: &str) -> BTreeSet<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

/// The names of a file's public functions, methods, fields and constants. A type may be used
/// without being named.
fn public(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim_start().strip_prefix("pub ")?;
        let name = line.split(' ').find(|word| !WORDS.contains(word))?;
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        Some(&name[..end])
    })
}

#[test]
fn every_public_item_is_used_elsewhere() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    for dir in ["src", "tests", "testkit", "benches", "examples", "fuzz"] {
        rust_files(&top.join(dir), &mut paths);
    }
    // The program has names of its own; only its unit tests use this crate.
    paths.retain(|path| !path.starts_with(top.join("src")) || read(path).contains("testkit::"));
    let texts: Vec<String> = paths.iter().map(|path| read(path)).collect();
    let used: Vec<BTreeSet<&str>> = texts.iter().map(|text| names(text)).collect();
    let mut unused = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        if !path.starts_with(top.join("testkit/src")) {
            continue;
        }
        let elsewhere =
            |name: &str| (0..paths.len()).any(|other| other != at && used[other].contains(name));
        let dead = public(&texts[at])
            .filter(|name| !["mod", "use", "struct", "enum", "trait", "type"].contains(name));
        let dead = dead.filter(|&name| !elsewhere(name));
        let file = path.file_name().unwrap().display();
        unused.extend(dead.map(|name| format!("{file}: {name}")));
    }
    assert!(unused.is_empty(), "used nowhere else:\n{}", unused.join("\n"));
}

#[test]
fn every_public_module_of_the_program_is_used_from_outside() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut inside, mut outside) = (Vec::new(), vec![top.join("src/main.rs")]);
    rust_files(&top.join("src"), &mut inside);
    for dir in ["tests", "benches", "examples", "fuzz"] {
        rust_files(&top.join(dir), &mut outside);
    }
    let texts: Vec<String> = outside.iter().map(|path| read(path)).collect();
    let used: BTreeSet<&str> = texts.iter().flat_map(|text| names(text)).collect();
    let mut unused = Vec::new();
    for path in inside {
        let text = read(&path);
        let modules =
            text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let unnamed = modules.filter(|name| !used.contains(name));
        unused.extend(unnamed.map(|name| format!("{}: {name}", path.display())));
    }
    assert!(unused.is_empty(), "make these pub(crate):\n{}", unused.join("\n"));
}
