//! A process for each trial: what a client made the process grow by is not found in memory that the one before it left.

use std::process::Command;

use crate::args::Args;
use crate::error::Error;

use super::breaker::BREAKERS;
use super::fault::FAULTS;
use super::roster;
use super::row::Row;
use super::trial::Span;

/// The child's part: takes one subject through one fault and prints its rows.
pub(crate) fn undergo(args: &Args) -> Result<(), Error> {
    let (work, subject) = (args.only_work().unwrap_or_default(), args.only_subject().unwrap_or_default());
    let unknown = || Error::Child(format!("there is no `{work}` of `{subject}`"));
    let rows = if let Some(breaker) = BREAKERS.into_iter().find(|breaker| breaker.name() == work) {
        vec![breaker.measure()?]
    } else {
        let fault = FAULTS.into_iter().find(|fault| fault.name() == work).ok_or_else(unknown)?;
        let name = roster::NAMES.into_iter().find(|name| *name == subject).ok_or_else(unknown)?;
        Row::all(fault, name, &roster::undergo(name, fault, Span::of(args))?)
    };
    println!("{}", serde_json::to_string(&rows).map_err(|error| Error::Child(error.to_string()))?);
    Ok(())
}

/// Has a child do it.
pub(crate) fn rows(args: &Args, work: &str, subject: &str) -> Result<Vec<Row>, Error> {
    let failed = |error: std::io::Error| Error::Child(error.to_string());
    let mut child = Command::new(std::env::current_exe().map_err(failed)?);
    child.args(["undergo", "--work", work, "--subject", subject]).args(args.quick.then_some("--quick"));
    let output = child.output().map_err(failed)?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Error::Child(format!("{work}, {subject}: {}: {}", output.status, complaint.trim()))
    })
}
