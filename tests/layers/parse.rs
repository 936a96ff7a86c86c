//! One source file: the modules, imports, paths, types and `impl` blocks in it.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree};

/// The content of a file, without the items that exist only for tests.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// Modules that it declares, each in a file of its own.
    pub modules: Vec<String>,
    /// Its imports: the name here, and the path as written.
    pub uses: Vec<(String, Vec<String>)>,
    /// Paths of at least two names in its code, as written.
    pub paths: Vec<Vec<String>>,
    /// Types and traits that it defines.
    pub types: Vec<String>,
    /// The types of its `impl` blocks without a trait, as written.
    pub impls: Vec<Vec<String>>,
}

/// Takes a file apart.
pub fn parse(file: &str, text: &str) -> Parsed {
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut visitor = Visitor::default();
    visitor.visit_file(&syntax);
    visitor.parsed
}

#[derive(Default)]
struct Visitor {
    parsed: Parsed,
    /// How many modules inside the file we are in.
    depth: usize,
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        attribute.path().is_ident("cfg") && list.tokens.to_string() == "test"
    })
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
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

impl Visitor {
    /// Inside a module of the file, `super` is the file as often as we are deep.
    fn as_seen_by_the_file(&self, mut path: Vec<String>) -> Vec<String> {
        let inner = path.iter().take(self.depth).take_while(|name| *name == "super").count();
        path.drain(..inner);
        if inner > 0 && path.first().is_some_and(|name| name != "super") {
            path.insert(0, "self".to_owned());
        }
        path
    }

    fn import(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&with(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(before, tree)),
            UseTree::Name(name) if name.ident == "self" => {
                let last = before.last().cloned().unwrap_or_default();
                self.parsed.uses.push((last, self.as_seen_by_the_file(before.to_vec())));
            }
            UseTree::Name(name) => {
                let path = self.as_seen_by_the_file(with(&name.ident));
                self.parsed.uses.push((name.ident.to_string(), path));
            }
            UseTree::Rename(name) => {
                let path = self.as_seen_by_the_file(with(&name.ident));
                self.parsed.uses.push((name.rename.to_string(), path));
            }
            UseTree::Glob(_) => {}
        }
    }

    /// Paths among the tokens of a macro call.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 || path.is_empty() => {
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.path(std::mem::take(&mut path));
                    colons = 0;
                    match other {
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.path(path);
    }

    fn path(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.parsed.paths.push(self.as_seen_by_the_file(path));
        }
    }
}

impl<'a> Visit<'a> for Visitor {
    fn visit_item(&mut self, item: &'a Item) {
        if is_test(attributes(item)) {
            return;
        }
        match item {
            Item::Enum(item) => self.parsed.types.push(item.ident.to_string()),
            Item::Struct(item) => self.parsed.types.push(item.ident.to_string()),
            Item::Trait(item) => self.parsed.types.push(item.ident.to_string()),
            Item::Type(item) => self.parsed.types.push(item.ident.to_string()),
            Item::Union(item) => self.parsed.types.push(item.ident.to_string()),
            Item::Impl(item) if item.trait_.is_none() => {
                if let syn::Type::Path(path) = &*item.self_ty {
                    self.parsed.impls.push(self.as_seen_by_the_file(names(&path.path)));
                }
            }
            Item::Mod(item) if item.content.is_none() => {
                self.parsed.modules.push(item.ident.to_string())
            }
            _ => {}
        }
        let inside = matches!(item, Item::Mod(item) if item.content.is_some());
        self.depth += usize::from(inside);
        visit::visit_item(self, item);
        self.depth -= usize::from(inside);
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        let attributes = match item {
            ImplItem::Fn(item) => &item.attrs[..],
            ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.path(names(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
