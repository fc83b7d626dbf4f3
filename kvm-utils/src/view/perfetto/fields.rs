//! Numbers of the fields that are written, from Perfetto's public definitions: protos/perfetto/trace/ of
//! https://github.com/google/perfetto, in the file that each module names.

/// trace.proto
pub mod trace {
    pub const PACKET: u32 = 1;
}

/// trace_packet.proto
pub mod packet {
    pub const CLOCK_SNAPSHOT: u32 = 6;
    pub const TIMESTAMP: u32 = 8;
    pub const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
    pub const TRACK_EVENT: u32 = 11;
    pub const INTERNED_DATA: u32 = 12;
    pub const SEQUENCE_FLAGS: u32 = 13;
    pub const TRACE_PACKET_DEFAULTS: u32 = 59;
    pub const TRACK_DESCRIPTOR: u32 = 60;
    pub const TRACE_ATTRIBUTES: u32 = 126;
    /// Values of `sequence_flags`.
    pub const INCREMENTAL_STATE_CLEARED: u64 = 1;
    pub const NEEDS_INCREMENTAL_STATE: u64 = 2;
}

/// trace_packet_defaults.proto
pub mod defaults {
    pub const TRACK_EVENT_DEFAULTS: u32 = 11;
    pub const TIMESTAMP_CLOCK_ID: u32 = 58;
    /// Of `TrackEventDefaults`, track_event/track_event.proto.
    pub const TRACK_UUID: u32 = 11;
}

/// clock_snapshot.proto, and common/builtin_clock.proto for the clocks
pub mod clock {
    pub const CLOCKS: u32 = 1;
    pub const PRIMARY_TRACE_CLOCK: u32 = 2;
    /// Of `Clock`.
    pub const ID: u32 = 1;
    pub const TIMESTAMP: u32 = 2;
    pub const IS_INCREMENTAL: u32 = 3;
    pub const REALTIME: u64 = 1;
    pub const MONOTONIC: u64 = 3;
    /// The first of the numbers that each sequence may use as it likes.
    pub const OF_SEQUENCE: u64 = 64;
}

/// track_event/track_descriptor.proto, process_descriptor.proto, thread_descriptor.proto, counter_descriptor.proto
pub mod track {
    pub const UUID: u32 = 1;
    pub const NAME: u32 = 2;
    pub const PROCESS: u32 = 3;
    pub const THREAD: u32 = 4;
    pub const PARENT_UUID: u32 = 5;
    pub const COUNTER: u32 = 8;
    pub const SIBLING_MERGE_BEHAVIOR: u32 = 15;
    pub const MERGE_NONE: u64 = 2;
    pub const PROCESS_PID: u32 = 1;
    pub const PROCESS_NAME: u32 = 6;
    pub const THREAD_PID: u32 = 1;
    pub const THREAD_TID: u32 = 2;
    pub const THREAD_NAME: u32 = 5;
    pub const COUNTER_UNIT: u32 = 3;
    pub const UNIT_COUNT: u64 = 2;
}

/// track_event/track_event.proto
pub mod event {
    pub const CATEGORY_IIDS: u32 = 3;
    pub const DEBUG_ANNOTATIONS: u32 = 4;
    pub const TYPE: u32 = 9;
    pub const NAME_IID: u32 = 10;
    pub const TRACK_UUID: u32 = 11;
    pub const NAME: u32 = 23;
    pub const COUNTER_VALUE: u32 = 30;
    pub const SLICE_BEGIN: u64 = 1;
    pub const SLICE_END: u64 = 2;
    pub const INSTANT: u64 = 3;
    pub const COUNTER: u64 = 4;
}

/// track_event/debug_annotation.proto
pub mod annotation {
    pub const NAME_IID: u32 = 1;
    pub const UINT_VALUE: u32 = 3;
    pub const NAME: u32 = 10;
    pub const STRING_VALUE_IID: u32 = 17;
}

/// interned_data/interned_data.proto
pub mod interned {
    pub const EVENT_CATEGORIES: u32 = 1;
    pub const EVENT_NAMES: u32 = 2;
    pub const DEBUG_ANNOTATION_NAMES: u32 = 3;
    pub const DEBUG_ANNOTATION_STRING_VALUES: u32 = 29;
    /// Of each of them.
    pub const IID: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// common/trace_attributes.proto
pub mod attributes {
    pub const ATTRIBUTE: u32 = 1;
    pub const KEY: u32 = 1;
    pub const LONG_VALUE: u32 = 2;
    pub const STRING_VALUE: u32 = 3;
}
