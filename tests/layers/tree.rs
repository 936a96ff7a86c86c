//! The source files, parsed: what each imports, and which types it defines.
//!
//! A path is followed to the file that defines its item: through `use ... as`, through re-exports,
//! and through modules that another `use` brought in. A `mod.rs` that only re-exports is no stop on
//! the way, so a room's map makes no circle. Items under `#[cfg(test)]` do not count.
//!
//! What can go wrong: re-exports by `*` are not followed. The sources have none outside of tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::parse::{Parsed, parse};

/// A module that is a file: `["datapath", "tx_batch"]`; empty for lib.rs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    names: Vec<String>,
    map: bool,
}

impl Module {
    /// The folder of `src/` in which it stands, or its own name.
    pub fn room(&self) -> &str {
        self.names.first().map_or("lib", |name| name)
    }

    /// Its path in Rust.
    pub fn path(&self) -> String {
        self.names.join("::")
    }

    /// Its file, relative to `src/`.
    pub fn file(&self) -> String {
        match (self.names.join("/"), self.map) {
            (path, _) if path.is_empty() => "lib.rs".to_owned(),
            (path, true) => format!("{path}/mod.rs"),
            (path, false) => format!("{path}.rs"),
        }
    }

    /// Whether it is a `mod.rs` or lib.rs.
    pub fn is_map(&self) -> bool {
        self.map
    }
}

/// A file that uses an item of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The file that uses it.
    pub from: Module,
    /// The file that defines it.
    pub to: Module,
    /// The item, as an absolute path.
    pub path: String,
}

/// A type that a file defines.
#[derive(Debug)]
pub struct Type {
    /// Its name.
    pub name: String,
    /// Its file.
    pub module: Module,
}

/// An `impl` block of a type that another file defines.
#[derive(Debug)]
pub struct StrayImpl {
    /// The block's file.
    pub module: Module,
    /// The type.
    pub name: String,
    /// The type's file.
    pub home: Module,
}

/// All files, by the path of their module.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<Vec<String>, (Module, Parsed)>,
    /// Names that `use` brings into a file, with the absolute paths behind them.
    names: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
}

impl Tree {
    /// Reads a source folder.
    pub fn read(folder: &Path) -> Tree {
        Tree::build(&|path| fs::read_to_string(folder.join(path)).ok())
    }

    /// From sources in memory: paths relative to the folder, and texts.
    pub fn of(sources: &[(&str, &str)]) -> Tree {
        let sources: BTreeMap<_, _> = sources.iter().copied().collect();
        Tree::build(&|path| sources.get(path).map(|&text| text.to_owned()))
    }

    fn build(source: &dyn Fn(&str) -> Option<String>) -> Tree {
        let mut tree = Tree::default();
        for (file, names) in [("lib.rs", vec![]), ("main.rs", vec!["main".to_owned()])] {
            if let Some(text) = source(file) {
                tree.add(names, file, &text, "", source);
            }
        }
        // Twice: a `use` may go through a name that another `use` brought in.
        for _ in 0..2 {
            let modules: Vec<_> = tree.files.keys().cloned().collect();
            for module in modules {
                let uses = tree.files[&module].1.uses.clone();
                for (name, path) in uses {
                    if let Some(absolute) = tree.absolute(&module, &path) {
                        tree.names.entry(module.clone()).or_default().insert(name, absolute);
                    }
                }
            }
        }
        tree
    }

    fn add(
        &mut self,
        names: Vec<String>,
        file: &str,
        text: &str,
        folder: &str,
        source: &dyn Fn(&str) -> Option<String>,
    ) {
        let parsed = parse(file, text);
        for child in parsed.modules.clone() {
            for path in [format!("{folder}{child}.rs"), format!("{folder}{child}/mod.rs")] {
                if let Some(text) = source(&path) {
                    let names = [&names[..], std::slice::from_ref(&child)].concat();
                    self.add(names, &path, &text, &format!("{folder}{child}/"), source);
                }
            }
        }
        let map = file == "lib.rs" || file.ends_with("/mod.rs");
        self.files.insert(names.clone(), (Module { names, map }, parsed));
    }

    /// The absolute path of a name in a file; none if the name is not ours.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = match &**first {
            "crate" | "vhost_user_macvtap" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len().saturating_sub(1)].to_vec(),
            name => {
                let own = [module, std::slice::from_ref(first)].concat();
                match self.names.get(module).and_then(|names| names.get(name)) {
                    Some(named) => named.clone(),
                    None if self.files.contains_key(&own) => own,
                    None => return None,
                }
            }
        };
        for name in rest {
            if name == "super" {
                base.pop();
            } else if name != "self" {
                base.push(name.clone());
            }
        }
        Some(base)
    }

    /// The file that defines the item at an absolute path, and the rest of the path there.
    fn home(&self, mut path: Vec<String>) -> Option<(&Module, Vec<String>)> {
        for _ in 0..16 {
            let depth =
                (0..=path.len()).rev().find(|&depth| self.files.contains_key(&path[..depth]))?;
            let (module, rest) = (&path[..depth], &path[depth..]);
            let named = rest.first().and_then(|name| self.names.get(module)?.get(name));
            match named {
                Some(named) if *named != path => path = [&named[..], &rest[1..]].concat(),
                _ => return Some((&self.files[module].0, rest.to_vec())),
            }
        }
        None
    }

    /// Every use of another file's item, each once.
    pub fn edges(&self) -> impl Iterator<Item = Edge> {
        let mut edges = BTreeSet::new();
        for (names, (from, parsed)) in &self.files {
            // A map does not use the items that it re-exports.
            let uses = parsed.uses.iter().map(|(_, path)| path).filter(|_| !from.is_map());
            for path in uses.chain(&parsed.paths) {
                let Some(absolute) = self.absolute(names, path) else { continue };
                let Some((to, rest)) = self.home(absolute.clone()) else { continue };
                if to != from && !(to.is_map() && rest.is_empty()) {
                    let path = absolute.join("::");
                    edges.insert(Edge { from: from.clone(), to: to.clone(), path });
                }
            }
        }
        edges.into_iter()
    }

    /// Sets of files of which each leads to every other, as the edges among them.
    pub fn circles(&self) -> impl Iterator<Item = Vec<Edge>> {
        let mut next: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        let edges: Vec<_> = self.edges().collect();
        for edge in &edges {
            next.entry(edge.from.clone()).or_default().insert(edge.to.clone());
        }
        let reach = |from: &Module| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(module) = open.pop() {
                for to in next.get(&module).into_iter().flatten() {
                    if seen.insert(to.clone()) {
                        open.push(to.clone());
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<_, _> = next.keys().map(|from| (from.clone(), reach(from))).collect();
        let mutual = |a: &Module, b: &Module| {
            reached.get(a).is_some_and(|r| r.contains(b))
                && reached.get(b).is_some_and(|r| r.contains(a))
        };
        let mut circles: BTreeMap<Module, Vec<Edge>> = BTreeMap::new();
        for edge in edges.into_iter().filter(|edge| mutual(&edge.from, &edge.to)) {
            let first = next.keys().find(|module| mutual(module, &edge.from)).cloned();
            let circle = circles.entry(first.unwrap_or_else(|| edge.from.clone())).or_default();
            if !circle.iter().any(|known| known.from == edge.from && known.to == edge.to) {
                circle.push(edge);
            }
        }
        circles.into_values()
    }

    /// Every type.
    pub fn types(&self) -> impl Iterator<Item = Type> {
        self.files.values().flat_map(|(module, parsed)| {
            parsed.types.iter().map(|name| Type { name: name.clone(), module: module.clone() })
        })
    }

    /// `impl` blocks (without a trait) of types that another file defines.
    pub fn stray_impls(&self) -> impl Iterator<Item = StrayImpl> {
        self.files.iter().flat_map(move |(names, (module, parsed))| {
            parsed.impls.iter().filter_map(move |path| {
                let (home, rest) = self.home(self.absolute(names, path)?)?;
                let name = rest.join("::");
                // A part of the type's file: `host/macvtap/closing.rs` of `host/macvtap.rs`.
                let part = !home.map && names.starts_with(&home.names);
                (home != module && !part).then(|| StrayImpl {
                    module: module.clone(),
                    name,
                    home: home.clone(),
                })
            })
        })
    }
}
