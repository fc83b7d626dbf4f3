//! One module per noun: reads what the programs recorded and turns it into the model's rows.

pub mod exits;
pub mod registry;
