//! Line plots as SVG without a background, in colours that are read on a light page and on a dark one.

use std::path::Path;

use plotters::prelude::*;

use crate::Error;

const SIZE: (u32, u32) = (860, 440);
/// Text and lines of the frame.
const FRAME: RGBColor = RGBColor(127, 135, 144);
const COLOURS: [RGBColor; 8] = [
    RGBColor(76, 141, 214),
    RGBColor(224, 138, 30),
    RGBColor(63, 163, 77),
    RGBColor(214, 87, 87),
    RGBColor(155, 107, 211),
    RGBColor(42, 165, 165),
    RGBColor(190, 120, 150),
    RGBColor(138, 138, 138),
];

/// One plot. Both axes are logarithmic where they say so; what is not above zero is left out there.
#[derive(Debug)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

#[derive(Debug)]
pub struct Axis {
    pub label: String,
    /// How a value is written.
    pub format: fn(f64) -> String,
    pub logarithmic: bool,
}

impl Axis {
    fn place(&self, value: f64) -> Option<f64> {
        if self.logarithmic { (value > 0.0).then(|| value.log10()) } else { Some(value) }
    }

    fn text(&self, place: f64) -> String {
        (self.format)(if self.logarithmic { 10f64.powf(place) } else { place })
    }
}

/// Draws it; nothing when there is nothing to draw.
pub fn write(path: &Path, chart: &Chart) -> Result<(), Error> {
    let step = |error: String| Error::Step(format!("{}: {error}", path.display()));
    let placed = |(x, y): &(f64, f64)| Some((chart.x.place(*x)?, chart.y.place(*y)?));
    let series: Vec<(&String, Vec<(f64, f64)>)> = chart
        .series
        .iter()
        .map(|(name, points)| (name, points.iter().filter_map(placed).collect()))
        .collect();
    let all = || series.iter().flat_map(|(_, points)| points);
    let (Some(x), Some(y)) = (span(all().map(|point| point.0)), span(all().map(|point| point.1)))
    else {
        return Ok(());
    };
    let y = if chart.y.logarithmic { y } else { 0.0..y.end };
    draw(path, chart, &series, x, y).map_err(|error| step(error.to_string()))
}

/// From the least to the most, and a little more.
fn span(values: impl Iterator<Item = f64>) -> Option<std::ops::Range<f64>> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let room = (most - least).max(1e-3) * 0.03;
    least.is_finite().then_some(least - room..most + room)
}

fn draw(
    path: &Path,
    chart: &Chart,
    series: &[(&String, Vec<(f64, f64)>)],
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let text = |size: u32| ("sans-serif", size).into_font().color(&FRAME);
    let mut area = ChartBuilder::on(&root)
        .margin(12)
        .caption(&chart.title, text(17))
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(x, y)?;
    area.configure_mesh()
        .axis_style(FRAME)
        .light_line_style(TRANSPARENT)
        .bold_line_style(FRAME.mix(0.25))
        .label_style(text(13))
        .axis_desc_style(text(14))
        .x_desc(&chart.x.label)
        .y_desc(&chart.y.label)
        .x_label_formatter(&|place| chart.x.text(*place))
        .y_label_formatter(&|place| chart.y.text(*place))
        .draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        area.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        if points.len() < 20 {
            area.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
    }
    area.configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(text(13))
        .border_style(TRANSPARENT)
        .draw()?;
    root.present()?;
    Ok(())
}

/// Without more digits than are worth reading.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..0.01 => format!("{value:.4}"),
        ..1.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        ..10_000.0 => format!("{value:.0}"),
        _ => format!("{:.0} k", value / 1000.0),
    }
}
