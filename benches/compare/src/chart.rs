//! Bar charts as SVG. The ground is white by name, so that they read alike on a light and on a dark page.

use std::fmt::Write;

const WIDTH: f64 = 780.0;
/// Where bars begin.
const LEFT: f64 = 190.0;
/// Room for the longest bar; its figure stands behind it.
const LONGEST: f64 = 510.0;
const BAR: f64 = 9.0;
const GAP: f64 = 9.0;
const TITLE: f64 = 36.0;
const LEGEND: f64 = 22.0;
const HEADING: f64 = 34.0;
const FOOTNOTE: f64 = 22.0;

const INK: &str = "#1f2328";
const FAINT: &str = "#59636e";
/// One colour a series, ours and others'.
const OURS: [&str; 2] = ["#0b5cad", "#6cb0f5"];
const THEIRS: [&str; 2] = ["#6e7781", "#c3c9d0"];

/// Horizontal bars on linear scales that begin at zero.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Names of the bars of a group, at most two; none where they need none.
    pub(crate) legend: Vec<String>,
    pub(crate) panels: Vec<Panel>,
    /// Small, at the bottom; none if empty.
    pub(crate) footnote: String,
}

/// Groups that share a scale.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) groups: Vec<Bars>,
}

/// The bars of one subject.
#[derive(Debug)]
pub(crate) struct Bars {
    pub(crate) label: String,
    pub(crate) ours: bool,
    pub(crate) values: Vec<f64>,
}

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let head = TITLE + if self.legend.is_empty() { 0.0 } else { LEGEND };
        let bottom = head + self.panels.iter().map(Panel::height).sum::<f64>();
        let height = bottom + if self.footnote.is_empty() { 0.0 } else { FOOTNOTE };
        let mut svg = String::new();
        // Writing to a String does not fail.
        let _ = writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="12">"#
        );
        let _ = writeln!(svg, r##"<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>"##);
        text(&mut svg, (16.0, 26.0), INK, r#"font-size="15" font-weight="600""#, &self.title);
        let mut x = LEFT;
        for (name, (ours, theirs)) in self.legend.iter().zip(OURS.iter().zip(THEIRS)) {
            bar(&mut svg, (x, 39.0), BAR, ours);
            bar(&mut svg, (x + BAR + 2.0, 39.0), BAR, theirs);
            text(&mut svg, (x + 26.0, 47.5), FAINT, "", name);
            x += 110.0;
        }
        let mut top = head;
        for panel in &self.panels {
            panel.draw(top, &mut svg);
            top += panel.height();
        }
        if !self.footnote.is_empty() {
            text(&mut svg, (16.0, bottom + 8.0), FAINT, r#"font-size="10""#, &self.footnote);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Panel {
    fn height(&self) -> f64 {
        self.heading() + self.groups.iter().map(Bars::height).sum::<f64>() + 8.0
    }

    fn heading(&self) -> f64 {
        if self.title.is_empty() { 8.0 } else { HEADING }
    }

    fn draw(&self, top: f64, svg: &mut String) {
        text(svg, (16.0, top + 18.0), INK, r#"font-weight="600""#, &self.title);
        let largest = self.groups.iter().flat_map(|group| &group.values).copied().fold(f64::MIN_POSITIVE, f64::max);
        let mut top = top + self.heading();
        for group in &self.groups {
            group.draw(top, LONGEST / largest, svg);
            top += group.height();
        }
    }
}

impl Bars {
    fn height(&self) -> f64 {
        self.values.len() as f64 * (BAR + 1.0) + GAP
    }

    fn draw(&self, top: f64, scale: f64, svg: &mut String) {
        let middle = top + (self.height() - GAP) / 2.0 + 4.0;
        let weight = if self.ours { r#"text-anchor="end" font-weight="600""# } else { r#"text-anchor="end""# };
        text(svg, (LEFT - 8.0, middle), INK, weight, &self.label);
        let colours = if self.ours { OURS } else { THEIRS };
        for (index, (value, colour)) in self.values.iter().zip(colours).enumerate() {
            let y = top + index as f64 * (BAR + 1.0);
            bar(svg, (LEFT, y), value * scale, colour);
            let size = r#"font-size="10""#;
            text(svg, (LEFT + value * scale + 5.0, y + 8.5), FAINT, size, &figure(*value));
        }
    }
}

fn bar(svg: &mut String, (x, y): (f64, f64), width: f64, colour: &str) {
    let _ = writeln!(svg, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" fill="{colour}"/>"#);
}

fn text(svg: &mut String, (x, y): (f64, f64), colour: &str, attributes: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" fill="{colour}" {attributes}>{content}</text>"#);
}

fn figure(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: [f64; 2]) -> String {
        let groups = vec![
            Bars { label: "a<b".into(), ours: true, values: vec![values[0]] },
            Bars { label: "c".into(), ours: false, values: vec![values[1]] },
        ];
        Chart { title: "t".into(), legend: Vec::new(), panels: vec![Panel { title: "p".into(), groups }], footnote: "f".into() }
            .svg()
    }

    #[test]
    fn a_bar_is_as_long_as_its_value_says() {
        let svg = chart([50.0, 200.0]);
        assert!(svg.contains(&format!(r#"width="{LONGEST:.1}""#)), "{svg}");
        assert!(svg.contains(&format!(r#"width="{:.1}""#, LONGEST / 4.0)), "{svg}");
    }

    #[test]
    fn the_ground_is_drawn_and_labels_are_escaped() {
        let svg = chart([1.0, 1.0]);
        assert!(svg.contains(r##"fill="#ffffff""##) && svg.contains("a&lt;b") && !svg.contains("a<b"));
    }

    #[test]
    fn nothing_measured_is_an_empty_chart() {
        let svg = Chart { title: String::new(), legend: Vec::new(), panels: Vec::new(), footnote: String::new() }.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
