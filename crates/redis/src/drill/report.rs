//! What a drill found.

use crate::address::Address;
use crate::topology::NodeId;

use super::hands::Fault;

/// What one drill found. Times in milliseconds from the fault; `None`: it did not happen.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DrillReport {
    /// What was done.
    pub fault: Fault,
    /// To which node.
    pub node: NodeId,
    /// Where it is.
    pub address: Address,
    /// What it was: `master` or `replica`.
    pub role: &'static str,
    /// Until another node did not reach it.
    pub suspected_ms: Option<u64>,
    /// Until most masters gave it up.
    pub detected_ms: Option<u64>,
    /// Until another node served its slots.
    pub promoted_ms: Option<u64>,
    /// Until the first acknowledged write to its slots after the longest outage.
    pub first_good_write_ms: Option<u64>,
    /// The longest time without an acknowledged write to its slots; 0: no write failed.
    pub unavailable_ms: u64,
    /// Until all nodes agreed and every replica was in step.
    pub redundant_ms: Option<u64>,
    /// What the node was at the end: `master` or `replica`.
    pub rejoined_as: Option<&'static str>,
    /// Writes that were acknowledged.
    pub writes_acknowledged: u64,
    /// Writes that were refused, or not answered in time.
    pub writes_failed: u64,
    /// Acknowledged without asking for a replica, and not there at the end.
    pub lost: u64,
    /// Acknowledged, with a replica's word that it had it, and not there at the end.
    pub lost_with_wait: u64,
    /// Acknowledged, but no replica had it in time.
    pub wait_unfulfilled: u64,
    /// Reads that were refused, or not answered in time.
    pub reads_failed: u64,
    /// Reads in all.
    pub reads: u64,
}

/// What a drill may find at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Milliseconds without an acknowledged write.
    pub unavailable_ms_max: Option<u64>,
    /// Acknowledged writes lost, with or without `WAIT`.
    pub lost_max: Option<u64>,
}

impl Limits {
    /// What is beyond the limits, in words.
    pub fn exceeded(&self, report: &DrillReport) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(max) = self.unavailable_ms_max.filter(|max| report.unavailable_ms > *max) {
            found.push(format!(
                "no write was acknowledged for {} ms, which is more than {max} ms",
                report.unavailable_ms
            ));
        }
        let lost = report.lost + report.lost_with_wait;
        if let Some(max) = self.lost_max.filter(|max| lost > *max) {
            found.push(format!("{lost} acknowledged writes were lost, which is more than {max}"));
        }
        found
    }
}

impl DrillReport {
    /// Its lines for people: name and value.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let after = |ms: Option<u64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        vec![
            (
                "fault",
                format!("{:?} of {} {} ({})", self.fault, self.role, self.address, self.node.short()).to_lowercase(),
            ),
            ("suspected after", after(self.suspected_ms)),
            ("detected after", after(self.detected_ms)),
            ("promoted after", after(self.promoted_ms)),
            ("first good write after", after(self.first_good_write_ms)),
            ("unavailable for", format!("{} ms", self.unavailable_ms)),
            ("full redundancy after", after(self.redundant_ms)),
            ("rejoined as", self.rejoined_as.unwrap_or("not at all").to_owned()),
            ("writes acknowledged", self.writes_acknowledged.to_string()),
            ("writes failed", self.writes_failed.to_string()),
            ("acknowledged and lost", self.lost.to_string()),
            ("lost in spite of WAIT", self.lost_with_wait.to_string()),
            ("WAIT unfulfilled", self.wait_unfulfilled.to_string()),
            ("reads failed", format!("{} of {}", self.reads_failed, self.reads)),
        ]
    }
}

/// A page of its own, without scripts, with a table for each drill.
pub fn html(reports: &[DrillReport], limits: &Limits) -> String {
    let mut page = "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Redis drill</title>\n<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:2em}td{border-bottom:1px solid #ccc;padding:.3em 1em .3em 0}.bad{color:#b00020}</style>\n<h1>Redis drill</h1>\n".to_owned();
    for report in reports {
        page += "<table>\n";
        for (name, value) in report.lines() {
            page += &format!("<tr><td>{}<td>{}\n", escaped(name), escaped(&value));
        }
        page += "</table>\n";
        for found in limits.exceeded(report) {
            page += &format!("<p class=\"bad\">{}</p>\n", escaped(&found));
        }
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn report() -> DrillReport {
        DrillReport {
            fault: Fault::Kill,
            node: "ab".repeat(20).parse().unwrap(),
            address: Address::new("<h>", 1),
            role: "master",
            suspected_ms: Some(5),
            detected_ms: Some(6),
            promoted_ms: None,
            first_good_write_ms: None,
            unavailable_ms: 2000,
            redundant_ms: None,
            rejoined_as: None,
            writes_acknowledged: 9,
            writes_failed: 1,
            lost: 2,
            lost_with_wait: 1,
            wait_unfulfilled: 0,
            reads_failed: 0,
            reads: 4,
        }
    }

    #[test]
    fn limits() {
        let exceeded = |unavailable_ms_max, lost_max| Limits { unavailable_ms_max, lost_max }.exceeded(&report()).len();
        assert_eq!((exceeded(None, None), exceeded(Some(2000), Some(3)), exceeded(Some(1999), Some(2))), (0, 0, 2));
    }

    #[test]
    fn page_escapes_and_names_what_is_beyond() {
        let page = html(&[report()], &Limits { unavailable_ms_max: Some(1), lost_max: None });
        assert!(
            page.contains("<td>kill of master &lt;h&gt;:1 (abababab)")
                && page.contains("class=\"bad\">no write was acknowledged for 2000 ms")
        );
    }
}
