//! Tables that are Markdown and, columns aligned, fit to be read as they are.

use std::fs;

/// What a reader needs to know about the machine.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{}, {cores} cores.", model.map_or("unknown processor", |(_, model)| model))
}

/// A Markdown table with aligned columns.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles.
    pub fn new<'a>(titles: impl Iterator<Item = &'a str>) -> Self {
        Self { rows: vec![titles.map(str::to_owned).collect()] }
    }

    /// One more row, with a cell for every title.
    pub fn add(&mut self, cells: impl Iterator<Item = String>) {
        self.rows.push(cells.collect());
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths: Vec<_> = (0..self.rows[0].len()).map(|column| self.width(column)).collect();
        for (index, row) in self.rows.iter().enumerate() {
            f.write_str("|")?;
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, " {cell:width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            f.write_str("\n")?;
            if index == 0 {
                write!(f, "|{}|", "-".repeat(widths[0] + 2))?;
                widths[1..]
                    .iter()
                    .try_for_each(|width| write!(f, "{}:|", "-".repeat(width + 1)))?;
                f.write_str("\n")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["a", "rate"].into_iter());
        table.add(["longer".to_owned(), "1 µs".to_owned()].into_iter());
        assert_eq!(table.to_string(), "| a      | rate |\n|--------|-----:|\n| longer | 1 µs |\n");
    }
}
