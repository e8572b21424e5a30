//! Commands on other hosts, by the system's own `ssh`: its configuration, agents, certificates, jump hosts and host
//! keys are the user's as they know them.
//!
//! **Fast the second time.** A connection stays open for a while behind a socket in a folder of the user's own
//! (`ControlMaster`, ssh_config(5)), at most [`KEPT_MAX`] of them; the next command on that host needs no key exchange.
//!
//! **Errors of the connection are not the command's.** `ssh` writes its own messages to a file (`-E`), so exit code 255
//! with a message there is a host that was not reached, and without one the command's own.

mod folder;
mod run;

pub use run::{Run, Said, Stream};

use crate::error::error;
use folder::Folder;
use regrow_control::exec::Target;
use regrow_model::observed::{WorldError, WorldErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most connections that are kept open at a time: each is a process of some 4 MB.
pub const KEPT_MAX: usize = 512;

/// How hosts are reached. What is not set here is as in the user's ssh configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Another configuration file than the user's.
    pub config: Option<PathBuf>,
    /// User to log in as, where the host names none.
    pub user: Option<String>,
    /// Port, where the host names none.
    pub port: Option<u16>,
    /// Private key, where the host names none.
    pub identity: Option<PathBuf>,
    /// Jump hosts, as `ssh -J` takes them.
    pub jump: Option<String>,
    /// Whether the hosts may use the user's agent. Default: no, since whoever is root there may use it too.
    pub forward_agent: bool,
    /// Host keys that are known beside the user's own.
    pub known_hosts: Option<PathBuf>,
    /// Whether the key of a host that is not known is taken and remembered; a changed key never is. Default: no.
    pub accept_new: bool,
    /// Further options, as `ssh -o` takes them.
    pub options: Vec<String>,
    /// Longest wait for a connection. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a connection stays open after its last command; zero is not at all. Default: 60 s.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            config: None,
            user: None,
            port: None,
            identity: None,
            jump: None,
            forward_agent: false,
            known_hosts: None,
            accept_new: false,
            options: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            keep: Duration::from_secs(60),
        }
    }
}

/// The way to other hosts.
#[derive(Debug)]
pub struct Ssh {
    settings: Settings,
    folder: Folder,
}

impl Ssh {
    /// Makes sure of the folder for connections that are kept.
    ///
    /// # Errors
    /// When the folder cannot be made, or belongs to somebody else; when a jump host could be taken for an option.
    pub fn open(settings: Settings) -> Result<Ssh, WorldError> {
        let hostile = |text: &&String| text.starts_with('-') || text.contains(char::is_whitespace);
        if let Some(hostile) = [&settings.jump, &settings.user].into_iter().flatten().find(hostile) {
            return Err(error(WorldErrorKind::Other, format!("`{hostile}` is neither a user nor a host")));
        }
        let folder = Folder::open()?;
        Ok(Ssh { settings, folder })
    }

    /// The arguments of `ssh` before the remote command.
    fn arguments(&self, target: &Target, log: &Path, keep: bool) -> Vec<String> {
        let settings = &self.settings;
        let mut words: Vec<String> = Vec::new();
        let mut flag = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        let shown = |path: &Path| path.display().to_string();
        if let Some(config) = &settings.config {
            flag("-F", shown(config));
        }
        flag("-E", shown(log));
        let identity = target.identity.clone().or_else(|| settings.identity.as_deref().map(shown));
        if let Some(identity) = identity {
            flag("-i", identity);
        }
        if let Some(port) = target.port.or(settings.port) {
            flag("-p", port.to_string());
        }
        if let Some(user) = target.user.as_ref().or(settings.user.as_ref()) {
            flag("-l", user.clone());
        }
        if let Some(jump) = &settings.jump {
            flag("-J", jump.clone());
        }
        // The first value of an option counts: the user's go first.
        let mut options = settings.options.clone();
        options.push("BatchMode=yes".to_owned());
        options.push("LogLevel=ERROR".to_owned());
        options.push(format!("ConnectTimeout={}", settings.connect_timeout.as_secs().max(1)));
        options.push(format!("ForwardAgent={}", if settings.forward_agent { "yes" } else { "no" }));
        if settings.accept_new {
            options.push("StrictHostKeyChecking=accept-new".to_owned());
        }
        if let Some(known) = &settings.known_hosts {
            options.push(format!("GlobalKnownHostsFile=/etc/ssh/ssh_known_hosts {}", known.display()));
        }
        if !settings.keep.is_zero() {
            options.push(format!("ControlPath={}/%C", self.folder.path().display()));
            options.push(format!("ControlMaster={}", if keep { "auto" } else { "no" }));
            options.push(format!("ControlPersist={}", settings.keep.as_secs().max(1)));
        }
        options.into_iter().for_each(|option| flag("-o", option));
        words.extend(["-T".to_owned(), "--".to_owned()]);
        words.push(target.address.clone().unwrap_or_else(|| target.name.clone()));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(settings: Settings, target: &str) -> String {
        let ssh = Ssh::open(settings).unwrap();
        let target = Target::of(target).unwrap();
        let words = ssh.arguments(&target, Path::new("/log"), true).join(" ");
        words.replace(&ssh.folder.path().display().to_string(), "DIR")
    }

    /// Shows what `ssh` is told, and that the user's own options come first.
    #[test]
    fn arguments_are_ssh_s_own() {
        assert_eq!(
            arguments(Settings::default(), "me@db1:2200"),
            "-E /log -p 2200 -l me -o BatchMode=yes -o LogLevel=ERROR -o ConnectTimeout=10 -o ForwardAgent=no \
             -o ControlPath=DIR/%C -o ControlMaster=auto -o ControlPersist=60 -T -- db1"
        );
        let settings = Settings {
            user: Some("ops".into()),
            jump: Some("bastion".into()),
            forward_agent: true,
            accept_new: true,
            options: vec!["Compression=yes".into()],
            keep: Duration::ZERO,
            ..Settings::default()
        };
        assert_eq!(
            arguments(settings, "db1"),
            "-E /log -l ops -J bastion -o Compression=yes -o BatchMode=yes -o LogLevel=ERROR -o ConnectTimeout=10 \
             -o ForwardAgent=yes -o StrictHostKeyChecking=accept-new -T -- db1"
        );
    }

    /// Shows that nothing given for a user or a jump host becomes an option.
    #[test]
    fn options_in_disguise_are_refused() {
        for hostile in ["-oProxyCommand=id", "a b"] {
            let settings = Settings { jump: Some(hostile.to_owned()), ..Settings::default() };
            assert!(Ssh::open(settings).unwrap_err().text.contains("neither a user nor a host"));
        }
    }
}
