//! Line charts as SVG: enough for our tables, and nothing to depend on.

use std::fmt::Write;

/// Of one panel, labels included, in pixels.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 380.0;
/// Room for labels.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 32.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 56.0;

/// A straight or bent scale from the first tick to the last.
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) ticks: Vec<f64>,
    /// What is drawn in proportion.
    pub(crate) scale: fn(f64) -> f64,
}

impl Axis {
    /// Place of a value: 0 at the first tick, 1 at the last.
    fn place(&self, value: f64) -> f64 {
        let end = |tick: Option<&f64>| tick.map_or(0.0, |tick| (self.scale)(*tick));
        let (first, last) = (end(self.ticks.first()), end(self.ticks.last()));
        (((self.scale)(value) - first) / (last - first)).clamp(0.0, 1.0)
    }
}

#[derive(Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
}

/// A picture of panels, two in a row.
pub(crate) fn svg(title: &str, note: &str, panels: &[Panel]) -> String {
    const HEAD: f64 = 62.0;
    let (width, height) = (2.0 * WIDTH, HEAD + panels.len().div_ceil(2) as f64 * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"24\" y=\"30\" font-size=\"18\" font-weight=\"600\">{title}</text>\n\
         <text x=\"24\" y=\"50\" fill=\"#555\">{note}</text>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        let (x, y) = ((at % 2) as f64 * WIDTH, HEAD + (at / 2) as f64 * HEIGHT);
        let _ = write!(out, "<g transform=\"translate({x} {y})\">\n{}</g>\n", draw(panel));
    }
    out + "</svg>\n"
}

fn draw(panel: &Panel) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x = |value: f64| LEFT + panel.x.place(value) * (right - LEFT);
    let y = |value: f64| bottom - panel.y.place(value) * (bottom - TOP);
    let mut out = format!("<text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"600\">{}</text>\n", panel.title);
    for tick in &panel.x.ticks {
        let (at, text) = (x(*tick), number(*tick));
        let _ = writeln!(out, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#e6e6e6\"/>");
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", bottom + 18.0);
    }
    for tick in &panel.y.ticks {
        let (at, text) = (y(*tick), number(*tick));
        let _ = writeln!(out, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#e6e6e6\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", LEFT - 8.0, at + 4.0);
    }
    let _ = writeln!(out, "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>");
    let (middle, label) = (f64::midpoint(LEFT, right), panel.x.label);
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 40.0);
    let (middle, label) = (f64::midpoint(TOP, bottom), panel.y.label);
    let _ =
        writeln!(out, "<text transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\">{label}</text>");
    for (at, curve) in panel.curves.iter().enumerate() {
        let points: Vec<String> = curve.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let (colour, dashes) = (curve.colour, if curve.dashed { " stroke-dasharray=\"6 4\"" } else { "" });
        let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}");
        let _ = writeln!(out, "<polyline points=\"{}\" {style}/>", points.join(" "));
        for (a, b) in &curve.points {
            let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>", x(*a), y(*b));
        }
        let (column, line) = (LEFT + (at % 2) as f64 * 210.0, 36.0 + (at / 2) as f64 * 17.0);
        let _ = writeln!(out, "<path d=\"M{column} {line}h28\" {style}/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", column + 36.0, line + 4.0, curve.name);
    }
    out
}

/// With commas between thousands.
fn number(value: f64) -> String {
    if value < 1000.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    let head = digits.len() % 3;
    let groups = digits.as_bytes()[head..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let first = (head > 0).then(|| digits[..head].to_owned());
    first.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}
