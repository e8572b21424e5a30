//! Python with packages from PyPI, and the scripts in `tests/python`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Versions are those of the last releases; `etcd3` has generated code that newer `protobuf`s do not take, and
/// `python-etcd` calls what newer `urllib3`s have dropped.
pub const ETCD3: &str = "etcd3==0.12.0 protobuf<3.21 grpcio";
pub const ETCD2: &str = "python-etcd==0.4.5 urllib3<2";

/// A script of `tests/python`, run by a Python that has these packages, parted by spaces, in an environment of its own under
/// `target`. `None`, and said, if they cannot be had.
pub fn script(packages: &str, script: &str) -> Option<Command> {
    let name: String = packages.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = Path::new(env!("CARGO_BIN_EXE_regrow")).parent()?.join("python").join(name);
    let python = folder.join("bin/python");
    if install(&folder, &python, packages).is_none() {
        eprintln!("skipped: {script}: {packages} cannot be had from PyPI");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python").join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

fn install(folder: &Path, python: &Path, packages: &str) -> Option<()> {
    fs::create_dir_all(folder).ok()?;
    // Another test may want the same ones at the same time.
    let lock = File::create(folder.with_extension("lock")).ok()?;
    lock.lock().ok()?;
    let done = folder.join("done");
    if done.exists() {
        return Some(());
    }
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.success().then_some(())
    };
    quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    quiet(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(packages.split(' ')))?;
    fs::write(done, "").ok()
}
