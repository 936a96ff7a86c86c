//! Every file that a comment or a document names exists.
//!
//! Files move, and the sentences that name them stay behind: the compiler does not read them. So
//! this check takes every path-like word from comments and documents, and looks for it in the
//! repository.
//!
//! | word | where it must exist |
//! | --- | --- |
//! | `*.rs` | in any folder |
//! | `folder/*.rs` | below the repository, `src/`, the folder of the naming file or a folder above it, or the folder of the naming file's own modules |
//! | `src/*/` and the like | below the repository |
//!
//! What can go wrong: a word with a wildcard, a variable, a placeholder in capitals or `..`, an
//! absolute path and a URL are not checked. A file of another project needs an entry in
//! [`FOREIGN`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Endings of the files that are looked for.
const ENDINGS: &[&str] = &["rs", "md", "sh", "toml", "service"];

/// Folders at the top whose subfolders are looked for, too.
const TOP: &[&str] =
    &["src", "tests", "testkit", "benches", "docs", "scripts", "contrib", "examples", "fuzz"];

/// Folders that hold no text of ours.
const SKIPPED: &[&str] = &["target", ".git", "build"];

/// Names that are no files of this repository, with the reason.
const FOREIGN: &[&str] = &[
    "lan.toml",                    // The user's configuration file in the examples.
    "ports.toml",                  // The same.
    "systemd.service",             // A manual page.
    "docs/interop/vhost-user.rst", // In QEMU.
    "vu_common_ctrl.rs",           // In cloud-hypervisor.
];

/// The files and folders of the repository, relative to its top, with `/` behind a folder.
pub struct Tree(BTreeSet<String>);

impl Tree {
    pub fn read(top: &Path) -> Tree {
        let mut names = BTreeSet::new();
        list(top, "", &mut names);
        Tree(names)
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|name| !name.ends_with('/'))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(name) || self.0.contains(&format!("{name}/"))
    }

    fn has_somewhere(&self, name: &str) -> bool {
        let end = format!("/{name}");
        self.0.iter().any(|known| known == name || known.ends_with(&end))
    }
}

fn list(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            names.insert(format!("{prefix}{name}/"));
            list(&entry.path(), &format!("{prefix}{name}/"), names);
        } else {
            names.insert(format!("{prefix}{name}"));
        }
    }
}

/// The prose of a file: all of a document, the comments of code; nothing of other files.
pub fn prose(name: &str, text: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mark = match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("md") => return text.to_owned(),
        Some("rs") => "//",
        Some("sh" | "toml" | "service" | "py") => "#",
        _ if matches!(name, "Makefile" | "qemu/init" | ".ci/run") => "#",
        _ => return String::new(),
    };
    let spaced = format!(" {mark} ");
    let comment = |line: &str| match line.trim_start().strip_prefix(mark) {
        Some(comment) => comment.to_owned(),
        None => line.split_once(&spaced).map_or(String::new(), |(_, comment)| comment.to_owned()),
    };
    text.lines().map(|line| comment(line) + "\n").collect()
}

/// The names in a text of the file `naming` that are no files or folders of the tree.
pub fn missing(tree: &Tree, naming: &str, text: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-./@*{}$~<>+=".contains(c);
    let words = text.split(|c: char| !part(c));
    let words = words.map(|word| word.trim_end_matches('.')).filter(|word| names_a_file(word));
    let mut gone: Vec<String> =
        words.filter(|word| !exists(tree, naming, word)).map(str::to_owned).collect();
    gone.dedup();
    gone
}

fn names_a_file(word: &str) -> bool {
    let plain = !word.contains(|c: char| "*{}$~<>+=".contains(c));
    // A word such as TARGET stands for any name.
    let placeholder = |part: &str| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase());
    if !plain
        || word.split('/').any(placeholder)
        || word.starts_with(['/', '.', '-'])
        || word.contains("..")
        || FOREIGN.contains(&word)
    {
        return false;
    }
    let (stem, ending) = word.rsplit_once('.').unwrap_or((word, ""));
    let file = ENDINGS.contains(&ending) && !stem.is_empty() && !stem.ends_with('/');
    file || word.split_once('/').is_some_and(|(top, rest)| TOP.contains(&top) && !rest.is_empty())
}

fn exists(tree: &Tree, naming: &str, word: &str) -> bool {
    let word = word.trim_end_matches('/');
    if !word.contains('/') {
        return tree.has_somewhere(word);
    }
    // The modules of a file are in the folder of its name.
    let modules = naming.strip_suffix(".rs").unwrap_or(naming);
    let above = modules.match_indices('/').map(|(at, _)| &modules[..at]);
    let folders = ["src", modules].into_iter().chain(above);
    tree.has(word) || folders.into_iter().any(|folder| tree.has(&format!("{folder}/{word}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let names = ["README.md", "src/", "src/lib.rs", "src/uplink/", "src/uplink/packet.rs"];
        let more = ["src/uplink/packet/", "src/uplink/packet/frame.rs", "docs/", "docs/modes.md"];
        Tree(names.into_iter().chain(more).map(str::to_owned).collect())
    }

    #[test]
    fn wrong_names_are_found() {
        let text =
            "See `uplink/packet/long.rs`, tests/gone.rs, docs/mode.md, nowhere.rs and src/queue/.";
        let wrong =
            ["uplink/packet/long.rs", "tests/gone.rs", "docs/mode.md", "nowhere.rs", "src/queue/"];
        assert_eq!(missing(&tree(), "src/lib.rs", text), wrong);
        // Right, but not from here.
        assert_eq!(missing(&tree(), "docs/modes.md", "packet/frame.rs"), ["packet/frame.rs"]);
    }

    #[test]
    fn right_names_are_not() {
        let text = "lib.rs, (src/lib.rs), `uplink/packet.rs`; packet/frame.rs: frame.rs, docs/modes.md. \
                    README.md#anchor, src/uplink/, /etc/x.toml, https://a.b/c.rs, tests/*.rs, ../x.md, docs/NAME";
        assert_eq!(missing(&tree(), "src/uplink/packet.rs", text), [""; 0]);
        assert_eq!(missing(&tree(), "src/uplink/mod.rs", "packet/frame.rs"), [""; 0]);
    }

    #[test]
    fn only_comments_of_code_count() {
        let code = "//! a.rs\nlet x = \"b.rs\"; // README.md\n";
        assert_eq!(prose("src/lib.rs", code), "! a.rs\nREADME.md\n");
        assert_eq!(prose("x.sh", "# a.rs\nrun b.rs\n"), " a.rs\n\n");
        assert_eq!(prose("LICENSE", "a.rs"), "");
    }
}
