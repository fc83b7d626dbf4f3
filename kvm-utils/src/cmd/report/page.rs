//! `kvm-utils report FILE --html`: the recording as one page.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    drilldown::{noun::Aids, registry::names, report::Order, sample::Sample},
    error::{Failure, say},
    model::Report,
    recording::{Recording, Series},
    replace::{ReplaceError, replace},
    view::html::{BEGINNING, Page, Run},
};

/// Standard output.
const STDOUT: &str = "-";

/// Where the page of a recording goes: to the file that was named, `-` being standard output, else beside the recording.
///
/// # Errors
///
/// If what was named cannot be meant.
pub fn target(recording: &Path, named: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(named) = named else { return Ok(recording.with_extension("html")) };
    if names().into_iter().any(|noun| named == Path::new(noun)) {
        let noun = named.display();
        return Err(Failure::usage(format!(
            "--html {noun} would write a file of the name `{noun}`: put the drill-down before it, or say --html ./{noun}"
        )));
    }
    if named == Path::new(STDOUT) && io::stdout().is_terminal() {
        return Err(Failure::usage("the page is nothing for a terminal: name a file, --html day.html"));
    }
    Ok(named.to_owned())
}

/// Writes the page of these drill-downs, each with the order of its rows; returns their sums.
///
/// # Errors
///
/// If it cannot be written, or another file is in its place.
pub fn write(
    recording: &Recording,
    wanted: &[(&Series, &Order)],
    aids: &Aids,
    to: &Path,
) -> anyhow::Result<Vec<Report>> {
    let fingerprint = recording.fingerprint();
    let mut runs = Vec::new();
    let mut shown = Vec::new();
    for (series, order) in wanted {
        let Some(whole) = series.whole() else { continue };
        let mut whole = recording.report(&whole, order, aids);
        if runs.is_empty() {
            whole.notes.splice(0..0, recording.notes.iter().cloned());
        }
        runs.push(Run {
            fingerprint: fingerprint.clone(),
            whole,
            began: series.samples.first().map(Sample::began),
            lengths: series.samples.iter().map(|sample| sample.interval).collect(),
        });
        shown.push((series, order));
    }
    let wholes = runs.iter().map(|run| run.whole.clone()).collect();
    let mut page = Page::new(runs);
    for (number, (series, order)) in shown.into_iter().enumerate() {
        // One at a time: all reports of a long recording would take more memory than a host may have to spare.
        for sample in &series.samples {
            page.interval(number, &recording.report(sample, order, aids));
        }
    }
    let page = page.finish()?;
    if to == Path::new(STDOUT) {
        io::stdout().lock().write_all(page.as_bytes())?;
    } else {
        let mut file = open(to)?;
        file.write_all(page.as_bytes()).with_context(|| format!("cannot write {}", to.display()))?;
        say(format_args!("wrote {} ({} KB)", to.display(), page.len().div_ceil(1000)));
    }
    Ok(wholes)
}

/// Creates the file, or empties it if it is a page of ours; any other file is left as it is.
fn open(path: &Path) -> Result<File, Failure> {
    replace(path, BEGINNING.as_bytes()).map_err(|error| match error {
        ReplaceError::Foreign => Failure::usage(format!(
            "{} is another file, not a page that kvm-utils wrote: name a new one, --html PAGE",
            path.display()
        )),
        ReplaceError::File(error) => Failure::host(format!("cannot write {}: {error}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_goes_beside_the_recording_unless_it_is_named() {
        let recording = Path::new("runs/day.kvmrec");
        assert_eq!(target(recording, None).unwrap(), Path::new("runs/day.html"));
        assert_eq!(target(recording, Some(Path::new("a.html"))).unwrap(), Path::new("a.html"));
        let error = target(recording, Some(Path::new("exits"))).unwrap_err();
        assert!(error.message.contains("--html ./exits"), "{error}");
    }
}
