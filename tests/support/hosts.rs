//! Hosts of their own on one machine: network namespaces on a bridge, whose links can be cut each way, and whose
//! addresses nobody else sees.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Hosts that can reach one another at `10.77.0.1`, `.2` …, made by the test and removed with it.
pub struct Hosts {
    prefix: String,
    count: u8,
}

static MADE: AtomicU32 = AtomicU32::new(0);

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

impl Hosts {
    /// Makes them, or says why that is not possible here.
    pub fn make(count: u8) -> Result<Hosts, String> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let hosts = Hosts { prefix: format!("rg{}n{number}", std::process::id()), count };
        hosts.build()?;
        Ok(hosts)
    }

    fn build(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        // The second bridge is the other side of a split.
        for bridge in ["br0", "br1"] {
            ip(&["-n", &switch, "link", "add", bridge, "type", "bridge"])?;
            ip(&["-n", &switch, "link", "set", bridge, "up"])?;
        }
        for host in 1..=self.count {
            let (name, port) = (self.name(host), port(host));
            ip(&["netns", "add", &name])?;
            ip(&["link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", Self::address(host)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    /// The namespace of a host, from 1 on.
    pub fn name(&self, host: u8) -> String {
        format!("{}h{host}", self.prefix)
    }

    pub fn address(host: u8) -> String {
        format!("10.77.0.{host}")
    }

    /// A command that runs on a host.
    pub fn command(&self, host: u8, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]).stdin(Stdio::null());
        command
    }

    /// Runs a command on a host to its end.
    pub fn run(&self, host: u8, program: &str, words: &[&str]) -> Output {
        self.command(host, program).args(words).output().expect("it runs")
    }

    /// Pulls the plug: nothing comes or goes.
    pub fn cut(&self, host: u8) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "down"]).expect("cut");
    }

    pub fn mend(&self, host: u8) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "up"]).expect("mended");
    }

    /// Puts a host on one side of a split: 0 is where all begin.
    pub fn side(&self, host: u8, side: u8) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "master", &format!("br{side}")]).expect("moved");
    }

    /// What a host sends is lost; what it is sent arrives.
    pub fn mute(&self, host: u8) {
        // A token bucket too small for any packet drops them all.
        let words = ["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1kbit", "burst", "10", "latency", "1ms"];
        assert!(self.run(host, "tc", &words).status.success(), "tc");
    }

    pub fn unmute(&self, host: u8) {
        assert!(self.run(host, "tc", &["qdisc", "del", "dev", "eth0", "root"]).status.success(), "tc");
    }
}

fn port(host: u8) -> String {
    format!("v{host}")
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in (1..=self.count).map(|host| self.name(host)).chain([self.switch()]) {
            // What still runs there ends with it; else the namespace would live on.
            if let Ok(pids) = Command::new("ip").args(["netns", "pids", &name]).output() {
                for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
                    let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
                }
            }
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
