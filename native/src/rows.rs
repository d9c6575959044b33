//! Rows on their way to Postgres: arrays of a composite type, as its `array_recv` and `record_recv` read them.
//!
//! What asyncpg's codec of such an array takes is taken, and what that refuses is refused by the same error.

use std::ops::Range;
use std::sync::Arc;

use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PySlice, PyString, PyTuple};

use crate::sequence::place_of;

/// The OIDs of built-in types are the same everywhere.
const BOOLEAN: u32 = 16;
pub const BIGINT: u32 = 20;
pub const TEXT: u32 = 25;

const NULL: i32 = -1;

/// What is before the elements of an array of one dimension.
const ARRAY_HEADER_BYTES: usize = 20;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Boolean,
    Bigint,
    Text,
}

/// OID and kind of each field of a composite type.
#[derive(PartialEq)]
struct Fields(Vec<(u32, Kind)>);

impl Fields {
    /// `oids` are those of the types of its fields: text, bigint or boolean.
    fn of(oids: &[u32]) -> PyResult<Self> {
        let fields = oids.iter().map(|oid| match *oid {
            BOOLEAN => Ok((BOOLEAN, Kind::Boolean)),
            BIGINT => Ok((BIGINT, Kind::Bigint)),
            TEXT => Ok((TEXT, Kind::Text)),
            _ => Err(PyValueError::new_err(format!("expected the OID of text, bigint or boolean; got {oid}"))),
        });
        fields.collect::<PyResult<_>>().map(Self)
    }

    fn put_row(&self, to: &mut Vec<u8>, row: &Bound<'_, PyTuple>) -> PyResult<Range<usize>> {
        let mut encoded = RowWriter::begin(to);
        for (place, value) in row.iter_borrowed().enumerate() {
            let (oid, kind) = *self.0.get(place).ok_or_else(|| PyIndexError::new_err("tuple index out of range"))?;
            if value.is_none() {
                encoded.null(oid);
                continue;
            }
            match kind {
                Kind::Text => {
                    let text = value.cast::<PyString>().map_err(|_| expected("str", &value))?;
                    encoded.text(Some(text.to_str()?))?;
                }
                Kind::Bigint => encoded.bigint(bigint(&value)?),
                Kind::Boolean => {
                    let value = value.cast::<PyBool>().map_err(|_| {
                        PyTypeError::new_err(format!("a boolean is required (got type {})", type_name(&value)))
                    })?;
                    encoded.boolean(value.is_true());
                }
            }
        }
        encoded.end()
    }
}

/// Encodes arrays of one composite type.
#[pyclass(module = "tidemark_native", frozen)]
pub struct RowArray {
    oid: u32,
    fields: Fields,
}

#[pymethods]
impl RowArray {
    /// `oid` is that of the composite type, `fields` those of the types of its fields: text, bigint or boolean.
    #[new]
    fn new(oid: u32, fields: Vec<u32>) -> PyResult<Self> {
        Ok(Self { oid, fields: Fields::of(&fields)? })
    }

    /// The array of these rows: tuples in a list, or `EncodedRows`.
    fn __call__<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        if let Ok(encoded) = rows.cast::<EncodedRows>() {
            let encoded = encoded.borrow();
            if encoded.fields != self.fields {
                return Err(PyValueError::new_err("expected rows of this type, got encoded ones of another"));
            }
            let mut header = Vec::with_capacity(ARRAY_HEADER_BYTES);
            self.put_header(&mut header, encoded.rows.len())?;
            let bytes = header.len() + encoded.encoded().map(<[u8]>::len).sum::<usize>();
            size(bytes)?;
            return PyBytes::new_with(py, bytes, |mut to| {
                for part in std::iter::once(header.as_slice()).chain(encoded.encoded()) {
                    let (place, behind) = to.split_at_mut(part.len());
                    place.copy_from_slice(part);
                    to = behind;
                }
                Ok(())
            });
        }
        let rows = rows.cast::<PyList>()?;
        // A row of the most frequent types takes a few hundred bytes.
        let mut array = Vec::with_capacity(ARRAY_HEADER_BYTES + 256 * rows.len());
        self.put_header(&mut array, rows.len())?;
        for (place, row) in rows.iter().enumerate() {
            if let Err(error) = self.put_element(&mut array, &row) {
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

impl RowArray {
    fn put_element(&self, to: &mut Vec<u8>, row: &Bound<'_, PyAny>) -> PyResult<()> {
        if row.is_none() {
            put_i32(to, NULL);
            return Ok(());
        }
        let row = row.cast::<PyTuple>().map_err(|_| expected("a tuple", row))?;
        self.fields.put_row(to, row).map(drop)
    }

    fn put_header(&self, to: &mut Vec<u8>, count: usize) -> PyResult<()> {
        put_i32(to, 1); // dimensions
        put_i32(to, 0); // flags
        to.extend_from_slice(&self.oid.to_be_bytes());
        put_i32(to, size(count)?);
        put_i32(to, 1); // lower bound
        Ok(())
    }
}

/// Rows of one class of named tuples, encoded as they come: a sequence of these, made when they are asked for.
#[pyclass(module = "tidemark_native", sequence)]
pub struct EncodedRows {
    class: Py<PyAny>,
    fields: Fields,
    /// Buffers with rows.
    buffers: Vec<Arc<Vec<u8>>>,
    /// Each row's buffer and place in it.
    rows: Vec<(usize, Range<usize>)>,
}

#[pymethods]
impl EncodedRows {
    /// `class` is that of the named tuples, `fields` are as those of `RowArray`.
    #[new]
    pub fn new(class: Py<PyAny>, fields: Vec<u32>) -> PyResult<Self> {
        Ok(Self { class, fields: Fields::of(&fields)?, buffers: Vec::new(), rows: Vec::new() })
    }

    pub fn append(&mut self, row: &Bound<'_, PyTuple>) -> PyResult<()> {
        if row.len() != self.fields.0.len() {
            return Err(PyTypeError::new_err(format!("expected {} values, got {}", self.fields.0.len(), row.len())));
        }
        let mut encoded = Vec::new();
        let places = self.fields.put_row(&mut encoded, row)?;
        self.push(&Arc::new(encoded), places);
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = at.cast::<PySlice>() {
            let places = slice.indices(self.rows.len() as isize)?;
            let rows =
                (0..places.slicelength).map(|nth| self.row(py, (places.start + nth as isize * places.step) as usize));
            return Ok(PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)?.into_any());
        }
        self.row(py, place_of(at, self.rows.len())?)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows = (0..self.rows.len()).map(|place| self.row(py, place)).collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, rows)?.try_iter()?.into_any())
    }

    /// What stands in a column of bigint, in every row.
    fn column(&self, name: &Bound<'_, PyString>) -> PyResult<Vec<Option<i64>>> {
        let names = self.class.bind(name.py()).getattr(intern!(name.py(), "_fields"))?;
        let column: usize = names.call_method1(intern!(name.py(), "index"), (name,))?.extract()?;
        let values = self.encoded().map(|row| match self.values(row).nth(column) {
            Some((Kind::Bigint, value)) => value.map(|value| read_bigint(value)).transpose(),
            _ => Err(PyTypeError::new_err(format!("expected the name of a column of bigint, got {name}"))),
        });
        values.collect()
    }
}

impl EncodedRows {
    /// Append a row that a `RowWriter` has encoded into this buffer.
    pub fn push(&mut self, buffer: &Arc<Vec<u8>>, places: Range<usize>) {
        if !self.buffers.last().is_some_and(|last| Arc::ptr_eq(last, buffer)) {
            self.buffers.push(buffer.clone());
        }
        self.rows.push((self.buffers.len() - 1, places));
    }

    fn encoded(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.iter().map(|(buffer, places)| &self.buffers[*buffer][places.clone()])
    }

    /// Kind and bytes of each of a row's values, None where it is null.
    fn values<'a>(&'a self, row: &'a [u8]) -> impl Iterator<Item = (Kind, Option<&'a [u8]>)> {
        // Behind the row's size, and the number of its fields.
        let mut rest = &row[8..];
        self.fields.0.iter().map(move |(_, kind)| {
            let size = i32::from_be_bytes(rest[4..8].try_into().expect("four bytes"));
            let (value, behind) = rest[8..].split_at(usize::try_from(size).unwrap_or_default());
            rest = behind;
            (*kind, (size != NULL).then_some(value))
        })
    }

    fn row<'py>(&self, py: Python<'py>, place: usize) -> PyResult<Bound<'py, PyAny>> {
        let (buffer, places) = &self.rows[place];
        let values = self.values(&self.buffers[*buffer][places.clone()]).map(|(kind, value)| {
            let Some(value) = value else { return Ok(py.None().into_bound(py)) };
            match kind {
                Kind::Text => Ok(PyString::new(py, std::str::from_utf8(value).expect("encoded from text")).into_any()),
                Kind::Bigint => Ok(read_bigint(value)?.into_pyobject(py)?.into_any()),
                Kind::Boolean => Ok(PyBool::new(py, value == [1]).to_owned().into_any()),
            }
        });
        let values = PyTuple::new(py, values.collect::<PyResult<Vec<_>>>()?)?;
        self.class.bind(py).call1(values)
    }
}

fn read_bigint(value: &[u8]) -> PyResult<i64> {
    Ok(i64::from_be_bytes(value.try_into()?))
}

/// Encodes one row, value by value, as `record_recv` reads it.
pub struct RowWriter<'a> {
    to: &'a mut Vec<u8>,
    begin: usize,
    count: i32,
}

impl<'a> RowWriter<'a> {
    pub fn begin(to: &'a mut Vec<u8>) -> Self {
        let begin = begin(to);
        put_i32(to, 0);
        Self { to, begin, count: 0 }
    }

    pub fn text(&mut self, text: Option<&str>) -> PyResult<()> {
        let Some(text) = text else {
            self.null(TEXT);
            return Ok(());
        };
        self.begin_value(TEXT, size(text.len())?);
        self.to.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub fn bigint(&mut self, value: i64) {
        self.begin_value(BIGINT, 8);
        self.to.extend_from_slice(&value.to_be_bytes());
    }

    fn boolean(&mut self, value: bool) {
        self.begin_value(BOOLEAN, 1);
        self.to.push(u8::from(value));
    }

    fn null(&mut self, oid: u32) {
        self.begin_value(oid, NULL);
    }

    fn begin_value(&mut self, oid: u32, size: i32) {
        self.to.extend_from_slice(&oid.to_be_bytes());
        put_i32(self.to, size);
        self.count += 1;
    }

    /// Returns where the row is.
    pub fn end(self) -> PyResult<Range<usize>> {
        self.to[self.begin..self.begin + 4].copy_from_slice(&self.count.to_be_bytes());
        end(self.to, self.begin)?;
        Ok(self.begin - 4..self.to.len())
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
