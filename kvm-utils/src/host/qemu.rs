//! QEMU's `-name` option.
//!
//! `-name [guest=]NAME[,process=TITLE][,debug-threads=on|off]` (qemu(1)); a comma within a value is written twice.
//! The option may be repeated: QEMU merges them, and the last `guest` counts.

/// The guest's name among the arguments of a QEMU process.
#[must_use]
pub fn guest_name(cmdline: &[String]) -> Option<String> {
    let mut name = None;
    let mut arguments = cmdline.iter().skip(1);
    while let Some(argument) = arguments.next() {
        if (argument == "-name" || argument == "--name")
            && let Some(found) = arguments.next().and_then(|value| guest_of(value))
        {
            name = Some(found);
        }
    }
    name
}

/// The guest in one value of `-name`.
fn guest_of(value: &str) -> Option<String> {
    let mut guest = None;
    for (index, item) in split_at_single_commas(value).into_iter().enumerate() {
        match item.split_once('=') {
            Some(("guest", name)) => guest = Some(name.to_owned()),
            Some(_) => {}
            // `guest` is the implied key of the first item only.
            None if index == 0 => guest = Some(item),
            None => {}
        }
    }
    guest.filter(|name| !name.is_empty())
}

/// Cuts at commas, and makes one comma of two.
pub(super) fn split_at_single_commas(value: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(arguments: &[&str]) -> Option<String> {
        let cmdline: Vec<String> =
            std::iter::once(&"qemu").chain(arguments).map(|a| (*a).to_owned()).collect();
        guest_name(&cmdline)
    }

    #[test]
    fn every_way_to_write_it() {
        assert_eq!(name(&["-name", "web-1"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["--name", "web-1"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["-name", "guest=web-1,debug-threads=on"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["-name", "debug-threads=on,guest=web-1"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["-name", "web 1,process=x"]).as_deref(), Some("web 1"));
        assert_eq!(name(&["-m", "64", "-name", "a", "-smp", "2"]).as_deref(), Some("a"));
    }

    #[test]
    fn commas_in_names_are_doubled() {
        assert_eq!(name(&["-name", "a,,b"]).as_deref(), Some("a,b"));
        assert_eq!(name(&["-name", "guest=a,,b,debug-threads=on"]).as_deref(), Some("a,b"));
        assert_eq!(name(&["-name", "guest=a,,,debug-threads=on"]).as_deref(), Some("a,"));
        assert_eq!(name(&["-name", "guest=x=y"]).as_deref(), Some("x=y"));
    }

    #[test]
    fn repeated_options_are_merged() {
        assert_eq!(name(&["-name", "a", "-name", "debug-threads=on"]).as_deref(), Some("a"));
        assert_eq!(name(&["-name", "debug-threads=on", "-name", "b"]).as_deref(), Some("b"));
        assert_eq!(name(&["-name", "a", "-name", "guest=b"]).as_deref(), Some("b"));
    }

    #[test]
    fn no_name_is_none() {
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["-name"]), None);
        assert_eq!(name(&["-name", ""]), None);
        assert_eq!(name(&["-name", "guest="]), None);
        assert_eq!(name(&["-name", "debug-threads=on"]), None);
        assert_eq!(name(&["-name", "process=a"]), None);
    }
}
