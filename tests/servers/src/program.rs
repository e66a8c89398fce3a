//! Where the servers' programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories outside the PATH in which packages put PostgreSQL, one folder a version: Debian, Red Hat, Homebrew on both
/// processors.
const POSTGRES_HOMES: [&str; 4] = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"];

pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// The `bin` directory that holds both `initdb` and `postgres`: the one the PATH leads to, else the newest installed.
pub(crate) fn postgres_bin() -> Option<PathBuf> {
    // Through the symbolic link: the programs find each other by the directory they really are in.
    let linked = on_path("initdb").and_then(|path| path.canonicalize().ok());
    let linked = linked.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    linked.into_iter().chain(installed_postgres()).find(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
}

fn installed_postgres() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = POSTGRES_HOMES
        .into_iter()
        .filter_map(|home| fs::read_dir(home).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.trim_start_matches("postgresql").trim_start_matches("pgsql").trim_start_matches(['@', '-']);
            Some((version.split('.').next()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin).collect()
}
