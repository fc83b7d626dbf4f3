//! What a run is kept in.

pub mod events;
