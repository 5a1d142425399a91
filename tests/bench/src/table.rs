//! Rows of figures: medians with their spread, and ratios within rounds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sample::{Figure, Sample};

/// The samples of one case, by row.
pub(crate) struct Table {
    /// What was measured.
    pub(crate) title: String,
    /// With which command the same is measured again, and what to know.
    pub(crate) note: String,
    /// Columns, in order.
    pub(crate) figures: Vec<Figure>,
    /// Row, and its sample of each round.
    pub(crate) rows: Vec<(String, Vec<Sample>)>,
    /// Row that others are compared with; and by which figure.
    pub(crate) against: Option<(String, Figure)>,
    /// Samples that were taken again.
    pub(crate) dropped: usize,
}

/// Middle, smallest, largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, most })
    }
}

impl Table {
    /// Without rows.
    pub(crate) fn new(title: impl Into<String>, note: impl Into<String>, figures: &[Figure]) -> Self {
        Self {
            title: title.into(),
            note: note.into(),
            figures: figures.to_vec(),
            rows: Vec::new(),
            against: None,
            dropped: 0,
        }
    }

    /// A sample more of a row.
    pub(crate) fn add(&mut self, row: &str, sample: Sample) {
        match self.rows.iter_mut().find(|(name, _)| name == row) {
            Some((_, samples)) => samples.push(sample),
            None => self.rows.push((row.to_owned(), vec![sample])),
        }
    }

    /// The figure of a row over all rounds.
    pub(crate) fn spread(&self, row: &str, figure: Figure) -> Option<Spread> {
        let (_, samples) = self.rows.iter().find(|(name, _)| name == row)?;
        Spread::of(samples.iter().filter_map(|sample| sample.get(&figure).copied()).collect())
    }

    /// A row's figure divided by another row's of the same round.
    pub(crate) fn ratio(&self, row: &str, to: &str, figure: Figure) -> Option<Spread> {
        let find = |name: &str| self.rows.iter().find(|(row, _)| row == name).map(|(_, samples)| samples);
        let pairs = find(row)?.iter().zip(find(to)?);
        Spread::of(pairs.filter_map(|(one, other)| Some(one.get(&figure)? / other.get(&figure)?)).collect())
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut titles = vec![String::new()];
        titles.extend(self.figures.iter().map(|figure| figure.title().to_owned()));
        if let Some((to, figure)) = &self.against {
            titles.push(format!("{} × {to}", figure.title()));
        }
        let mut lines = vec![titles];
        for (row, _) in &self.rows {
            let mut cells = vec![row.clone()];
            cells.extend(self.figures.iter().map(|figure| cell(self.spread(row, *figure))));
            if let Some((to, figure)) = &self.against {
                cells.push(cell(self.ratio(row, to, *figure)));
            }
            lines.push(cells);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        for line in lines {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                text.push_str(&if column == 0 { format!("  {cell}{pad}") } else { format!("  {pad}{cell}") });
            }
            text.push('\n');
        }
        if self.dropped > 0 {
            text.push_str(&format!("  {} samples were dropped and taken again\n", self.dropped));
        }
        if !self.note.is_empty() {
            text.push_str(&format!("  {}\n", self.note));
        }
        text
    }

    /// For programs: every sample.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(row, samples)| {
                let samples: Vec<BTreeMap<&str, f64>> = samples
                    .iter()
                    .map(|sample| sample.iter().map(|(f, value)| (f.title(), *value)).collect())
                    .collect();
                json!({"row": row, "samples": samples})
            })
            .collect();
        json!({"title": self.title, "note": self.note, "dropped": self.dropped, "rows": rows})
    }
}

/// `12.3 ±4 %`: half of the spread beside the median.
fn cell(spread: Option<Spread>) -> String {
    let Some(Spread { median, least, most }) = spread else { return "–".to_owned() };
    let digits = if median >= 1_000.0 {
        0
    } else if median >= 10.0 {
        1
    } else {
        2
    };
    let half = if median > 0.0 { (most - least) / 2.0 / median * 100.0 } else { 0.0 };
    if least < most { format!("{median:.digits$} ±{half:.0}%") } else { format!("{median:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("title", "note", &[Figure::PerSecond]);
        for (direct, other) in [(100.0, 50.0), (200.0, 50.0), (50.0, 40.0)] {
            table.add("direct", Sample::from([(Figure::PerSecond, direct)]));
            table.add("other", Sample::from([(Figure::PerSecond, other)]));
        }
        table
    }

    #[test]
    fn medians_and_ratios_are_by_round() {
        let table = table();
        assert_eq!(table.spread("direct", Figure::PerSecond), Some(Spread { median: 100.0, least: 50.0, most: 200.0 }));
        assert_eq!(
            table.ratio("other", "direct", Figure::PerSecond),
            Some(Spread { median: 0.5, least: 0.25, most: 0.8 })
        );
        assert_eq!(table.spread("nobody", Figure::PerSecond), None);
        assert_eq!(Spread::of(vec![4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
    }

    #[test]
    fn a_table_has_all_rows_and_columns() {
        let mut table = table();
        table.against = Some(("direct".into(), Figure::PerSecond));
        let text = table.text();
        assert!(text.contains("other") && text.contains("50.0 ±10%") && text.contains("per s × direct"), "{text}");
        assert_eq!(table.json()["rows"][1]["samples"][0]["per s"], 50.0);
    }
}
