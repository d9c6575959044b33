//! Rows on their way to Postgres: arrays of a composite type, as its `array_recv` and `record_recv` read them.
//!
//! What asyncpg's codec of such an array takes is taken, and what that refuses is refused by the same error.

use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PyString, PyTuple};

/// The OIDs of built-in types are the same everywhere.
const BOOLEAN: u32 = 16;
const BIGINT: u32 = 20;
const TEXT: u32 = 25;

const NULL: i32 = -1;

#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Bigint,
    Text,
}

/// Encodes arrays of one composite type.
#[pyclass(module = "tidemark_native", frozen)]
pub struct RowArray {
    oid: u32,
    /// OID and kind of each field.
    fields: Vec<(u32, Kind)>,
}

impl RowArray {
    fn put_row(&self, to: &mut Vec<u8>, row: &Bound<'_, PyAny>) -> PyResult<()> {
        if row.is_none() {
            put_i32(to, NULL);
            return Ok(());
        }
        let row = row.cast::<PyTuple>().map_err(|_| expected("a tuple", row))?;
        let begin = begin(to);
        put_i32(to, row.len() as i32);
        for (place, value) in row.iter_borrowed().enumerate() {
            let (oid, kind) =
                *self.fields.get(place).ok_or_else(|| PyIndexError::new_err("tuple index out of range"))?;
            to.extend_from_slice(&oid.to_be_bytes());
            if value.is_none() {
                put_i32(to, NULL);
                continue;
            }
            match kind {
                Kind::Text => {
                    let text = value.cast::<PyString>().map_err(|_| expected("str", &value))?;
                    let text = text.to_str()?;
                    put_i32(to, size(text.len())?);
                    to.extend_from_slice(text.as_bytes());
                }
                Kind::Bigint => {
                    put_i32(to, 8);
                    to.extend_from_slice(&bigint(&value)?.to_be_bytes());
                }
                Kind::Boolean => {
                    let value = value.cast::<PyBool>().map_err(|_| {
                        PyTypeError::new_err(format!("a boolean is required (got type {})", type_name(&value)))
                    })?;
                    put_i32(to, 1);
                    to.push(u8::from(value.is_true()));
                }
            }
        }
        end(to, begin)
    }
}

#[pymethods]
impl RowArray {
    /// `oid` is that of the composite type, `fields` those of the types of its fields: text, bigint or boolean.
    #[new]
    fn new(oid: u32, fields: Vec<u32>) -> PyResult<Self> {
        let kinds = fields.into_iter().map(|field| match field {
            BOOLEAN => Ok((field, Kind::Boolean)),
            BIGINT => Ok((field, Kind::Bigint)),
            TEXT => Ok((field, Kind::Text)),
            _ => Err(PyValueError::new_err(format!("expected the OID of text, bigint or boolean; got {field}"))),
        });
        Ok(Self { oid, fields: kinds.collect::<PyResult<_>>()? })
    }

    /// The array of these rows: tuples.
    fn __call__<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyBytes>> {
        // A row of the most frequent types takes a few hundred bytes.
        let mut array = Vec::with_capacity(20 + 256 * rows.len());
        put_i32(&mut array, 1); // dimensions
        put_i32(&mut array, 0); // flags
        array.extend_from_slice(&self.oid.to_be_bytes());
        put_i32(&mut array, size(rows.len())?);
        put_i32(&mut array, 1); // lower bound
        for (place, row) in rows.iter().enumerate() {
            if let Err(error) = self.put_row(&mut array, &row) {
                return Err(if error.is_instance_of::<PyTypeError>(py) {
                    PyValueError::new_err(format!("invalid array element at index {place}: {}", error.value(py)))
                } else {
                    error
                });
            }
        }
        size(array.len())?;
        Ok(PyBytes::new(py, &array))
    }
}

fn bigint(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let whole = || {
        if !value.is_exact_instance_of::<PyInt>() && value.get_type().hasattr("__int__")? {
            return value.py().get_type::<PyInt>().call1((value,))?.extract();
        }
        value.extract()
    };
    whole().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            PyOverflowError::new_err("value out of int64 range")
        } else {
            error
        }
    })
}

fn expected(what: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("expected {what}, got {}", type_name(value)))
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

fn size(bytes: usize) -> PyResult<i32> {
    i32::try_from(bytes).map_err(|_| PyValueError::new_err("string too long"))
}

fn put_i32(to: &mut Vec<u8>, value: i32) {
    to.extend_from_slice(&value.to_be_bytes());
}

/// Leave room for a size; returns where what has this size begins.
fn begin(to: &mut Vec<u8>) -> usize {
    put_i32(to, 0);
    to.len()
}

fn end(to: &mut [u8], begin: usize) -> PyResult<()> {
    let size = size(to.len() - begin)?;
    to[begin - 4..begin].copy_from_slice(&size.to_be_bytes());
    Ok(())
}
