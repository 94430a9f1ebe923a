//! Where the programs are, and how they are built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// How Corewire's own two programs are built, as a person would type it.
pub const BUILD_COREWIRE: &str =
    "cargo build --release -p corewire-cli -p corewire-examples --bins --examples";

/// How the peers are built.
pub const BUILD_PEERS: &str = "cargo build --release -p corewire-bench-peers --bins";

/// The flags of the C programs; the Makefile next to them has the same.
const CC_FLAGS: [&str; 7] =
    ["-std=c11", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Werror"];

/// Each C program with its sources.
const FLOOR_PROGRAMS: [(&str, &[&str]); 2] = [
    ("floor_server", &["floor_server.c", "common.c"]),
    ("floor_client", &["floor_client.c", "pace.c", "histogram.c", "common.c"]),
];

/// The folder of this package, even if it was moved after it was compiled.
fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    package().parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target folder: the one that contains this program, wherever settings or environment moved it.
#[must_use]
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let tagged = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    tagged.map_or_else(|| workspace().join("target"), Path::to_path_buf)
}

/// The folder of release binaries.
#[must_use]
pub fn release() -> PathBuf {
    target().join("release")
}

/// The echo server that Corewire is measured with.
#[must_use]
pub fn echo_server() -> PathBuf {
    release().join("examples/echo_server")
}

/// Corewire's command, with the load generator.
#[must_use]
pub fn corewire() -> PathBuf {
    release().join("corewire")
}

/// Corewire's two programs, each with the command that builds it.
#[must_use]
pub fn corewire_programs() -> Vec<(PathBuf, &'static str)> {
    vec![(echo_server(), BUILD_COREWIRE), (corewire(), BUILD_COREWIRE)]
}

/// Builds Corewire's two programs, or uses those that are there.
///
/// # Errors
///
/// When they do not compile, or are not there.
pub fn make_corewire(as_they_are: bool) -> Result<()> {
    if !as_they_are {
        build(BUILD_COREWIRE)?;
    }
    require(&corewire_programs())
}

/// The start of a command that runs the echo server on a core and a port that the system chooses.
#[must_use]
pub fn serve_echo(core: usize) -> Command {
    let mut command = Command::new(echo_server());
    command.args(["--addr", "127.0.0.1:0", "--cores", &core.to_string()]);
    command
}

/// The start of a command that loads a server, and prints one line of JSON.
#[must_use]
pub fn bench(address: &str) -> Command {
    let mut command = Command::new(corewire());
    command.args(["bench", address, "--json"]);
    command
}

/// Compiles the floor's two programs into a folder.
///
/// # Errors
///
/// When there is no C compiler, or the programs do not compile.
pub fn build_floor(into: &Path) -> Result<()> {
    FLOOR_PROGRAMS.iter().try_for_each(|(program, sources)| compile(program, sources, into))
}

/// Compiles C sources of `benches/floor` into a program with `cc`, or with the compiler in the variable `CC`.
///
/// # Errors
///
/// When there is no C compiler, or the sources do not compile.
pub fn compile(program: &str, sources: &[&str], into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)
        .with_context(|| format!("cannot make the folder {}", into.display()))?;
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    // Compiled next to its final place and then moved: two builds at once never run half a program.
    let part = into.join(format!("{program}.{}", std::process::id()));
    let mut command = Command::new(&compiler);
    command
        .current_dir(package().join("floor"))
        .args(CC_FLAGS)
        .arg("-o")
        .arg(&part)
        .args(sources)
        .arg("-lm");
    let output = command.output().with_context(|| {
        format!(
            "cannot start the C compiler {}: install one (on Debian: gcc and libc6-dev)",
            compiler.display()
        )
    })?;
    if !output.status.success() {
        bail!("{program} does not compile:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::rename(&part, into.join(program))
        .with_context(|| format!("cannot put {program} in place"))
}

/// The folder that the commands build the C programs into.
#[must_use]
pub fn floor_folder() -> PathBuf {
    target().join("floor")
}

/// Runs one of the build commands above in the workspace, with its progress on standard error.
///
/// # Errors
///
/// When cargo cannot be started or the build fails.
pub fn build(command: &str) -> Result<()> {
    let mut words = command.split_whitespace().skip(1);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo);
    child.current_dir(workspace()).env("CARGO_TARGET_DIR", target()).args(&mut words);
    // This package's own variables must not affect what it builds.
    child.env_remove("CARGO_MANIFEST_DIR");
    let status = child.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`{command}` failed");
    }
    Ok(())
}

/// Checks that programs are there.
///
/// # Errors
///
/// One sentence that names the first missing one and the command that builds it.
pub fn require(programs: &[(PathBuf, &str)]) -> Result<()> {
    for (program, build) in programs {
        if !program.is_file() {
            let shown = program.strip_prefix(workspace()).unwrap_or(program).display();
            bail!("{shown} is missing: build it by `{build}`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_commands_name_packages_that_are_there() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(workspace()).args(["metadata", "--no-deps", "--offline"]);
        let output = command.args(["--format-version", "1"]).output().expect("cargo runs");
        let text = String::from_utf8_lossy(&output.stdout);
        for build in [BUILD_COREWIRE, BUILD_PEERS] {
            let words: Vec<&str> = build.split_whitespace().collect();
            let packages: Vec<&str> =
                words.windows(2).filter(|pair| pair[0] == "-p").map(|pair| pair[1]).collect();
            assert!(!packages.is_empty(), "{build}");
            for package in packages {
                assert!(text.contains(&format!("{{\"name\":\"{package}\"")), "{package}: {build}");
            }
        }
    }

    #[test]
    fn a_missing_program_is_named_with_its_remedy() {
        let missing = workspace().join("target/release/nothing-of-that-name");
        let error = require(&[(missing, BUILD_COREWIRE)]).expect_err("it is missing");
        assert_eq!(
            error.to_string(),
            format!(
                "target/release/nothing-of-that-name is missing: build it by `{BUILD_COREWIRE}`"
            )
        );
    }
}
