//! The modules of a crate, as its source files say: what each declares and imports, and what it refers to.
//!
//! Read with `syn`, without expanding macros. Paths inside the arguments of a macro are found among its tokens. What is
//! `#[cfg(test)]` is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Item, UseTree,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// A module's path from the root of its crate; the root's is empty.
pub(super) type Name = Vec<String>;

/// What a name stands for in a module.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Means {
    /// Something that is declared there.
    Declared,
    /// What a `use` names, as it is written.
    Imported(Vec<String>),
}

/// A module, in a file of its own or not.
#[derive(Debug, Default)]
struct Scope {
    /// The module whose file it lies in: itself, or the nearest one around it that has a file.
    file: Name,
    names: BTreeMap<String, Means>,
    /// What it imports with `*`.
    globs: Vec<Vec<String>>,
}

/// A place where a path stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The module it stands in.
    scope: Name,
    /// The path, as it is written.
    path: Vec<String>,
    /// Line of the file, from 1.
    pub(super) line: usize,
}

impl Reference {
    /// As it is written.
    pub(super) fn text(&self) -> String {
        self.path.join("::")
    }
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// `name`, or `Type::name`.
    pub(super) name: String,
    /// Line of the file where its signature begins, from 1.
    pub(super) line: usize,
    /// From there to the closing bracket.
    pub(super) lines: usize,
}

/// A file of a crate.
#[derive(Debug)]
pub(super) struct File {
    /// From the crate's `src`.
    pub(super) name: String,
    pub(super) references: Vec<Reference>,
    pub(super) functions: Vec<Function>,
}

/// The modules of one crate.
#[derive(Debug, Default)]
pub(super) struct Modules {
    /// By the path of the module that a file is.
    pub(super) files: BTreeMap<Name, File>,
    scopes: BTreeMap<Name, Scope>,
}

/// Bounds what imports of imports are followed; a longer chain is one that leads back to itself.
const DEEPEST: usize = 12;

impl Modules {
    /// Reads a crate's `src`. Programs in `src/bin` are crates of their own and are left out.
    ///
    /// # Errors
    /// When a file cannot be read or is no Rust.
    pub(super) fn read(src: &Path) -> Result<Self> {
        let mut texts = Vec::new();
        collect(src, src, &mut texts)?;
        let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Self::of(&texts).with_context(|| format!("in {}", src.display()))
    }

    /// From names of files below `src`, and their texts.
    ///
    /// # Errors
    /// When one is no Rust.
    pub(super) fn of(texts: &[(&str, &str)]) -> Result<Self> {
        let mut modules = Self::default();
        let mut tests = BTreeSet::new();
        for (name, text) in texts {
            let parsed = syn::parse_file(text).with_context(|| format!("{name} cannot be parsed"))?;
            let module = module(name);
            let mut reader = Reader {
                file: module.clone(),
                scope: module.clone(),
                within: None,
                bodies: 0,
                modules: &mut modules,
                tests: &mut tests,
                found: File { name: (*name).to_owned(), references: Vec::new(), functions: Vec::new() },
            };
            reader.enter(module.clone());
            reader.visit_file(&parsed);
            let found = reader.found;
            // main.rs and lib.rs are both the root: one is seldom there beside the other, and small then.
            if let Some(root) = modules.files.get_mut(&module) {
                root.references.extend(found.references);
                root.functions.extend(found.functions);
            } else {
                modules.files.insert(module, found);
            }
        }
        modules.files.retain(|name, _| !tests.iter().any(|test| name.starts_with(test)));
        Ok(modules)
    }

    /// The file in which what a reference names is declared. `None` if it is of another crate.
    pub(super) fn target(&self, reference: &Reference) -> Option<&Name> {
        let (Place::Module(place) | Place::In(place)) = self.resolve(&reference.scope, &reference.path, 0)?;
        let file = &self.scopes.get(&place)?.file;
        self.files.contains_key(file).then_some(file)
    }

    /// What a path names, as it is written in a module.
    fn resolve(&self, scope: &Name, path: &[String], depth: usize) -> Option<Place> {
        let mut module = scope.clone();
        let mut rest = path;
        let rooted = match path.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &path[1..];
                true
            }
            "self" => {
                rest = &path[1..];
                true
            }
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    module.pop()?;
                    rest = &rest[1..];
                }
                true
            }
            _ => false,
        };
        for (index, part) in rest.iter().enumerate() {
            match self.within(&module, part, depth) {
                Some(Place::Module(found)) => module = found,
                Some(found) => return Some(found),
                // What a macro declares.
                None if rooted || index > 0 => return Some(Place::In(module)),
                None => return None,
            }
        }
        Some(Place::Module(module))
    }

    /// What a name stands for in a module.
    fn within(&self, module: &Name, part: &str, depth: usize) -> Option<Place> {
        let child = [&module[..], &[part.to_owned()]].concat();
        if self.scopes.contains_key(&child) {
            return Some(Place::Module(child));
        }
        if depth == DEEPEST {
            return None;
        }
        let scope = self.scopes.get(module)?;
        match scope.names.get(part) {
            Some(Means::Declared) => Some(Place::In(module.clone())),
            // `use name`: a crate.
            Some(Means::Imported(path)) if path.len() == 1 && path[0] == part => None,
            Some(Means::Imported(path)) => self.resolve(module, path, depth + 1),
            None => scope.globs.iter().find_map(|glob| match self.resolve(module, glob, depth + 1)? {
                Place::Module(from) if from != *module => self.within(&from, part, depth + 1),
                _ => None,
            }),
        }
    }
}

/// What a path leads to.
enum Place {
    /// A module.
    Module(Name),
    /// Something that this module declares.
    In(Name),
}

/// All sources below a folder, but for `bin`.
fn collect(src: &Path, folder: &Path, texts: &mut Vec<(String, String)>) -> Result<()> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).with_context(|| folder.display().to_string())?.collect::<Result<_, _>>()?;
    paths.sort_by_key(fs::DirEntry::path);
    for path in paths.iter().map(fs::DirEntry::path) {
        if path.is_dir() {
            if path != src.join("bin") {
                collect(src, &path, texts)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(src)?.to_string_lossy().into_owned();
            texts.push((name, fs::read_to_string(&path).with_context(|| path.display().to_string())?));
        }
    }
    Ok(())
}

/// The module that a file is.
fn module(file: &str) -> Name {
    let mut parts: Name = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let root = parts.len() == 1 && (parts[0] == "lib" || parts[0] == "main");
    if root || parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Whether something is there for tests only.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Goes through a file.
struct Reader<'a> {
    file: Name,
    scope: Name,
    /// The type or trait around a function.
    within: Option<String>,
    /// How many bodies of functions are around.
    bodies: usize,
    modules: &'a mut Modules,
    /// Modules that are there for tests only.
    tests: &'a mut BTreeSet<Name>,
    found: File,
}

impl Reader<'_> {
    fn enter(&mut self, module: Name) {
        let scope = self.modules.scopes.entry(module.clone()).or_default();
        scope.file.clone_from(&self.file);
        self.scope = module;
    }

    fn scope(&mut self) -> &mut Scope {
        self.modules.scopes.entry(self.scope.clone()).or_default()
    }

    fn refer(&mut self, path: Vec<String>, line: usize) {
        self.found.references.push(Reference { scope: self.scope.clone(), path, line });
    }

    fn declare(&mut self, name: &syn::Ident) {
        if self.bodies == 0 {
            self.scope().names.insert(name.to_string(), Means::Declared);
        }
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, before)),
            UseTree::Glob(glob) => {
                self.refer(before.to_vec(), glob.span().start().line);
                self.scope().globs.push(before.to_vec());
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.named(before.last().cloned().unwrap_or_default(), before.to_vec(), name.ident.span());
            }
            UseTree::Name(name) => self.named(name.ident.to_string(), with(&name.ident), name.ident.span()),
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.named(rename.rename.to_string(), before.to_vec(), rename.ident.span());
            }
            UseTree::Rename(rename) => {
                self.named(rename.rename.to_string(), with(&rename.ident), rename.ident.span());
            }
        }
    }

    fn named(&mut self, name: String, path: Vec<String>, span: proc_macro2::Span) {
        self.refer(path.clone(), span.start().line);
        if self.bodies == 0 {
            self.scope().names.insert(name, Means::Imported(path));
        }
    }

    /// Paths among the arguments of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut line = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.path_ends(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.path_ends(&mut path, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.path_ends(&mut path, line);
    }

    fn path_ends(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.refer(std::mem::take(path), line);
        }
        path.clear();
    }

    fn function(&mut self, signature: &syn::Signature, whole: proc_macro2::Span) {
        let line = signature.span().start().line;
        let name = match &self.within {
            Some(within) => format!("{within}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        self.found.functions.push(Function { name, line, lines: whole.end().line - line + 1 });
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name): (&[Attribute], Option<&syn::Ident>) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::TraitAlias(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.ident)),
            Item::Mod(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Impl(item) => (&item.attrs, None),
            Item::ExternCrate(item) => (&item.attrs, None),
            Item::ForeignMod(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if for_tests(attributes) {
            if let Item::Mod(module) = item {
                self.tests.insert([&self.scope[..], &[module.ident.to_string()]].concat());
            }
            return;
        }
        if let Some(name) = name {
            self.declare(name);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if let Some((_, items)) = &module.content {
            let outer = self.scope.clone();
            self.enter([&outer[..], &[module.ident.to_string()]].concat());
            items.iter().for_each(|item| self.visit_item(item));
            self.scope = outer;
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let parts = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.refer(parts, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(called.tokens.clone());
        self.visit_path(&called.path);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, function.span());
        self.bodies += 1;
        visit::visit_item_fn(self, function);
        self.bodies -= 1;
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if for_tests(&function.attrs) {
            return;
        }
        self.function(&function.sig, function.span());
        self.bodies += 1;
        visit::visit_impl_item_fn(self, function);
        self.bodies -= 1;
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if function.default.is_some() {
            self.function(&function.sig, function.span());
        }
        self.bodies += 1;
        visit::visit_trait_item_fn(self, function);
        self.bodies -= 1;
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let of = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            _ => None,
        };
        let outer = std::mem::replace(&mut self.within, of);
        visit::visit_item_impl(self, item);
        self.within = outer;
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let outer = self.within.replace(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.within = outer;
    }
}
