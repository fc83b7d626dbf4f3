//! Perfetto's messages as far as they are read, from protos/perfetto/trace/ of https://github.com/google/perfetto.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct TraceProto {
    #[prost(message, repeated, tag = "1")]
    pub packet: Vec<PacketProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PacketProto {
    #[prost(message, optional, tag = "6")]
    pub clock_snapshot: Option<ClockSnapshotProto>,
    #[prost(uint64, optional, tag = "8")]
    pub timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    pub trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub track_event: Option<TrackEventProto>,
    #[prost(message, optional, tag = "12")]
    pub interned_data: Option<InternedProto>,
    #[prost(uint32, optional, tag = "13")]
    pub sequence_flags: Option<u32>,
    #[prost(message, optional, tag = "59")]
    pub trace_packet_defaults: Option<DefaultsProto>,
    #[prost(message, optional, tag = "60")]
    pub track_descriptor: Option<TrackProto>,
    #[prost(message, optional, tag = "126")]
    pub trace_attributes: Option<AttributesProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClockSnapshotProto {
    #[prost(message, repeated, tag = "1")]
    pub clocks: Vec<ClockProto>,
    #[prost(int32, optional, tag = "2")]
    pub primary_trace_clock: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClockProto {
    #[prost(uint32, optional, tag = "1")]
    pub clock_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub timestamp: Option<u64>,
    #[prost(bool, optional, tag = "3")]
    pub is_incremental: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DefaultsProto {
    #[prost(message, optional, tag = "11")]
    pub track_event_defaults: Option<EventDefaultsProto>,
    #[prost(uint32, optional, tag = "58")]
    pub timestamp_clock_id: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct EventDefaultsProto {
    #[prost(uint64, optional, tag = "11")]
    pub track_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TrackProto {
    #[prost(uint64, optional, tag = "1")]
    pub uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub process: Option<ProcessProto>,
    #[prost(message, optional, tag = "4")]
    pub thread: Option<ThreadProto>,
    #[prost(uint64, optional, tag = "5")]
    pub parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    pub counter: Option<CounterProto>,
    #[prost(int32, optional, tag = "15")]
    pub sibling_merge_behavior: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProcessProto {
    #[prost(int32, optional, tag = "1")]
    pub pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub process_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ThreadProto {
    #[prost(int32, optional, tag = "1")]
    pub pid: Option<i32>,
    #[prost(int64, optional, tag = "2")]
    pub tid: Option<i64>,
    #[prost(string, optional, tag = "5")]
    pub thread_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CounterProto {
    #[prost(int32, optional, tag = "3")]
    pub unit: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TrackEventProto {
    #[prost(uint64, repeated, packed = "false", tag = "3")]
    pub category_iids: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    pub debug_annotations: Vec<AnnotationProto>,
    #[prost(int32, optional, tag = "9")]
    pub r#type: Option<i32>,
    #[prost(uint64, optional, tag = "10")]
    pub name_iid: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    pub track_uuid: Option<u64>,
    #[prost(string, optional, tag = "23")]
    pub name: Option<String>,
    #[prost(int64, optional, tag = "30")]
    pub counter_value: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AnnotationProto {
    #[prost(uint64, optional, tag = "1")]
    pub name_iid: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub uint_value: Option<u64>,
    #[prost(string, optional, tag = "10")]
    pub name: Option<String>,
    #[prost(uint64, optional, tag = "17")]
    pub string_value_iid: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct InternedProto {
    #[prost(message, repeated, tag = "1")]
    pub event_categories: Vec<NameProto>,
    #[prost(message, repeated, tag = "2")]
    pub event_names: Vec<NameProto>,
    #[prost(message, repeated, tag = "3")]
    pub debug_annotation_names: Vec<NameProto>,
    #[prost(message, repeated, tag = "29")]
    pub debug_annotation_string_values: Vec<NameProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NameProto {
    #[prost(uint64, optional, tag = "1")]
    pub iid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AttributesProto {
    #[prost(message, repeated, tag = "1")]
    pub attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub long_value: Option<i64>,
    #[prost(string, optional, tag = "3")]
    pub string_value: Option<String>,
}
