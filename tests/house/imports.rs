//! Which file of a crate imports which: modules, `use` trees and paths, resolved to the file that defines what is
//! named.
//!
//! A path is followed one segment at a time from `crate`, `self`, `super`, a child module or a name that is bound
//! here. It ends in the file of the first segment that is neither a module nor bound by a `use`: an import of
//! `crate::shard::X`, where `shard/mod.rs` says `pub use a::X` and `a.rs` does the same with `b::X`, is an import of
//! `shard/a/b.rs`. So a re-export (`pub use`) and a declaration (`mod x;`) lead to a file and are no import
//! themselves, nor is `use crate::shard;` alone: what is named through it is. `use super::*` imports each name of
//! the parent that the file mentions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::tokens::{Token, closing, is_sequence, tokens, without_tests};

/// Module path, from the crate's root: `["shard", "orders"]`.
type Names = Vec<String>;

#[derive(Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    /// What `use` binds, and the path it stands for.
    bound: BTreeMap<String, Names>,
    globs: Vec<Names>,
    /// Paths that are named outside of re-exports.
    named: Vec<Names>,
    /// Single names, for what comes by a glob.
    mentioned: BTreeSet<String>,
}

/// A crate's modules without its tests.
pub(super) struct Crate {
    modules: BTreeMap<Names, Module>,
}

/// The module of a file: `shard/orders/mod.rs` and `shard/orders.rs` are both `shard::orders`.
fn module_of(file: &str) -> Names {
    let stem = file.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(if ["lib", "mod"].contains(&stem) { "" } else { stem });
    stem.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A `use` tree as pairs of the bound name and its path; `*` is bound where all are.
fn use_tree(tree: &[Token<'_>], prefix: &[String], found: &mut Vec<(String, Names)>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < tree.len() {
        match tree[at].text {
            "::" => {}
            "{" => {
                let inner = &tree[at + 1..closing(tree, at)];
                let mut start = 0;
                let mut depth = 0;
                for (index, token) in inner.iter().enumerate() {
                    match token.text {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        "," if depth == 0 => {
                            use_tree(&inner[start..index], &path, found);
                            start = index + 1;
                        }
                        _ => {}
                    }
                }
                if start < inner.len() {
                    use_tree(&inner[start..], &path, found);
                }
                return;
            }
            "as" => {
                found.push((tree[at + 1].text.to_owned(), path));
                return;
            }
            // `use a::{self}` is `use a`; `use self::a` begins here.
            "self" if !path.is_empty() => {}
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    if let Some(last) = path.last().cloned() {
        found.push((last, path));
    }
}

impl Crate {
    /// Reads every file below `src`, by its path from there.
    pub(super) fn read(src: &Path, files: &[std::path::PathBuf]) -> Crate {
        let texts = files.iter().map(|path| {
            let inside = path.strip_prefix(src).expect("it is below src").display().to_string();
            (inside, super::read(path))
        });
        Crate::of(&texts.collect::<Vec<_>>())
    }

    pub(super) fn of(files: &[(String, String)]) -> Crate {
        let mut modules: BTreeMap<Names, Module> = BTreeMap::new();
        let mut tests: Vec<Names> = Vec::new();
        for (file, text) in files.iter().filter(|(file, _)| file != "main.rs") {
            let path = module_of(file);
            let all = tokens(text);
            let (kept, of_tests) = without_tests(&all);
            let below = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect();
            tests.extend(of_tests.into_iter().map(below));
            modules.insert(path, Module::of(file, &kept));
        }
        modules.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        for path in modules.keys().cloned().collect::<Vec<_>>() {
            if let Some((last, parent)) = path.split_last()
                && let Some(parent) = modules.get_mut(parent)
            {
                parent.children.insert(last.clone());
            }
        }
        Crate { modules }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(|module| module.file.as_str())
    }

    /// Every file and the files it imports.
    pub(super) fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut imports = BTreeMap::new();
        for (path, module) in &self.modules {
            let named = module.named.iter().filter_map(|named| self.resolve(path, named, 0));
            let by_glob = module.globs.iter().flat_map(|glob| {
                let singles = module.mentioned.iter().filter(|name| !module.bound.contains_key(*name));
                singles.filter_map(|name| self.by_glob(path, glob, name))
            });
            let mut to: BTreeSet<String> = named.chain(by_glob).map(str::to_owned).collect();
            to.remove(&module.file);
            imports.insert(module.file.clone(), to);
        }
        imports
    }

    /// The file that defines what a path names, seen from a module. None: another crate's, or a module alone.
    fn resolve(&self, from: &Names, path: &[String], depth: usize) -> Option<&str> {
        assert!(depth < 32, "the imports go round: {path:?}");
        let (mut here, mut rest) = match path.first()?.as_str() {
            "crate" => (Names::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            _ => (from.clone(), path),
        };
        let is_relative = rest.len() == path.len();
        while let Some(name) = rest.first() {
            let module = self.modules.get(&here)?;
            if name == "super" {
                here.pop()?;
            } else if module.children.contains(name) && !(rest.len() == 1 && module.is_bound(name)) {
                here.push(name.clone());
            } else if let Some(target) = module.bound.get(name) {
                // `use memchr::memchr;` names another crate, `pub(super) use rule;` a macro of this file.
                if target[0] == *name && !module.children.contains(name) {
                    return module.defines(name).then_some(&module.file);
                }
                let whole: Names = target.iter().chain(&rest[1..]).cloned().collect();
                return self.resolve(&here, &whole, depth + 1);
            } else if let Some(file) = module.globs.iter().find_map(|glob| self.by_glob(&here, glob, name)) {
                return Some(file);
            } else {
                // An item. A first segment that is not known here is another crate.
                let is_elsewhere = is_relative && rest.len() == path.len();
                return (!is_elsewhere).then_some(&module.file);
            }
            rest = &rest[1..];
        }
        None
    }

    /// What a name means that comes by `use glob::*`, if it does.
    fn by_glob(&self, from: &Names, glob: &[String], name: &str) -> Option<&str> {
        let mut target = from.clone();
        for segment in glob {
            match segment.as_str() {
                "crate" => target.clear(),
                "self" => {}
                "super" => {
                    target.pop()?;
                }
                child => target.push(child.to_owned()),
            }
        }
        let module = self.modules.get(&target)?;
        let is_known = module.bound.contains_key(name) || module.defines(name);
        is_known.then(|| self.resolve(&target, &["self".to_owned(), name.to_owned()], 1)).flatten()
    }
}

impl Module {
    fn of(file: &str, kept: &[Token<'_>]) -> Module {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        let mut at = 0;
        while at < kept.len() {
            // `impl Trait + use<'_>` imports nothing.
            if kept[at].text == "use" && !is_sequence(&kept[at + 1..], &["<"]) {
                let end = at + kept[at..].iter().position(|token| token.text == ";").unwrap_or(0);
                // `pub use`, `pub(super) use`.
                let is_export = at > 0 && ["pub", ")"].contains(&kept[at - 1].text);
                let mut found = Vec::new();
                use_tree(&kept[at + 1..end], &[], &mut found);
                for (name, mut path) in found {
                    if name == "*" {
                        path.pop();
                        module.globs.push(path);
                        continue;
                    }
                    if !is_export {
                        module.named.push(path.clone());
                    }
                    module.bound.insert(name, path);
                }
                at = end + 1;
                continue;
            }
            // `.name` is a field or a method, `$crate` another's.
            let is_start = kept[at].is_name() && (at == 0 || ![".", "::", "$"].contains(&kept[at - 1].text));
            if !is_start {
                at += 1;
                continue;
            }
            let mut path = vec![kept[at].text.to_owned()];
            while is_sequence(&kept[at + 1..], &["::"]) && kept.get(at + 2).is_some_and(Token::is_name) {
                path.push(kept[at + 2].text.to_owned());
                at += 2;
            }
            module.mentioned.insert(path[0].clone());
            if path.len() > 1 {
                module.named.push(path);
            }
            at += 1;
        }
        module.items(kept);
        module
    }

    /// What is defined here, by name.
    fn items(&mut self, kept: &[Token<'_>]) {
        const ITEMS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];
        let mut depth = 0;
        for (at, token) in kept.iter().enumerate() {
            let name = |ahead: usize| kept.get(at + ahead).filter(|next| next.is_name());
            let defined = match token.text {
                item if depth == 0 && ITEMS.contains(&item) => name(1),
                "macro_rules" => name(2),
                _ => None,
            };
            match token.text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            self.defined.extend(defined.map(|name| name.text.to_owned()));
        }
    }

    fn defines(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    /// Whether a name means something here besides a module: `mod inspect; pub use inspect::inspect;`.
    fn is_bound(&self, name: &str) -> bool {
        self.defines(name) || self.bound.get(name).is_some_and(|target| target.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports_of(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
        let all = Crate::of(&files).imports();
        all.into_iter()
            .flat_map(|(from, to)| to.into_iter().map(move |to| format!("{from} → {to}")))
            .collect()
    }

    #[test]
    fn a_re_export_leads_to_the_file_that_defines() {
        let imports = imports_of(&[
            ("lib.rs", "pub mod shard; pub mod api; use shard::Own;"),
            ("shard/mod.rs", "mod a; mod c; mod d; pub use a::X; pub use c::c; pub struct Own;"),
            ("shard/d.rs", "use super::c::rule;"),
            ("shard/c.rs", "pub fn c() { memchr::memchr() } macro_rules! rule { } pub(super) use rule;"),
            ("shard/a/mod.rs", "mod b; pub(super) use b::{X, f as g};"),
            ("shard/a/b.rs", "pub struct X; pub fn f() {}"),
            (
                "api.rs",
                "use crate::shard; use memchr::memchr; use crate::{shard::{X as Z, c}}; fn h() { shard::a::g(); }",
            ),
        ]);
        assert_eq!(
            imports,
            [
                "api.rs → shard/a/b.rs",
                "api.rs → shard/c.rs",
                "lib.rs → shard/mod.rs",
                "shard/d.rs → shard/c.rs",
            ]
        );
    }

    #[test]
    fn every_way_of_naming_a_file_is_seen() {
        let imports = imports_of(&[
            ("lib.rs", "pub mod a; pub mod other;"),
            ("other.rs", "pub fn f() {}"),
            (
                "a/mod.rs",
                "mod b; mod c; mod d; mod e; use std::fmt; use self::b::B; pub struct A; fn g() { c::f() }",
            ),
            ("a/b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::other::f; }"),
            ("a/c.rs", "pub fn f() { super::super::other::f() }"),
            ("a/d.rs", "use super::*; fn x() -> A { B.other() }"),
            (
                "a/e.rs",
                "// crate::other::f\nfn x() { let b = super::A; \"super::b::B\"; $crate::other::f() }",
            ),
        ]);
        assert_eq!(
            imports,
            [
                "a/c.rs → other.rs",
                "a/d.rs → a/b.rs",
                "a/d.rs → a/mod.rs",
                "a/e.rs → a/mod.rs",
                "a/mod.rs → a/b.rs",
                "a/mod.rs → a/c.rs",
            ]
        );
    }

    #[test]
    fn files_of_tests_are_no_part_of_it() {
        let imports = imports_of(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub fn f() {} #[cfg(test)] mod tests;"),
            ("a/tests.rs", "mod more; use crate::b::g;"),
            ("a/tests/more.rs", "use crate::b::g;"),
            ("b.rs", "pub fn g() { crate::a::f() }"),
        ]);
        assert_eq!(imports, ["b.rs → a.rs"]);
    }
}
