//! `kvm-bench mmio`.

use clap::Args;

use super::Spec;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Read this physical address instead of the usual ones, such as 0xfed000f0; may be repeated. Reading changes some
    /// devices
    #[arg(long, value_name = "ADDRESS", value_parser = super::run::number)]
    addr: Vec<u64>,
    /// Read a BAR of this PCI device instead, such as 0000:00:02.0
    #[arg(long, value_name = "DEVICE", requires = "bar", conflicts_with = "addr")]
    pci: Option<String>,
    /// Which one, 0 to 5
    #[arg(long, value_name = "N", requires = "pci", value_parser = clap::value_parser!(u64).range(0..=5))]
    bar: Option<u64>,
    /// Where in it, bytes
    #[arg(long, value_name = "BYTES", requires = "pci", value_parser = super::run::number)]
    offset: Option<u64>,
    /// Bytes to read at once: 1, 2, 4 or 8
    #[arg(long, value_name = "N", default_value = "4", value_parser = super::run::size)]
    size: u64,
}

impl Options {
    pub(super) fn specs(&self) -> Vec<Spec> {
        let sized = |spec: Spec| if self.size == 4 { spec } else { spec.with("size", self.size) };
        if let Some(device) = &self.pci {
            let mut spec = Spec::new("mmio:addr").with("pci", device.as_str());
            for (name, value) in [("bar", self.bar), ("offset", self.offset)] {
                if let Some(value) = value {
                    spec = spec.with(name, format!("{value:#x}"));
                }
            }
            return vec![sized(spec)];
        }
        if self.addr.is_empty() {
            return super::usual("mmio");
        }
        let read = |address: &u64| sized(Spec::new("mmio:addr").with("addr", format!("{address:#x}")));
        self.addr.iter().map(read).collect()
    }
}
