//! Tables in Markdown and a plot.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::measure::Point;

/// All figures of a contender.
pub struct Figures {
    pub name: String,
    pub build_seconds: f64,
    pub index_bytes: i64,
    pub wal_bytes: i64,
    pub search: Vec<Point>,
    /// Points with 10 % and with 1 % of the rows matching.
    pub filters: [Vec<Point>; 2],
    /// None if only searches were measured.
    pub changes: Option<Changes>,
}

/// Figures of changes after the build.
pub struct Changes {
    /// Rows a second.
    pub insert_at_once: f64,
    pub insert_one_by_one: f64,
    pub vacuum_seconds: f64,
}

impl Figures {
    /// The fastest point that reaches a recall.
    fn qps_at(&self, recall: f64) -> String {
        let reached = self.search.iter().filter(|p| p.recall >= recall);
        match reached.max_by(|a, b| a.qps.total_cmp(&b.qps)) {
            Some(p) => {
                format!("{:.0} (recall {:.3}, p50 {:.2} ms, p95 {:.2} ms)", p.qps, p.recall, p.p50, p.p95)
            }
            None => "not reached".to_owned(),
        }
    }
}

/// Prints one column for each contender, then all points.
pub fn print(all: &[Figures]) {
    let line = |name: &str, of: &dyn Fn(&Figures) -> String| {
        println!("| {name} | {} |", all.iter().map(of).collect::<Vec<_>>().join(" | "));
    };
    line("", &|f| f.name.clone());
    println!("|{}", " --- |".repeat(all.len() + 1));
    line("build, s", &|f| format!("{:.1}", f.build_seconds));
    line("index size; WAL of the build, MB", &|f| {
        format!("{:.0}; {:.0}", f.index_bytes as f64 / 1e6, f.wal_bytes as f64 / 1e6)
    });
    for recall in [0.95, 0.99] {
        line(&format!("QPS at recall@10 ≥ {recall}"), &|f| f.qps_at(recall));
    }
    let change = |name: &str, of: &dyn Fn(&Changes) -> String| {
        line(name, &|f| f.changes.as_ref().map_or("not measured".to_owned(), of));
    };
    change("rows/s, one INSERT", &|c| format!("{:.0}", c.insert_at_once));
    change("rows/s, a transaction each", &|c| format!("{:.0}", c.insert_one_by_one));
    change("VACUUM after deleting 10 %, s", &|c| format!("{:.1}", c.vacuum_seconds));
    println!("\n| index | rows searched | settings | recall@10 | QPS | p50, ms | p95, ms | short results |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for f in all {
        for (share, points) in [("all", &f.search), ("10 %", &f.filters[0]), ("1 %", &f.filters[1])] {
            for p in points {
                println!(
                    "| {} | {share} | {} | {:.4} | {:.0} | {:.2} | {:.2} | {:.1} % |",
                    f.name,
                    p.settings,
                    p.recall,
                    p.qps,
                    p.p50,
                    p.p95,
                    p.short * 100.0
                );
            }
        }
    }
}

/// Draws recall against queries a second, one line for each contender.
pub fn plot(all: &[Figures], path: &Path) -> Result<()> {
    let points = || all.iter().flat_map(|f| &f.search);
    let fastest = points().map(|p| p.qps).fold(1.0, f64::max);
    let slowest = points().map(|p| p.qps).fold(fastest, f64::min);
    let lowest = points().map(|p| p.recall).fold(0.99, f64::min).max(0.8);
    let root = SVGBackend::new(path, (800, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(20)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(lowest..1.0, (slowest / 1.5..fastest * 1.5).log_scale())?;
    chart.configure_mesh().x_desc("recall@10").y_desc("queries per second").draw()?;
    for (i, f) in all.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let mut line: Vec<(f64, f64)> = f.search.iter().map(|p| (p.recall, p.qps)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart
            .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?
            .label(&f.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(line.into_iter().map(|at| Circle::new(at, 3, colour.filled())))?;
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    root.present()?;
    Ok(())
}
