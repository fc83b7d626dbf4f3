//! A batch of exits as bytes, and back.
//!
//! A batch says all that is needed to read it; none depends on an earlier one. Numbers are varints (LEB128: seven bits a byte,
//! the lowest first), differences that may be negative are zigzag-coded before (0, -1, 1, -2, ...). In order:
//!
//! 1. the version, a byte;
//! 2. when the batch began and ended (a difference), monotonic ns, and ended on the wall clock, ns since 1970;
//! 3. reasons, after their number: isa, code;
//! 4. VMs, after their number: serial number, pid, name after its length;
//! 5. vCPUs, after their number: slot, time, index of the VM, id plus 1 or 0, thread, exits lost, and the number of events with
//!    three columns for them: all indices of reasons, all times in the guest before the exit, all durations.
//!
//! Columns rather than rows, because that compresses better. The time before the first event is counted from the beginning
//! of the batch; it is negative if the exit began earlier.

use std::time::{Duration, SystemTime};

use crate::{
    drilldown::exits::rows::Code,
    model::{EventBatch, EventVcpu, EventVm, ExitEvent, VcpuId},
};

/// The version that is written.
const VERSION: u8 = 1;

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// A later kvm-utils wrote it.
    #[error(
        "the exits of this recording are in a form (version {0}) that this kvm-utils does not know; use a newer one"
    )]
    Version(u8),
    /// It ends too early, or says what cannot be.
    #[error("the exits of this recording are damaged: {0}; record them again")]
    Damaged(&'static str),
}

/// A batch as bytes.
#[must_use]
pub fn encode(batch: &EventBatch) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(64 + 6 * batch.told() as usize));
    out.0.push(VERSION);
    out.number(batch.began_ns);
    out.number(batch.ended_ns.wrapping_sub(batch.began_ns));
    out.signed(wall_ns(batch.ended));
    out.length(batch.reasons.len());
    for reason in &batch.reasons {
        out.number(u64::from(reason.isa));
        out.number(reason.code);
    }
    out.length(batch.vms.len());
    for vm in &batch.vms {
        out.number(vm.serial);
        out.number(u64::from(vm.pid));
        out.length(vm.name.len());
        out.0.extend_from_slice(vm.name.as_bytes());
    }
    out.length(batch.vcpus.len());
    for vcpu in &batch.vcpus {
        out.id(vcpu.id);
        out.length(vcpu.vm);
        out.number(vcpu.vcpu.map_or(0, |id| u64::from(id) + 1));
        out.number(u64::from(vcpu.tid));
        out.number(vcpu.lost);
        out.length(vcpu.events.len());
        for event in &vcpu.events {
            out.number(u64::from(event.reason));
        }
        let mut before = batch.began_ns;
        for event in &vcpu.events {
            out.signed(event.began_ns.wrapping_sub(before).cast_signed());
            before = event.began_ns.wrapping_add(event.took_ns);
        }
        for event in &vcpu.events {
            out.number(event.took_ns);
        }
    }
    out.0
}

/// The batch that [`encode`] made these bytes of.
///
/// # Errors
///
/// See [`EventsError`].
pub fn decode(bytes: &[u8]) -> Result<EventBatch, EventsError> {
    let (version, rest) = bytes.split_first().ok_or(EventsError::Damaged("there is nothing"))?;
    if *version != VERSION {
        return Err(EventsError::Version(*version));
    }
    let mut input = Reader(rest);
    let began_ns = input.number()?;
    let ended_ns = began_ns.wrapping_add(input.number()?);
    let ended = wall_time(input.signed()?)?;
    let mut batch = EventBatch::new(began_ns, ended_ns, ended);
    for _ in 0..input.length(2)? {
        let code = Code { isa: input.small()?, code: input.number()? };
        batch.reasons.push(code.event_reason());
    }
    for _ in 0..input.length(3)? {
        let (serial, pid) = (input.number()?, input.small()?);
        batch.vms.push(EventVm { serial, pid, name: input.text()? });
    }
    for _ in 0..input.length(7)? {
        let vcpu = input.vcpu(&batch)?;
        batch.vcpus.push(vcpu);
    }
    if input.0.is_empty() { Ok(batch) } else { Err(EventsError::Damaged("there is more than it says")) }
}

/// Nanoseconds since 1970; times that do not fit are as far as can be.
fn wall_ns(time: SystemTime) -> i64 {
    let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(|before| -ns(before.duration()), ns)
}

fn wall_time(ns: i64) -> Result<SystemTime, EventsError> {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if ns < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.ok_or(EventsError::Damaged("an impossible date"))
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    fn id(&mut self, id: VcpuId) {
        self.number(u64::from(id.slot));
        self.number(id.since_ns);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, EventsError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(EventsError::Damaged("it ends early"))?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(EventsError::Damaged("a number has more than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, EventsError> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn small(&mut self) -> Result<u32, EventsError> {
        u32::try_from(self.number()?).map_err(|_| EventsError::Damaged("a number has more than 32 bits"))
    }

    /// A number of things, each of which takes at least `least` bytes: so nothing is allocated for what cannot be there.
    fn length(&mut self, least: usize) -> Result<usize, EventsError> {
        let length = self.number()?;
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() / least => Ok(length),
            _ => Err(EventsError::Damaged("it ends early")),
        }
    }

    fn text(&mut self) -> Result<String, EventsError> {
        let length = self.length(1)?;
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| EventsError::Damaged("a name is no text"))
    }

    fn id(&mut self) -> Result<VcpuId, EventsError> {
        Ok(VcpuId { slot: self.small()?, since_ns: self.number()? })
    }

    fn vcpu(&mut self, batch: &EventBatch) -> Result<EventVcpu, EventsError> {
        let id = self.id()?;
        let vm = usize::try_from(self.number()?).ok().filter(|vm| *vm < batch.vms.len());
        let vm = vm.ok_or(EventsError::Damaged("a vCPU has no VM"))?;
        let vcpu = match self.number()? {
            0 => None,
            id => Some(u32::try_from(id - 1).map_err(|_| EventsError::Damaged("an impossible vCPU id"))?),
        };
        let (tid, lost) = (self.small()?, self.number()?);
        let count = self.length(3)?;
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            let reason = self.small()?;
            if reason as usize >= batch.reasons.len() {
                return Err(EventsError::Damaged("an exit has no reason"));
            }
            events.push(ExitEvent { began_ns: 0, took_ns: 0, reason });
        }
        // The gaps first, for the time being in place of the beginnings.
        for event in &mut events {
            event.began_ns = self.signed()?.cast_unsigned();
        }
        let mut before = batch.began_ns;
        for event in &mut events {
            event.took_ns = self.number()?;
            event.began_ns = before.wrapping_add(event.began_ns);
            before = event.began_ns.wrapping_add(event.took_ns);
        }
        Ok(EventVcpu { id, vm, vcpu, tid, lost, events })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn id() -> impl Strategy<Value = VcpuId> {
        (any::<u32>(), any::<u64>()).prop_map(|(slot, since_ns)| VcpuId { slot, since_ns })
    }

    /// Any batch at all, also one that no kernel would make.
    fn batch() -> impl Strategy<Value = EventBatch> {
        let reasons = vec((any::<u32>(), any::<u64>()), 1..5);
        let vms = vec((any::<u64>(), any::<u32>(), ".{0,12}"), 1..4);
        (any::<(u64, u64, i64)>(), reasons, vms).prop_flat_map(
            |((began_ns, ended_ns, wall), reasons, vms)| {
                let last = reasons.len() as u32;
                let event = (any::<u64>(), any::<u64>(), 0..last)
                    .prop_map(|(began_ns, took_ns, reason)| ExitEvent { began_ns, took_ns, reason });
                let vcpu = (id(), 0..vms.len(), any::<Option<u32>>(), any::<(u32, u64)>(), vec(event, 0..20))
                    .prop_map(|(id, vm, vcpu, (tid, lost), events)| EventVcpu {
                        id,
                        vm,
                        vcpu,
                        tid,
                        lost,
                        events,
                    });
                vec(vcpu, 0..4).prop_map(move |vcpus| {
                    let code = |(isa, code): &(u32, u64)| Code { isa: *isa, code: *code }.event_reason();
                    let vm = |(serial, pid, name): &(u64, u32, String)| EventVm {
                        serial: *serial,
                        pid: *pid,
                        name: name.clone(),
                    };
                    EventBatch {
                        began_ns,
                        ended_ns,
                        ended: wall_time(wall).unwrap(),
                        reasons: reasons.iter().map(code).collect(),
                        vms: vms.iter().map(vm).collect(),
                        vcpus,
                    }
                })
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(batch in batch()) {
            prop_assert_eq!(decode(&encode(&batch)).unwrap(), batch);
        }

        #[test]
        fn a_batch_that_ends_early_is_an_error(batch in batch(), part in 0.0..1.0) {
            let bytes = encode(&batch);
            let cut = (bytes.len() as f64 * part) as usize;
            prop_assert!(decode(&bytes[..cut]).is_err());
        }

        #[test]
        fn a_damaged_batch_is_a_batch_or_an_error(batch in batch(), at: prop::sample::Index, byte: u8) {
            let mut bytes = encode(&batch);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes);
        }

        #[test]
        fn garbage_is_a_batch_or_an_error(garbage in vec(any::<u8>(), 0..200)) {
            let _ = decode(&garbage);
            let _ = decode(&[&[VERSION], garbage.as_slice()].concat());
        }
    }

    /// As a guest makes them: a microsecond or ten in the guest, some microseconds outside.
    #[test]
    fn an_exit_takes_a_few_bytes() {
        let mut batch = EventBatch::new(1_000_000_000_000, 1_001_000_000_000, SystemTime::UNIX_EPOCH);
        batch.reasons = [0x78, 0x72].map(|code| Code { isa: 2, code }.event_reason()).to_vec();
        batch.vms = vec![EventVm { serial: 0, pid: 4711, name: "web-1".to_owned() }];
        let (mut at, mut events) = (batch.began_ns, Vec::new());
        for i in 0..10_000 {
            at += 700 + i * 7919 % 9000;
            let took_ns = 900 + i * 104_729 % 6000;
            events.push(ExitEvent { began_ns: at, took_ns, reason: (i % 2) as u32 });
            at += took_ns;
        }
        let id = VcpuId::default();
        batch.vcpus = vec![EventVcpu { id, vm: 0, vcpu: Some(0), tid: 4713, lost: 3, events }];
        let bytes = encode(&batch);
        assert!(bytes.len() < 55_000, "{} bytes for 10,000 exits", bytes.len());
        assert_eq!(decode(&bytes).unwrap(), batch);
    }

    #[test]
    fn a_later_version_is_named() {
        let error = decode(&[9, 1, 2, 3]).unwrap_err();
        assert_eq!(error, EventsError::Version(9));
        assert!(error.to_string().contains("newer"));
    }
}
