//! The rows of a run: as a table to read, as JSON to keep.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::rounds::Figure;
use crate::series::{Series, Unit};

/// One figure of one subject at one work.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Row {
    Time { work: String, threads: usize, subject: &'static str, ns: f64, spread: f64 },
    Memory { work: String, subject: &'static str, bytes_per_entry: f64 },
}

impl Row {
    pub(crate) fn of(series: &Series) -> Self {
        let Figure { median, spread } = series.figure();
        let (work, subject) = (series.work.clone(), series.subject);
        match series.unit {
            Unit::Nanoseconds => {
                Self::Time { work, threads: series.threads, subject, ns: rounded(median, 2), spread: rounded(spread, 3) }
            }
            Unit::BytesPerEntry => Self::Memory { work, subject, bytes_per_entry: rounded(median, 1) },
        }
    }
}

/// To as many digits as a reader of the file can use.
pub(crate) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

/// Writes the rows as one JSON array, a row a line.
pub(crate) fn write_json<R: Serialize>(path: &Path, rows: &[R]) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(fs::File::create(path)?);
        file.write_all(b"[")?;
        for (index, row) in rows.iter().enumerate() {
            file.write_all(if index == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut file, row)?;
        }
        file.write_all(b"\n]\n")?;
        file.flush()
    };
    write().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Writes a file of text.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// A line of a work's table: one subject at every thread count.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) subject: &'static str,
    pub(crate) note: &'static str,
    pub(crate) figures: Vec<Figure>,
    /// Of all timed reads.
    pub(crate) hit_ratio: f64,
}

/// The table of one work. Ratios are to `reference`, at the same number of threads: above 1 is slower than it.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) threads: &'a [usize],
    pub(crate) lines: &'a [Line],
    pub(crate) reference: Option<&'a Line>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<22}", "subject")?;
        for threads in self.threads {
            let column = format!("{threads} thread{}, ns", if *threads == 1 { "" } else { "s" });
            write!(f, "{column:>16} {:>5} {:>8}", "±", "ratio")?;
        }
        writeln!(f, "{:>9}  note", "hits")?;
        for line in self.lines {
            write!(f, "  {:<22}", line.subject)?;
            for (index, figure) in line.figures.iter().enumerate() {
                write!(f, "{:>16.1} {:>4.0}%", figure.median, 100.0 * figure.spread)?;
                match self.reference {
                    Some(reference) => write!(f, " {:>8.2}", figure.median / reference.figures[index].median)?,
                    None => write!(f, " {:>8}", "-")?,
                }
            }
            writeln!(f, "{:>8.1}%  {}", 100.0 * line.hit_ratio, line.note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(unit: Unit, samples: &[f64]) -> Series {
        Series { work: "u64-zipf-ttl".into(), threads: 1, subject: "cachestack", note: "", unit, samples: samples.into() }
    }

    #[test]
    fn a_row_has_the_five_fields_that_readers_of_the_file_expect() {
        let row = Row::of(&series(Unit::Nanoseconds, &[12.345_6, 12.345_6 * 1.1, 12.345_6]));
        let json = r#"{"work":"u64-zipf-ttl","threads":1,"subject":"cachestack","ns":12.35,"spread":0.05}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), json);
    }

    #[test]
    fn a_row_of_memory_has_bytes_and_no_time() {
        let row = Row::of(&series(Unit::BytesPerEntry, &[51.23]));
        let json = r#"{"work":"u64-zipf-ttl","subject":"cachestack","bytes_per_entry":51.2}"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), json);
    }

    #[test]
    fn rows_are_written_as_an_array_even_when_there_are_none() {
        let path = std::env::temp_dir().join(format!("compare-rows-{}.json", std::process::id()));
        write_json::<Row>(&path, &[]).unwrap();
        let none: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let row = || Row::of(&series(Unit::Nanoseconds, &[1.0]));
        write_json(&path, &[row(), row()]).unwrap();
        let two: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!((none.len(), two.len()), (0, 2));
    }

    #[test]
    fn ratios_are_to_the_reference_at_the_same_number_of_threads() {
        let line = |subject, one, two| Line {
            subject,
            note: "",
            figures: vec![Figure { median: one, spread: 0.0 }, Figure { median: two, spread: 0.0 }],
            hit_ratio: 1.0,
        };
        let lines = [line("a", 10.0, 20.0), line("b", 30.0, 80.0)];
        let table = Table { threads: &[1, 2], lines: &lines, reference: Some(&lines[0]) };
        let text = table.to_string();
        let last = text.lines().last().unwrap();
        assert!(last.contains("3.00") && last.contains("4.00"), "{text}");
        assert!(!Table { reference: None, ..table }.to_string().contains("1.00"));
    }
}
