//! Record batches that were fetched, and their records: `streams.engine.records.Record`, each a few places in a buffer
//! that all records of its batch share. Python has them as sequences, and an object only of a record that it looks at.
//!
//! `Fetched` stands where aiokafka has its `MemoryRecords`, `RecordBatch` where it has its `DefaultRecordBatch`
//! (`aiokafka/record/_protocols.py`).

use std::cell::RefCell;
use std::io::Read;
use std::ops::{Deref, Range};
use std::sync::Arc;

use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PySlice, PyType};

use crate::sequence::place_of;
use crate::wire::{self, Header, Parsed, BEFORE_LENGTH_BYTES, HEADER_BYTES, MAGIC_AT};

/// The least that may follow the length of a batch: what a record of the oldest format has.
const LENGTH_MIN: i32 = 14;

/// Most that is made room for because a frame says so; beyond it room grows with what comes.
const CONTENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn corrupt(py: Python<'_>, what: impl Into<String>) -> PyErr {
    static CORRUPT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CORRUPT.import(py, "aiokafka.errors", "CorruptRecordException") {
        Ok(class) => PyErr::from_type(class.clone(), what.into()),
        Err(error) => error,
    }
}

/// What the spans of a batch's records are places of.
enum Buffer {
    /// The bytes of the fetch, of which the batch is a part.
    Fetched(PyBackedBytes),
    Decompressed(Vec<u8>),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Fetched(bytes) => bytes,
            Self::Decompressed(bytes) => bytes,
        }
    }
}

/// The records of one batch, whose places are in a buffer that they share.
pub struct Decoded {
    buffer: Buffer,
    parsed: Vec<Parsed>,
    has_log_append_time: bool,
}

impl Decoded {
    pub fn offset(&self, place: usize) -> i64 {
        self.parsed[place].offset
    }

    /// Kafka's time, in milliseconds since 1970-01-01 UTC.
    pub fn time(&self, place: usize) -> i64 {
        self.parsed[place].time
    }

    pub fn key(&self, place: usize) -> Option<&[u8]> {
        self.parsed[place].key.of(&self.buffer)
    }

    pub fn value(&self, place: usize) -> Option<&[u8]> {
        self.parsed[place].value.of(&self.buffer)
    }

    pub fn headers(&self, place: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        wire::headers(self.encoded_headers(place))
    }

    fn encoded_headers(&self, place: usize) -> &[u8] {
        self.parsed[place].headers.of(&self.buffer).unwrap_or_default()
    }
}

/// One record. What is decoded of its batch lives as long as any record of it.
#[pyclass(frozen, module = "tidemark_native")]
pub struct Record {
    batch: Arc<Decoded>,
    place: usize,
}

#[pymethods]
impl Record {
    #[getter]
    fn offset(&self) -> i64 {
        self.batch.offset(self.place)
    }

    #[getter]
    fn timestamp(&self) -> i64 {
        self.batch.time(self.place)
    }

    /// 1 where the broker gave the time, 0 where the producer did.
    #[getter]
    fn timestamp_type(&self) -> u8 {
        u8::from(self.batch.has_log_append_time)
    }

    /// None: the format has a checksum a batch.
    #[getter]
    fn checksum(&self) -> Option<u32> {
        None
    }

    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.batch.key(self.place).map(|key| PyBytes::new(py, key))
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.batch.value(self.place).map(|value| PyBytes::new(py, value))
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        header_list(py, self.batch.encoded_headers(self.place))
    }
}

/// Records in their order, of one batch or of several: a sequence of `Record`, which are made when they are asked for.
#[pyclass(frozen, sequence, module = "tidemark_native")]
pub struct Records {
    /// Each with the places that are meant of it.
    runs: Vec<(Arc<Decoded>, Range<usize>)>,
    count: usize,
}

impl Records {
    fn of(runs: Vec<(Arc<Decoded>, Range<usize>)>) -> Self {
        let count = runs.iter().map(|(_, places)| places.len()).sum();
        Self { runs, count }
    }

    /// Batch and place of each.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Decoded>, usize)> {
        self.runs.iter().flat_map(|(batch, places)| places.clone().map(move |place| (batch, place)))
    }

    fn get(&self, mut at: usize) -> Record {
        for (batch, places) in &self.runs {
            if at < places.len() {
                return Record { batch: batch.clone(), place: places.start + at };
            }
            at -= places.len();
        }
        unreachable!("as many as are counted")
    }

    fn part(&self, begin: usize, end: usize) -> Self {
        let mut runs = Vec::new();
        let mut passed = 0;
        for (batch, places) in &self.runs {
            let within = |at: usize| places.start + at.clamp(passed, passed + places.len()) - passed;
            let part = within(begin)..within(end);
            if !part.is_empty() {
                runs.push((batch.clone(), part));
            }
            passed += places.len();
        }
        Self::of(runs)
    }
}

#[pymethods]
impl Records {
    fn __len__(&self) -> usize {
        self.count
    }

    fn __getitem__<'py>(&self, py: Python<'py>, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = at.cast::<PySlice>() {
            let places = slice.indices(self.count as isize)?;
            if places.step != 1 {
                return Err(PyValueError::new_err("expected a slice of records that follow each other"));
            }
            let (begin, end) = (places.start as usize, places.start as usize + places.slicelength);
            return Ok(Bound::new(py, self.part(begin, end))?.into_any());
        }
        Ok(Bound::new(py, self.get(place_of(at, self.count)?))?.into_any())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let records = self.iter().map(|(batch, place)| Bound::new(py, Record { batch: batch.clone(), place }));
        Ok(PyList::new(py, records.collect::<PyResult<Vec<_>>>()?)?.try_iter()?.into_any())
    }

    /// These, and others behind them.
    fn __add__(&self, others: PyRef<'_, Self>) -> Self {
        Self::of(self.runs.iter().chain(&others.runs).cloned().collect())
    }
}

/// Headers that were checked, as Python has them.
pub fn header_list<'py>(py: Python<'py>, checked: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in wire::headers(checked) {
        list.append((name, value.map(|value| PyBytes::new(py, value))))?;
    }
    Ok(list)
}

/// The bytes that a fetch brought of one partition: whole batches, and perhaps the beginning of one more.
#[pyclass(module = "tidemark_native")]
pub struct Fetched {
    bytes: Py<PyBytes>,
    at: usize,
}

#[pymethods]
impl Fetched {
    #[new]
    fn new(bytes: Bound<'_, PyBytes>) -> Self {
        Self { bytes: bytes.unbind(), at: 0 }
    }

    fn size_in_bytes(&self, py: Python<'_>) -> usize {
        self.bytes.as_bytes(py).len()
    }

    fn has_next(&self, py: Python<'_>) -> bool {
        self.next_end(py).is_some()
    }

    /// The next whole batch; None where there is none.
    fn next_batch<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((length, end)) = self.next_end(py) else {
            return Ok(None);
        };
        if length < LENGTH_MIN {
            return Err(corrupt(py, format!("expected a record of {LENGTH_MIN} bytes and more, came {length}")));
        }
        let begin = std::mem::replace(&mut self.at, end);
        let bytes = &self.bytes.as_bytes(py)[begin..end];
        if bytes[MAGIC_AT] < 2 {
            // Messages as they were before Kafka 0.11, which brokers may still keep.
            static LEGACY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            let legacy = LEGACY.import(py, "aiokafka.record.memory_records", "MemoryRecords")?;
            return legacy.call1((PyBytes::new(py, bytes),))?.call_method0("next_batch").map(Some);
        }
        let batch = RecordBatch {
            header: Header::read(bytes).map_err(|what| corrupt(py, what))?,
            bytes: self.bytes.clone_ref(py),
            begin,
            end,
            records: None,
            next: 0,
        };
        Ok(Some(Bound::new(py, batch)?.into_any()))
    }
}

impl Fetched {
    /// Length of the next batch and the place behind it.
    fn next_end(&self, py: Python<'_>) -> Option<(i32, usize)> {
        let bytes = self.bytes.as_bytes(py);
        let length = wire::batch_length(bytes, self.at)?;
        let end = (self.at + BEFORE_LENGTH_BYTES).checked_add_signed(length as isize)?;
        (end <= bytes.len()).then_some((length, end))
    }
}

/// One batch of a fetch.
#[pyclass(module = "tidemark_native")]
pub struct RecordBatch {
    header: Header,
    bytes: Py<PyBytes>,
    begin: usize,
    end: usize,
    /// None until they are asked for.
    records: Option<Arc<Decoded>>,
    /// Which of the records is next, for a caller that takes them one by one.
    next: usize,
}

impl RecordBatch {
    fn decoded(&mut self, py: Python<'_>) -> PyResult<Arc<Decoded>> {
        if let Some(records) = &self.records {
            return Ok(records.clone());
        }
        let bytes = self.bytes.bind(py);
        let (buffer, at) = match self.header.attributes & wire::CODEC_MASK {
            // A batch's own bytes, as if nothing came behind it.
            wire::CODEC_NONE => (Buffer::Fetched(bytes.clone().into()), self.begin + HEADER_BYTES),
            wire::CODEC_ZSTD => {
                let compressed = &bytes.as_bytes()[self.begin + HEADER_BYTES..self.end];
                let decompressed = py.detach(|| decompress(compressed));
                (Buffer::Decompressed(decompressed.map_err(|error| corrupt(py, error.to_string()))?), 0)
            }
            codec => {
                let compressed = PyBytes::new(py, &bytes.as_bytes()[self.begin + HEADER_BYTES..self.end]);
                (Buffer::Fetched(decompress_otherwise(py, codec, compressed)?), 0)
            }
        };
        let whole: &[u8] = match &buffer {
            Buffer::Fetched(bytes) if at != 0 => &bytes[..self.end],
            other => other,
        };
        let parsed = wire::records(&self.header, whole, at).map_err(|what| corrupt(py, what))?;
        let has_log_append_time = self.header.attributes & wire::LOG_APPEND_TIME != 0;
        let records = Arc::new(Decoded { buffer, parsed, has_log_append_time });
        self.records = Some(records.clone());
        Ok(records)
    }
}

#[pymethods]
impl RecordBatch {
    #[getter]
    fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    #[getter]
    fn next_offset(&self) -> i64 {
        self.header.base_offset + i64::from(self.header.last_offset_delta) + 1
    }

    #[getter]
    fn producer_id(&self) -> i64 {
        self.header.producer_id
    }

    #[getter]
    fn is_transactional(&self) -> bool {
        self.header.attributes & wire::TRANSACTIONAL != 0
    }

    #[getter]
    fn is_control_batch(&self) -> bool {
        self.header.attributes & wire::CONTROL != 0
    }

    fn validate_crc(&self, py: Python<'_>) -> bool {
        let covered = &self.bytes.as_bytes(py)[self.begin + wire::ATTRIBUTES_AT..self.end];
        crc32c::crc32c(covered) == self.header.crc
    }

    /// All of them.
    fn records(&mut self, py: Python<'_>) -> PyResult<Records> {
        let records = self.decoded(py)?;
        let places = 0..records.parsed.len();
        Ok(Records::of(vec![(records, places)]))
    }

    fn __iter__<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.records(py)?.__iter__(py)
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Record> {
        let batch = self.decoded(py)?;
        if self.next >= batch.parsed.len() {
            return Err(PyStopIteration::new_err(()));
        }
        self.next += 1;
        Ok(Record { batch, place: self.next - 1 })
    }
}

fn decompress(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let told = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten();
    let is_whole = zstd::zstd_safe::find_frame_compressed_size(compressed).is_ok_and(|size| size == compressed.len());
    match told {
        Some(size) if is_whole && size <= CONTENT_BYTES_MAX => DECOMPRESSOR.with_borrow_mut(|kept| {
            if kept.is_none() {
                *kept = Some(zstd::bulk::Decompressor::new()?);
            }
            kept.as_mut().expect("made above").decompress(compressed, size as usize)
        }),
        // Java's producers stream, and tell no size; several frames are one behind another.
        _ => {
            let mut decompressed = Vec::with_capacity(compressed.len() * 8);
            zstd::stream::read::Decoder::with_buffer(compressed)?.read_to_end(&mut decompressed)?;
            Ok(decompressed)
        }
    }
}

/// What other producers of a source topic may compress by, with aiokafka's own codecs.
fn decompress_otherwise(py: Python<'_>, codec: i16, compressed: Bound<'_, PyBytes>) -> PyResult<PyBackedBytes> {
    let name = match codec {
        1 => "gzip_decode",
        2 => "snappy_decode",
        3 => "lz4_decode",
        other => return Err(corrupt(py, format!("expected a codec of Kafka, came {other}"))),
    };
    let decompressed = py.import("aiokafka.codec")?.getattr(name)?.call1((compressed,))?;
    Ok(decompressed.extract::<PyBackedBytes>()?)
}
