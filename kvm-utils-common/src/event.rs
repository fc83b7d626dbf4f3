//! How the programs find the fields of a classic tracepoint's record: a descriptor per field, four in a word.

/// Bytes of a record that are read; the fields wanted must lie within.
pub const RECORD_BYTES: usize = 64;
/// Fields of an event that programs use.
pub const FIELDS: usize = 4;
/// Descriptor of a field that this kernel's record does not have; it reads as 0.
pub const ABSENT: u16 = 0;

/// The descriptor of the integer of `size` bytes (1, 2, 4 or 8) at byte `offset`; `None` if it lies too far or across the
/// words that are read.
#[must_use]
pub const fn descriptor(offset: u32, size: u32) -> Option<u16> {
    let fits = offset as usize + size as usize <= RECORD_BYTES && offset != 0;
    let aligned = matches!(size, 1 | 2 | 4 | 8) && offset.is_multiple_of(if size == 8 { 4 } else { size });
    if fits && aligned { Some((offset as u16) | ((size as u16) << 8)) } else { None }
}

/// Descriptors of up to [`FIELDS`] fields as one word.
#[must_use]
pub fn pack(fields: &[u16]) -> u64 {
    fields.iter().take(FIELDS).enumerate().fold(0, |word, (i, field)| word | u64::from(*field) << (16 * i))
}

/// Field `index` of a record, from the word that [`pack`] made.
#[inline(always)]
#[must_use]
pub fn field(record: &[u32; RECORD_BYTES / 4], descriptors: u64, index: usize) -> u64 {
    let descriptor = (descriptors >> (16 * index)) as u16;
    let (offset, size) = ((descriptor & 0xff) as usize, descriptor >> 8);
    let word = |at: usize| if at < record.len() { record[at] } else { 0 };
    let low = u64::from(word(offset / 4));
    match size {
        8 => low | (u64::from(word(offset / 4 + 1)) << 32),
        4 => low,
        2 => (low >> (8 * (offset % 4))) & 0xffff,
        1 => (low >> (8 * (offset % 4))) & 0xff,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_where_the_descriptor_says() {
        let mut record = [0_u32; RECORD_BYTES / 4];
        record[2] = 0x8765_4321;
        record[3] = 0xcafe_f00d;
        let fields = [(8, 4), (8, 8), (13, 1), (10, 2)].map(|(at, size)| descriptor(at, size).unwrap());
        let word = pack(&fields);
        let read: Vec<u64> = (0..FIELDS).map(|i| field(&record, word, i)).collect();
        assert_eq!(read, [0x8765_4321, 0xcafe_f00d_8765_4321, 0xf0, 0x8765]);
        assert_eq!(field(&record, pack(&[ABSENT]), 0), 0);
    }

    #[test]
    fn what_cannot_be_read_has_no_descriptor() {
        assert_eq!(descriptor(60, 8), None);
        assert_eq!(descriptor(9, 4), None);
        assert_eq!(descriptor(8, 3), None);
        assert_eq!(descriptor(0, 4), None);
        assert!(descriptor(56, 8).is_some());
    }
}
