//! The rooms of the house: which folder of `src/` may import which, and what a file may hold.
//!
//! The test parses every source file, resolves each path in it to the file that defines the item,
//! and compares the result with the table below. The same table stands in docs/architecture.md.
//!
//! | rule | why |
//! | --- | --- |
//! | a room imports only the rooms that the table lists | a newcomer reads a room with those below it, and no others |
//! | no circle between files | each file can be read, tested and replaced after those that it imports |
//! | a permission that no file uses fails | the table says what is, not what may come |
//! | a `mod.rs` holds no types | it is a map |
//! | one type name exists once, none shadows the prelude | a name says which type it is |
//! | a type and its own `impl` blocks are in one file, or in files that it declares as its parts | its private fields are known there and nowhere else |
//!
//! What can go wrong: a path inside a macro call is seen as tokens, so only paths that begin with
//! `crate`, `super` or an imported module count there. Method calls are no imports: a trait object
//! may run code of a room above.

#![allow(clippy::unwrap_used, clippy::panic)]

mod parse;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use tree::Tree;

/// Room, and the rooms that it may import, from the top down. A file that stands directly in `src/`
/// is a room of its own.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["cli", "config", "control", "host", "print", "vhost_user", "process", "error"]),
    ("cli", &["print", "config", "error", "suggest"]),
    (
        "control",
        &[
            "vhost_user",
            "datapath",
            "worker",
            "virtqueue",
            "uplink",
            "host",
            "switch",
            "config",
            "process",
            "net",
            "error",
            "sys",
        ],
    ),
    ("print", &["config", "net", "error"]),
    ("vhost_user", &["datapath", "virtqueue", "config", "process", "net", "sys"]),
    ("datapath", &["worker", "virtqueue", "uplink", "switch", "offload", "process", "net"]),
    ("worker", &["virtqueue", "sync"]),
    ("uplink", &["virtqueue", "offload", "net", "sys"]),
    ("host", &["process", "net", "error", "sys"]),
    ("virtqueue", &["net", "sync"]),
    ("switch", &["net"]),
    ("offload", &["net"]),
    ("config", &["net", "error", "suggest"]),
    ("process", &["sys"]),
    ("net", &[]),
    ("error", &[]),
    ("suggest", &[]),
    ("sync", &[]),
    ("sys", &[]),
];

/// Names of Rust's prelude and of the traits that every reader takes for the standard library's.
const PRELUDE: &[&str] = &[
    "AsMut",
    "AsRef",
    "Box",
    "Clone",
    "Copy",
    "Default",
    "Drop",
    "Eq",
    "Err",
    "Extend",
    "Fn",
    "From",
    "FromIterator",
    "Into",
    "IntoIterator",
    "Iterator",
    "None",
    "Ok",
    "Option",
    "Ord",
    "Result",
    "Send",
    "Some",
    "String",
    "Sync",
    "ToOwned",
    "ToString",
    "TryFrom",
    "TryInto",
    "Unpin",
    "Vec",
];

/// A crate's own `Result` with its own error is the usual form.
const EXCUSED: &[&str] = &["error::Result"];

fn tree() -> Tree {
    Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The table as it stands in docs/architecture.md.
fn table() -> String {
    let mut text = String::from("| room | imports |\n| --- | --- |\n");
    for (room, below) in ROOMS {
        let below = if below.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{}`", below.join("`, `"))
        };
        writeln!(text, "| `{room}` | {below} |").unwrap();
    }
    text
}

#[test]
fn a_room_imports_only_rooms_below_it() {
    let tree = tree();
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ROOMS.iter().map(|(room, below)| (*room, below.iter().copied().collect())).collect();
    let mut wrong = String::new();
    let mut used = BTreeSet::new();
    for edge in tree.edges() {
        let (from, to) = (edge.from.room(), edge.to.room());
        if from == to || from == "lib" || to == "lib" {
            continue;
        }
        used.insert((from.to_owned(), to.to_owned()));
        match allowed.get(from) {
            None => {
                writeln!(wrong, "{}: room `{from}` is not in the table", edge.from.file()).unwrap()
            }
            Some(below) if !below.contains(to) => {
                writeln!(wrong, "{} imports {} ({})", edge.from.file(), edge.to.file(), edge.path)
                    .unwrap();
            }
            Some(_) => {}
        }
    }
    for (room, below) in ROOMS {
        for other in *below {
            if !used.contains(&((*room).to_owned(), (*other).to_owned())) {
                writeln!(wrong, "no file of `{room}` imports `{other}`: take it out of the table")
                    .unwrap();
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the table of rooms (tests/layers/main.rs) does not allow this:\n{wrong}"
    );
}

#[test]
fn the_table_goes_down_only() {
    for (place, (room, below)) in ROOMS.iter().enumerate() {
        for other in *below {
            let at = ROOMS.iter().position(|(name, _)| name == other);
            assert!(
                at.is_some_and(|at| at > place),
                "`{room}` stands above `{other}` in the table, or must not import it"
            );
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut wrong = String::new();
    for circle in tree().circles() {
        writeln!(wrong, "{} imports:", circle.len()).unwrap();
        for edge in circle {
            writeln!(wrong, "    {} imports {} ({})", edge.from.file(), edge.to.file(), edge.path)
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "files import each other:\n{wrong}");
}

#[test]
fn a_map_holds_no_types() {
    let wrong: Vec<_> =
        tree().types().filter(|t| t.module.is_map()).map(|t| t.name.clone()).collect();
    assert!(wrong.is_empty(), "types in a mod.rs or lib.rs: {wrong:?}");
}

#[test]
fn one_type_name_exists_once() {
    let tree = tree();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for found in tree.types() {
        places.entry(found.name).or_default().push(found.module.file());
    }
    let twice: Vec<_> = places.iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "names of several types: {twice:#?}");
    let shadows: Vec<_> = tree
        .types()
        .filter(|t| PRELUDE.contains(&&*t.name))
        .map(|t| format!("{}::{}", t.module.path(), t.name))
        .filter(|name| !EXCUSED.contains(&&**name))
        .collect();
    assert!(shadows.is_empty(), "types that shadow the prelude: {shadows:?}");
}

#[test]
fn a_type_and_its_own_impl_blocks_are_together() {
    let wrong: Vec<_> = tree()
        .stray_impls()
        .map(|it| {
            format!("{}: impl {}, which {} defines", it.module.file(), it.name, it.home.file())
        })
        .collect();
    assert!(wrong.is_empty(), "impl blocks away from their types:\n{}", wrong.join("\n"));
}

#[test]
fn the_architecture_shows_this_table() {
    let document = include_str!("../../docs/architecture.md");
    assert!(document.contains(&table()), "docs/architecture.md must hold this table:\n{}", table());
}

/// The checks above find what they look for.
#[test]
fn what_is_wrong_is_found() {
    let tree = Tree::of(&[
        ("lib.rs", "pub mod low; pub mod high;"),
        ("low/mod.rs", "pub mod a; pub mod b; mod c; pub use a::Up; struct InMap;"),
        (
            "low/a.rs",
            "use crate::high::top; pub struct Up; pub struct Twice; fn f() { super::b::g() }",
        ),
        (
            "low/b.rs",
            "pub use super::Up; pub enum Twice {} pub fn g() { top::h() } impl Up { fn x() {} }",
        ),
        (
            "low/c.rs",
            "#[cfg(test)] use crate::low::b::g; #[cfg(test)] mod tests { use crate::high::top; } use crate::high as x; fn f() { println!(\"{}\", x::top::h()) }",
        ),
        ("high/mod.rs", "pub mod top; pub use crate::low::Up as Renamed;"),
        ("high/top.rs", "pub struct Drop; pub fn h() {} type T = super::Renamed;"),
    ]);
    let edges: BTreeSet<_> =
        tree.edges().map(|e| format!("{}>{}", e.from.path(), e.to.path())).collect();
    let want = [
        "low::a>high::top",
        "low::a>low::b",
        "low::b>low::a",
        "low::c>high::top",
        "high::top>low::a",
    ];
    assert_eq!(edges, want.iter().map(|s| (*s).to_owned()).collect());
    let circles: Vec<BTreeSet<_>> =
        tree.circles().map(|c| c.iter().map(|e| e.from.path()).collect()).collect();
    assert_eq!(circles, [["high::top", "low::a", "low::b"].map(str::to_owned).into()]);
    assert_eq!(tree.types().filter(|t| t.module.is_map()).count(), 1);
    assert_eq!(tree.types().filter(|t| t.name == "Twice").count(), 2);
    assert_eq!(tree.stray_impls().count(), 1);
}
