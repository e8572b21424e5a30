//! Real `sshd`s on addresses of their own, with one user key.

use super::until;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Hosts of one test, all on one port.
pub struct Hosts {
    folder: TempDir,
    addresses: Vec<String>,
    port: u16,
}

impl Hosts {
    /// `sshd` on these addresses. `None`, said, where it is not installed or this is not root, whom it wants.
    pub fn start(addresses: &[String], port: u16) -> Option<Hosts> {
        if !Path::new("/usr/sbin/sshd").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root and sshd: install openssh-server");
            return None;
        }
        // What sshd drops its rights in; Debian's service makes it.
        std::fs::create_dir_all("/run/sshd").expect("/run/sshd");
        let folder = tempfile::Builder::new().prefix("regrow-ssh-").tempdir().expect("a folder");
        let mut hosts = Hosts { folder, addresses: Vec::new(), port };
        for key in ["host", "user"] {
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"];
            let made = Command::new("ssh-keygen").args(words).arg(hosts.path(key)).status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        std::fs::create_dir(hosts.path("home")).expect("a folder");
        std::fs::create_dir(hosts.path("run")).expect("a folder");
        std::fs::copy(hosts.path("user.pub"), hosts.path("authorized_keys")).expect("a copy");
        let public = std::fs::read_to_string(hosts.path("host.pub")).expect("a key");
        let key = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let known: String = addresses.iter().map(|at| format!("[{at}]:{port} {key}\n")).collect();
        hosts.write("known_hosts", &known);
        let shown = |name: &str| hosts.path(name).display().to_string();
        let client = format!(
            "Host *\n  User root\n  Port {port}\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n",
            shown("user"),
            shown("known_hosts")
        );
        hosts.write("ssh_config", &client);
        addresses.iter().for_each(|address| hosts.begin(address));
        Some(hosts)
    }

    /// One more `sshd`; answers when this returns.
    fn begin(&mut self, address: &str) {
        let shown = |name: &str| self.path(name).display().to_string();
        let options = [
            format!("ListenAddress={address}"),
            format!("Port={}", self.port),
            format!("HostKey={}", shown("host")),
            format!("AuthorizedKeysFile={}", shown("authorized_keys")),
            format!("PidFile={}", shown(&format!("{address}.pid"))),
            // A home without start-up files: what root's own do is no business of a test.
            format!("SetEnv=HOME={}", shown("home")),
            "StrictModes=no".to_owned(),
            "UsePAM=no".to_owned(),
            "PermitRootLogin=yes".to_owned(),
            "MaxStartups=1000".to_owned(),
            "MaxSessions=100".to_owned(),
        ];
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-f", "/dev/null", "-E"]).arg(self.path("sshd.log"));
        for option in &options {
            command.args(["-o", option]);
        }
        assert!(command.stdin(Stdio::null()).status().expect("sshd runs").success(), "sshd on {address}");
        let port = self.port;
        until("sshd answers", || TcpStream::connect((address, port)).ok());
        self.addresses.push(address.to_owned());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file in the test's folder");
    }

    /// What the servers have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for address in &self.addresses {
            let pid = std::fs::read_to_string(self.path(&format!("{address}.pid"))).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                super::signal(pid, "TERM");
            }
        }
        // Connections that are kept live on without their server's listener.
        super::kill_all(|_, words| words.contains(self.folder.path().to_str().expect("UTF-8")));
    }
}
