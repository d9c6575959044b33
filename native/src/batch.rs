//! Record batches that are to be sent: encoded in one pass, finished when the sender has numbered them.
//!
//! `Batch` has what aiokafka's accumulator and sender ask of its `BatchBuilder`
//! (`aiokafka/producer/message_accumulator.py`).

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice, PyString, PyTuple};

use crate::records::header_list;
use crate::wire::{self, Header, HEADER_BYTES};

/// Level of compression: 1 takes half of the time of Kafka's and aiokafka's default, 3, and what stages send each other
/// is read once.
const ZSTD_LEVEL: i32 = 1;

/// The headers of a record that has none: their number.
const NO_HEADERS: [u8; 1] = [0];

/// Buffers that are kept for batches to come: those of a cycle of the router.
const SPARE_MAX: usize = 16;

/// That of a single large record is not kept.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    /// Grown buffers without content: growing one copies what it holds, again and again.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Records of one batch, behind the room for its header.
#[derive(Clone)]
struct Encoding {
    buffer: Vec<u8>,
    count: i32,
    first_time: i64,
    max_time: i64,
}

impl Encoding {
    fn new() -> Self {
        let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        buffer.resize(HEADER_BYTES, 0);
        Self { buffer, count: 0, first_time: 0, max_time: i64::MIN }
    }

    /// Add a record, whose headers are encoded already, unless it would make the batch as large as `bytes_max`. The
    /// first one is always taken.
    fn push(&mut self, time: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8], bytes_max: usize) -> bool {
        let first_time = if self.count == 0 { time } else { self.first_time };
        let time_delta = time.wrapping_sub(first_time);
        let offset_delta = i64::from(self.count);
        let body = 1
            + wire::varint_size(time_delta)
            + wire::varint_size(offset_delta)
            + wire::bytes_size(key)
            + wire::bytes_size(value)
            + headers.len();
        let size = wire::varint_size(body as i64) + body;
        if self.count != 0 && self.buffer.len() + size >= bytes_max {
            return false;
        }
        self.buffer.reserve(size);
        wire::put_varint(&mut self.buffer, body as i64);
        self.buffer.push(0);
        wire::put_varint(&mut self.buffer, time_delta);
        wire::put_varint(&mut self.buffer, offset_delta);
        wire::put_bytes(&mut self.buffer, key);
        wire::put_bytes(&mut self.buffer, value);
        self.buffer.extend_from_slice(headers);
        self.first_time = first_time;
        self.max_time = self.max_time.max(time);
        self.count += 1;
        true
    }

    fn header(&self) -> Header {
        Header {
            last_offset_delta: self.count - 1,
            first_time: self.first_time,
            max_time: self.max_time,
            count: self.count,
            ..Header::default()
        }
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // A thread that ends has no room for it any more.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
                spare.push(buffer);
            }
        });
    }
}

/// Records for one topic-partition, encoded as they come into as many batches as they need. As a sequence it is that of
/// `streams.engine.producer.Content`, read back from the batches.
#[pyclass(module = "tidemark_native")]
pub struct Run {
    batches: Vec<Arc<Encoding>>,
    count: usize,
    /// No batch but one of a single record is as large.
    batch_bytes_max: usize,
}

/// `streams.engine.producer.Content`.
type Content<'py> = (i64, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Bound<'py, PyAny>);

impl Run {
    /// Add a record, whose headers are encoded already.
    pub fn push(&mut self, time: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[u8]) {
        if let Some(last) = self.batches.last_mut() {
            // A batch that was given out is not changed any more, but copied.
            if Arc::make_mut(last).push(time, key, value, headers, self.batch_bytes_max) {
                self.count += 1;
                return;
            }
        }
        let mut next = Encoding::new();
        next.push(time, key, value, headers, self.batch_bytes_max);
        self.batches.push(Arc::new(next));
        self.count += 1;
    }

    fn extend(&mut self, contents: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut headers = Vec::new();
        for content in contents.try_iter()? {
            let (time, key, value, named): Content = content?.extract()?;
            encode_headers(&mut headers, &named)?;
            let (key, value) = (key.as_ref().map(|it| it.as_bytes()), value.as_ref().map(|it| it.as_bytes()));
            self.push(time, key, value, &headers);
        }
        Ok(())
    }

    fn contents<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let mut contents = Vec::with_capacity(self.count);
        let bytes = |part: Option<&[u8]>| part.map(|part| PyBytes::new(py, part));
        for batch in &self.batches {
            let buffer = &batch.buffer;
            for record in wire::records(&batch.header(), buffer, HEADER_BYTES).map_err(PyTypeError::new_err)? {
                let headers = header_list(py, record.headers.of(buffer).unwrap_or_default())?;
                let (key, value) = (bytes(record.key.of(buffer)), bytes(record.value.of(buffer)));
                contents.push((record.time, key, value, headers).into_pyobject(py)?);
            }
        }
        Ok(contents)
    }
}

fn encode_headers(encoded: &mut Vec<u8>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    encoded.clear();
    let headers = headers.cast::<PyList>()?;
    wire::put_varint(encoded, headers.len() as i64);
    for header in headers.iter() {
        let (name, value): (Bound<'_, PyString>, Option<Bound<'_, PyBytes>>) = header.extract()?;
        wire::put_bytes(encoded, Some(name.to_str()?.as_bytes()));
        wire::put_bytes(encoded, value.as_ref().map(|value| value.as_bytes()));
    }
    Ok(())
}

#[pymethods]
impl Run {
    #[new]
    #[pyo3(signature = (batch_bytes_max, contents = None))]
    fn new(batch_bytes_max: usize, contents: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut run = Self { batches: Vec::new(), count: 0, batch_bytes_max };
        if let Some(contents) = contents {
            run.extend(contents)?;
        }
        Ok(run)
    }

    /// A run of records of one time, without headers.
    #[staticmethod]
    fn of_pairs(batch_bytes_max: usize, time: i64, pairs: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut run = Self::new(batch_bytes_max, None)?;
        for pair in pairs.try_iter()? {
            let pair = pair?;
            let (key, value): (Option<&[u8]>, Option<&[u8]>) = pair.extract()?;
            run.push(time, key, value, &NO_HEADERS);
        }
        Ok(run)
    }

    fn __len__(&self) -> usize {
        self.count
    }

    fn __getitem__<'py>(&self, py: Python<'py>, at: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let contents = PyList::new(py, self.contents(py)?)?;
        let part = contents.as_any().get_item(at)?;
        if at.is_instance_of::<PySlice>() {
            return Ok(Bound::new(py, Self::new(self.batch_bytes_max, Some(&part))?)?.into_any());
        }
        Ok(part)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyList::new(py, self.contents(py)?)?.try_iter()?.into_any())
    }

    /// The batches of this run, for a sender; compressed by zstd or not at all.
    fn batches(&self, zstd: bool, transactional: bool) -> Vec<Batch> {
        let made = self.batches.iter().map(|encoding| {
            let header = Header {
                attributes: if transactional { wire::TRANSACTIONAL } else { 0 }
                    | if zstd { wire::CODEC_ZSTD } else { wire::CODEC_NONE },
                producer_id: -1,
                producer_epoch: -1,
                ..encoding.header()
            };
            Batch { header, records: Some(encoding.clone()), built: None }
        });
        made.collect()
    }
}

/// One batch on its way through aiokafka's sender.
#[pyclass(module = "tidemark_native")]
pub struct Batch {
    header: Header,
    /// None once it is built.
    records: Option<Arc<Encoding>>,
    built: Option<Py<PyBytes>>,
}

#[pymethods]
impl Batch {
    fn record_count(&self) -> i32 {
        self.header.count
    }

    /// Size in bytes: of the records as they are, or of what is sent once that is built.
    fn size(&self, py: Python<'_>) -> usize {
        match (&self.records, &self.built) {
            (_, Some(built)) => built.bind(py).len().unwrap_or_default(),
            (Some(records), None) => records.buffer.len(),
            (None, None) => 0,
        }
    }

    /// Nothing is added any more, from the beginning.
    fn close(&self) {}

    fn closed(&self) -> bool {
        true
    }

    #[pyo3(name = "_set_producer_state")]
    fn set_producer_state(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
    }

    /// The bytes to send, the same at every call.
    #[pyo3(name = "_build")]
    fn build(&mut self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        if let Some(records) = self.records.take() {
            self.built = Some(finish(py, &self.header, &records.buffer)?);
        }
        let built = self.built.as_ref().ok_or_else(|| PyTypeError::new_err("expected a batch that could be built"))?;
        Ok(built.clone_ref(py))
    }
}

fn finish(py: Python<'_>, header: &Header, buffer: &[u8]) -> PyResult<Py<PyBytes>> {
    let records = &buffer[HEADER_BYTES..];
    let compressed = match header.attributes & wire::CODEC_MASK {
        wire::CODEC_ZSTD => Some(py.detach(|| compress(records))?),
        _ => None,
    };
    let records = compressed.as_deref().unwrap_or(records);
    let batch = PyBytes::new_with(py, HEADER_BYTES + records.len(), |batch| {
        batch[HEADER_BYTES..].copy_from_slice(records);
        header.write(batch);
        Ok(())
    })?;
    Ok(batch.unbind())
}

fn compress(records: &[u8]) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Some(zstd::bulk::Compressor::new(ZSTD_LEVEL)?);
        }
        kept.as_mut().expect("made above").compress(records)
    })
}
