//! What `INFO` says.

use std::collections::BTreeMap;

/// The fields of an `INFO` answer, over all its sections. Shape: `name:value` lines; lines with `#` are titles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info(BTreeMap<String, String>);

impl Info {
    /// Reads an answer. Lines that are no field are passed over: every version adds some.
    pub fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// A field as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field as a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A field as a flag of 0 or 1; absent is 0.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// The version of the server as three numbers; missing parts are 0.
    pub fn version(&self) -> (u32, u32, u32) {
        let mut parts = self.text("redis_version").unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        (next(), next(), next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.0.15\r\n\r\n# Cluster\r\ncluster_enabled:1\r\nmaster_host:::1\r\nnonsense\r\n",
        );
        assert_eq!(info.version(), (7, 0, 15));
        assert!(info.flag("cluster_enabled") && !info.flag("absent"));
        assert_eq!(info.text("master_host"), Some("::1"));
        assert_eq!(info.number("redis_version"), None);
    }
}
