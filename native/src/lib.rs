//! The hot path of Tidemark, compiled. Every function says what Python beside it says too, and the same tests hold
//! both to it; what is rare or odd is left to Python.

mod call;
mod cycle;
mod definitions;
mod interpret;
mod rules;
mod state;

#[pyo3::pymodule]
mod tidemark_native {
    #[pymodule_export]
    use crate::cycle::{Cycle, Leaves};
}
