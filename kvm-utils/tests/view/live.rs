use std::io::{self, Write};

use insta::assert_snapshot;
use kvm_utils::view::Frame;
use kvm_utils::view::live::Size;

const SCREEN: Size = Size { columns: 20, rows: 6 };

/// Remembers each write by itself.
#[derive(Default)]
struct Writes(Vec<String>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn visible(writes: &[String]) -> String {
    writes.join("\n--\n").replace('\u{1b}', "␛").replace('\r', "␍")
}

#[test]
fn each_frame_replaces_the_last_with_one_write() {
    let mut frame = Frame::new(Writes::default());
    frame.redraw("one\ntwo\nthree\n", SCREEN).unwrap();
    frame.redraw("four\n", SCREEN).unwrap();
    frame.redraw("\u{1b}[1ma line that is longer than the screen\u{1b}[0m\nsix\n", SCREEN).unwrap();
    let writes = frame.into_inner().0;
    assert_eq!(writes.len(), 3);
    assert_snapshot!(visible(&writes));
}

#[test]
fn a_frame_is_never_higher_than_the_screen() {
    let mut frame = Frame::new(Writes::default());
    frame.redraw(&"line\n".repeat(50), SCREEN).unwrap();
    frame.redraw(&"line\n".repeat(50), Size { rows: 1, ..SCREEN }).unwrap();
    frame.redraw("", Size { rows: 0, columns: 0 }).unwrap();
    let writes = frame.into_inner().0;
    assert_eq!(writes[0].matches("\r\n").count(), 5);
    assert_eq!(writes[1].matches("\r\n").count(), 1);
    assert_eq!(writes[2].matches("\r\n").count(), 0);
}

#[test]
fn a_narrower_screen_is_begun_anew_and_a_wider_one_is_not() {
    let mut frame = Frame::new(Writes::default());
    frame.redraw("one\n", SCREEN).unwrap();
    frame.redraw("two\n", Size { columns: 10, ..SCREEN }).unwrap();
    frame.redraw("three\n", SCREEN).unwrap();
    let writes = frame.into_inner().0;
    assert!(writes[1].contains("\u{1b}[H"), "{:?}", writes[1]);
    assert!(!writes[2].contains("\u{1b}[H") && writes[2].contains("\u{1b}[1A"), "{:?}", writes[2]);
}

#[test]
fn a_pipe_gets_text_and_nothing_else() {
    let mut frame = Frame::new(Writes::default());
    frame.append("one\ntwo\n").unwrap();
    frame.append("three\n").unwrap();
    assert_eq!(frame.into_inner().0.concat(), "one\ntwo\n\nthree\n");
}

#[test]
fn what_is_kept_stays_and_what_is_erased_goes() {
    let mut frame = Frame::new(Writes::default());
    frame.redraw("one\ntwo\n", SCREEN).unwrap();
    frame.keep();
    frame.erase().unwrap();
    frame.redraw("three\n", SCREEN).unwrap();
    frame.erase().unwrap();
    let writes = frame.into_inner().0;
    assert_eq!(writes.len(), 3);
    assert!(!writes[1].contains("\u{1b}[2A"), "{:?}", writes[1]);
    assert_eq!(writes[2], "\r\u{1b}[1A\u{1b}[K\r\n\r\u{1b}[1A");
}

#[test]
fn a_summary_takes_the_place_of_the_last_frame() {
    let mut frame = Frame::new(Writes::default());
    frame.redraw("one\n", SCREEN).unwrap();
    frame.erase().unwrap();
    frame.append("summary\n").unwrap();
    let writes = frame.into_inner().0;
    assert_eq!(writes[1..], ["\r\u{1b}[1A\u{1b}[K\r\n\r\u{1b}[1A", "summary\n"]);
    // But a frame that was left standing is kept apart from it.
    let mut frame = Frame::new(Writes::default());
    frame.redraw("one\n", SCREEN).unwrap();
    frame.append("summary\n").unwrap();
    assert_eq!(frame.into_inner().0[1], "\nsummary\n");
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
    let mut frame = Frame::new(Closed);
    assert_eq!(frame.redraw("one\n", SCREEN).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(frame.append("one\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
