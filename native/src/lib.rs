//! The hot path of Tidemark, compiled. Every function says what Python beside it says too, and the same tests hold
//! both to it; what is rare or odd is left to Python.

mod batch;
mod call;
mod conversion;
mod cycle;
mod decoding;
mod definitions;
mod engage;
mod groups;
mod identify;
mod incoming;
mod interpret;
mod leaf;
mod leaves;
mod message;
mod names;
mod reader;
mod records;
mod route;
mod rows;
mod rules;
mod sequence;
mod sink;
mod slots;
mod state;
mod timing;
mod tracks;
mod user_agent;
mod views;
mod wire;

#[pyo3::pymodule]
mod tidemark_native {
    #[pymodule_export]
    use crate::batch::{Batch, Run};
    #[pymodule_export]
    use crate::cycle::Cycle;
    #[pymodule_export]
    use crate::leaves::Leaves;
    #[pymodule_export]
    use crate::reader::Reader;
    #[pymodule_export]
    use crate::records::{Fetched, Record, RecordBatch, Records};
    #[pymodule_export]
    use crate::route::Router;
    #[pymodule_export]
    use crate::rows::{EncodedRows, RowArray};
}
