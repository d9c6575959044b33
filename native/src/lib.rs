//! The hot path of Tidemark, compiled. Every function says what Python beside it says too, and the same tests hold
//! both to it; what is rare or odd is left to Python.

mod call;
mod conversion;
mod cycle;
mod decoding;
mod definitions;
mod groups;
mod identify;
mod interpret;
mod names;
mod reader;
mod rules;
mod slots;
mod state;
mod timing;
mod tracks;
mod user_agent;
mod views;

#[pyo3::pymodule]
mod tidemark_native {
    #[pymodule_export]
    use crate::cycle::{Cycle, Leaves};
    #[pymodule_export]
    use crate::reader::Reader;
}
