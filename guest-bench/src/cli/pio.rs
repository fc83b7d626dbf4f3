//! `kvm-bench pio`.

use clap::Args;

use super::Spec;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Read this port instead of the usual ones, such as 0x3f8; may be repeated. Reading changes some devices
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Vec<u64>,
    /// Bytes to read at once: 1, 2 or 4
    #[arg(long, value_name = "N", default_value = "1", value_parser = size)]
    size: u64,
    /// Write too: to 0x4d0 what it holds, to 0x1234 where nobody listens
    #[arg(long, conflicts_with = "port")]
    write: bool,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let sized = |spec: Spec| if self.size == 1 { spec } else { spec.with("size", self.size) };
        if !self.port.is_empty() {
            let port = |port: &u64| sized(Spec::new("pio:port").with("port", format!("{port:#x}")));
            return self.port.iter().map(port).collect();
        }
        // Of the others the width is their device's.
        let has_width = |spec: &Spec| !matches!(spec.op.as_str(), "pio:pit" | "pio:keyboard" | "pio:pmtimer");
        let mut specs: Vec<_> = super::usual("pio")
            .into_iter()
            .map(|spec| if has_width(&spec) { sized(spec) } else { spec })
            .collect();
        if self.write {
            specs.extend(["pio:kernel-out", "pio:user-out"].map(Spec::new));
        }
        specs
    }
}

/// A port's number.
fn port(text: &str) -> Result<u64, String> {
    super::run::number(text)
        .ok()
        .filter(|port| *port <= 0xffff)
        .ok_or_else(|| "give a port up to 0xffff".to_owned())
}

/// Ports have no more than 4 bytes at once.
fn size(text: &str) -> Result<u64, String> {
    super::run::size(text).ok().filter(|size| *size <= 4).ok_or_else(|| "give 1, 2 or 4".to_owned())
}
