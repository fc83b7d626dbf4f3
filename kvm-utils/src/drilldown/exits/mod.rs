//! exits: every VM exit, counted and timed per VM, vCPU and reason.

pub mod collect;
pub mod group;
pub mod report;
pub mod rows;
pub mod stats;
