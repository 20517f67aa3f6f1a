//! The names of functions: from the symbols of the binary to what a reader of a profile recognises.
//!
//! The binary has line tables, in which an inlined function is just `run` or `call_once<F, ()>`. Its source file gives
//! the rest: `firehose::server::core_loop::run`. Type parameters are left out, so instances of a function are one.

/// A function, and the line in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    pub(super) name: String,
    /// The source file; empty if it is unknown.
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) origin: Origin,
}

/// Whose code a function is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// This program or a crate whose work is its own.
    Crate,
    /// A runtime that calls tasks.
    Runtime,
    /// Rust's standard library.
    Library,
    /// The kernel, in a system call or an interrupt.
    Kernel,
    /// C, or unknown code.
    #[default]
    Foreign,
}

const RUNTIMES: [&str; 7] =
    ["glommio", "tokio", "may", "generator", "futures_lite", "async_task", "scoped_tls"];
/// The part of this program that starts runtimes and their tasks.
const OWN_RUNTIME: &str = "firehose::cores::executor";
const LIBRARY: [&str; 4] = ["std", "core", "alloc", "panic_unwind"];

impl Frame {
    /// Creates a frame of code without a known source file.
    pub(super) fn foreign(name: impl Into<String>) -> Frame {
        Frame { name: name.into(), ..Frame::default() }
    }

    /// Creates a frame of the kernel.
    pub(super) fn kernel(name: impl Into<String>) -> Frame {
        Frame { origin: Origin::Kernel, ..Frame::foreign(name) }
    }

    /// Creates a frame from what the symbols contain.
    pub(super) fn of_symbol(name: &str, file: String, line: u32) -> Frame {
        let short = without_parameters(name);
        let module = module(&file);
        let name = match &module {
            Some(module) if !short.contains("::") => format!("{module}::{short}"),
            _ => short,
        };
        let first = module.as_deref().unwrap_or(&name).trim_start_matches(['<', '&']);
        let first = first.split("::").next().unwrap_or_default();
        let is_library = LIBRARY.contains(&first) || first.starts_with("__rust");
        let origin = if is_library || file.contains("/rust/deps/") {
            Origin::Library
        } else if RUNTIMES.contains(&first) || module.as_deref() == Some(OWN_RUNTIME) {
            Origin::Runtime
        } else if module.is_some() {
            Origin::Crate
        } else {
            Origin::Foreign
        };
        Frame { name, file, line, origin }
    }

    /// Returns the name for a narrow box, which is cut on the right: the function, then its module.
    pub(super) fn function_first(&self) -> String {
        match self.name.rsplit_once("::") {
            Some((module, function)) if !self.name.starts_with('<') => format!("{function} ({module})"),
            _ => self.name.clone(),
        }
    }
}

/// Returns a name without its type parameters, unless it begins with a type.
fn without_parameters(name: &str) -> String {
    if name.starts_with('<') {
        return name.to_owned();
    }
    let (mut short, mut depth, mut before) = (String::new(), 0_usize, ' ');
    for next in name.chars() {
        match next {
            '<' => depth += 1,
            // The arrow of a function's type closes nothing.
            '>' if before != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => short.push(next),
            _ => {}
        }
        before = next;
    }
    let short = short.replace("::::", "::");
    short.strip_suffix("::").map_or(short.clone(), str::to_owned)
}

/// Returns the module that a source file of Rust contains, such as `rusqlite::statement`.
fn module(file: &str) -> Option<String> {
    let path = file.strip_suffix(".rs")?;
    let own = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).map(|path| path.trim_start_matches('/'));
    let (name, inside) = match own.unwrap_or(path).strip_prefix("src/") {
        Some(inside) => (env!("CARGO_PKG_NAME"), inside),
        None => {
            let (folder, inside) = path.rsplit_once("/src/")?;
            (folder.rsplit('/').next()?, inside)
        }
    };
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    let modules = inside.split('/').filter(|module| !["lib", "main", "mod"].contains(module));
    Some(modules.fold(crate_name(name).replace('-', "_"), |path, module| path + "::" + module))
}

/// Returns the name of a folder of the registry without the version.
fn crate_name(folder: &str) -> &str {
    let is_version = |at: usize| folder[at + 1..].starts_with(|next: char| next.is_ascii_digit());
    folder.match_indices('-').find(|(at, _)| is_version(*at)).map_or(folder, |(at, _)| &folder[..at])
}

/// Returns which frames of a stack, outermost first, remain in a profile.
///
/// Code that only leads to other code is the same in every stack: what starts threads, calls closures and polls tasks.
/// It is left out in front of a frame of this program or a crate, so that the first frame is the first that differs. What
/// the library, C and the kernel do for that code remains. The runtime's own work remains too.
pub(super) fn which_remain(origins: &[Origin]) -> Vec<bool> {
    let own = [Origin::Crate, Origin::Runtime, Origin::Library].into_iter().find(|own| origins.contains(own));
    let is_own = |origin: &Origin| Some(*origin) == own;
    let first = origins.iter().position(is_own).unwrap_or(0);
    let last = origins.iter().rposition(is_own).unwrap_or(0);
    let remains = |(at, origin): (usize, &Origin)| {
        at >= last || is_own(origin) || (at > first && *origin == Origin::Foreign)
    };
    origins.iter().enumerate().map(remains).collect()
}

#[cfg(test)]
mod tests {
    use super::Origin::{Crate, Foreign, Library, Runtime};
    use super::*;

    #[test]
    fn a_function_is_named_by_its_module_and_belongs_to_whose_file_it_is() {
        let own = env!("CARGO_MANIFEST_DIR");
        let rust = "/rustc/0a1b/library";
        let registry = "/home/me/.cargo/registry/src/index.crates.io-1/";
        let symbol = |name: &str, file: String| {
            let frame = Frame::of_symbol(name, file, 1);
            (frame.name, frame.origin)
        };
        let first = |name: &str| Frame::foreign(name).function_first();
        assert_eq!(first("a::b::run"), "run (a::b)");
        assert_eq!(
            [first("epoll_wait"), first("<a::B as c::D>::poll")],
            ["epoll_wait", "<a::B as c::D>::poll"]
        );
        for (name, file, expected, origin) in [
            ("run", format!("{own}/src/server/core_loop.rs"), "firehose::server::core_loop::run", Crate),
            ("work", "src/ingest/mod.rs".to_owned(), "firehose::ingest::work", Crate),
            ("{closure#0}<a::B, ()>", format!("{own}/src/main.rs"), "firehose::{closure#0}", Crate),
            ("run<F>", format!("{own}/src/cores/executor.rs"), "firehose::cores::executor::run", Runtime),
            (
                "call_once<F, ()>",
                format!("{rust}/core/src/ops/function.rs"),
                "core::ops::function::call_once",
                Library,
            ),
            ("find", "/rust/deps/hashbrown-0.16.1/src/raw.rs".to_owned(), "hashbrown::raw::find", Library),
            (
                "poll",
                format!("{registry}futures-lite-2.6.1/src/future.rs"),
                "futures_lite::future::poll",
                Runtime,
            ),
            ("step", format!("{registry}rusqlite-0.41.0-rc1/src/row.rs"), "rusqlite::row::step", Crate),
            (
                "<a::B as c::D>::poll",
                format!("{registry}hyper-1.12.0/src/lib.rs"),
                "<a::B as c::D>::poll",
                Crate,
            ),
            ("std::thread::start<F>", String::new(), "std::thread::start", Library),
            ("core::str::<impl str>::len", String::new(), "core::str::len", Library),
            ("a::B<fn() -> C<D>, E>::run::<F>", format!("{own}/src/a.rs"), "a::B::run", Crate),
            ("__rust_try", String::new(), "__rust_try", Library),
            ("<core::Box as std::Fn>::call", String::new(), "<core::Box as std::Fn>::call", Library),
            ("sqlite3_step", "/tmp/sqlite3.c".to_owned(), "sqlite3_step", Foreign),
            ("epoll_wait", String::new(), "epoll_wait", Foreign),
        ] {
            assert_eq!(symbol(name, file), (expected.to_owned(), origin));
        }
    }

    #[test]
    fn a_stack_begins_where_it_differs_from_the_others() {
        let remaining = |origins: &[Origin]| {
            let remain = which_remain(origins);
            origins
                .iter()
                .zip(remain)
                .filter(|(_, remains)| *remains)
                .map(|(origin, _)| *origin)
                .collect::<Vec<_>>()
        };
        let thread =
            [Foreign, Library, Library, Crate, Library, Crate, Foreign, Crate, Library, Foreign, Foreign];
        assert_eq!(remaining(&thread), [Crate, Crate, Foreign, Crate, Library, Foreign, Foreign]);
        assert_eq!(remaining(&[Foreign, Library, Runtime, Library, Crate, Library]), [Crate, Library]);
        assert_eq!(
            remaining(&[Foreign, Library, Runtime, Library, Runtime, Foreign]),
            [Runtime, Runtime, Foreign]
        );
        assert_eq!(remaining(&[Foreign, Library, Foreign]), [Library, Foreign]);
        assert_eq!(remaining(&[Foreign, Foreign]), [Foreign, Foreign]);
        assert_eq!(remaining(&[]), []);
    }
}
