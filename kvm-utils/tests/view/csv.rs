use std::io::{self, Write};

use insta::assert_snapshot;
use kvm_utils::model::Report;
use kvm_utils::view::csv::{header, rows};

use crate::fixture;

fn whole(report: &Report) -> String {
    let mut out = Vec::new();
    header(&mut out, report.columns).unwrap();
    rows(&mut out, report).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn two_vms() {
    assert_snapshot!(whole(&fixture::two_vms()));
}

#[test]
fn names_are_quoted_and_keep_the_line_whole() {
    let text = whole(&fixture::hostile());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert_snapshot!(text);
}

#[test]
fn every_line_has_as_many_fields_as_the_header() {
    for report in [fixture::one_vm(), fixture::two_vms(), fixture::hostile(), fixture::empty()] {
        let text = whole(&report);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let fields = reader.headers().unwrap().len();
        assert_eq!(fields, 6 + report.columns.len());
        let expected: usize = report.vms.iter().flat_map(|vm| &vm.vcpus).map(|vcpu| vcpu.rows.len()).sum();
        assert_eq!(
            reader.records().map(|record| assert_eq!(record.unwrap().len(), fields)).count(),
            expected
        );
    }
}

#[test]
fn a_closed_pipe_is_told_as_such() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(rows(Closed, &fixture::one_vm()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(header(Closed, fixture::COLUMNS).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
