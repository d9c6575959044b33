//! Records of the leaves topic, as they come: what their headers say, and where their bytes are.
//!
//! What nobody here has sent is Python's to refuse.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::records::{Decoded, Records};

pub const ORIGIN_HEADER: &str = "tidemark-origin";
pub const KIND_HEADER: &str = "tidemark-kind";
pub const REDRIVE_HEADER: &str = "tidemark-redrive";
pub const CLAIM: &[u8] = b"claim";
pub const CONTRIBUTION: &[u8] = b"contribution";

/// A record of the leaves topic, as far as it is needed here.
pub struct Record {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub bytes: Bytes,
    pub headers: Headers,
}

/// Where key and value of a record are.
pub enum Bytes {
    /// In the buffer of its batch, where it was decoded here.
    Fetched(Arc<Decoded>, usize),
    Python {
        key: Option<Py<PyBytes>>,
        value: Option<Py<PyBytes>>,
    },
}

pub enum Headers {
    Message(Origin),
    Claim,
    Contribution,
    /// A redriven message, an operator's act, or what nobody here has sent.
    Other,
}

/// `contracts.origins.Origin`.
pub struct Origin {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// The name of the topic that was met last: nearly always that of the next origin as well.
pub type LastTopic = Option<Arc<str>>;

impl Origin {
    pub fn unpack(data: &[u8], last: &mut LastTopic) -> Option<Self> {
        let topic = data.get(20..).filter(|topic| !topic.is_empty())?;
        let topic = match last {
            Some(last) if last.as_bytes() == topic => last.clone(),
            _ => last.insert(std::str::from_utf8(topic).ok()?.into()).clone(),
        };
        Some(Self {
            topic,
            partition: i32::from_be_bytes(data[0..4].try_into().ok()?),
            offset: i64::from_be_bytes(data[4..12].try_into().ok()?),
            timestamp_ms: i64::from_be_bytes(data[12..20].try_into().ok()?),
        })
    }

    pub fn text(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl Record {
    /// All records of a cycle: `Records`, or records of any kind.
    pub fn all(records: &Bound<'_, PyAny>) -> PyResult<Vec<Self>> {
        let mut last = LastTopic::None;
        if let Ok(fetched) = records.cast::<Records>() {
            let of = |(batch, place): (&Arc<Decoded>, usize)| Self::of_fetched(batch, place, &mut last);
            return Ok(fetched.get().iter().map(of).collect());
        }
        records.try_iter()?.map(|record| Self::of(&record?, &mut last)).collect()
    }

    fn of_fetched(batch: &Arc<Decoded>, place: usize, last: &mut LastTopic) -> Self {
        Self {
            offset: batch.offset(place),
            timestamp_ms: batch.time(place),
            headers: Headers::of_fetched(batch.headers(place), last),
            bytes: Bytes::Fetched(batch.clone(), place),
        }
    }

    fn of(record: &Bound<'_, PyAny>, last: &mut LastTopic) -> PyResult<Self> {
        let py = record.py();
        let bytes = |name: &Bound<'_, PyString>| -> PyResult<Option<Py<PyBytes>>> {
            let found = record.getattr(name)?;
            Ok(found.cast_into::<PyBytes>().ok().map(Bound::unbind))
        };
        let headers = record.getattr(pyo3::intern!(py, "headers"))?;
        Ok(Self {
            offset: record.getattr(pyo3::intern!(py, "offset"))?.extract()?,
            timestamp_ms: record.getattr(pyo3::intern!(py, "timestamp"))?.extract()?,
            bytes: Bytes::Python { key: bytes(pyo3::intern!(py, "key"))?, value: bytes(pyo3::intern!(py, "value"))? },
            headers: Headers::of(&headers, last)?,
        })
    }

    pub fn key(&self, py: Python<'_>) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Fetched(batch, place) => batch.key(*place),
            Bytes::Python { key, .. } => key.as_ref().map(|key| key.as_bytes(py)),
        }
    }

    pub fn value(&self, py: Python<'_>) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Fetched(batch, place) => batch.value(*place),
            Bytes::Python { value, .. } => value.as_ref().map(|value| value.as_bytes(py)),
        }
    }
}

impl Headers {
    fn of(headers: &Bound<'_, PyAny>, last: &mut LastTopic) -> PyResult<Self> {
        if headers.len()? == 0 {
            return Ok(Self::Other);
        }
        let first = headers.get_item(0)?;
        let (name, value) = (first.get_item(0)?, first.get_item(1)?);
        let value = value.cast::<PyBytes>().ok();
        let mut is_redriven = false;
        for header in headers.try_iter()?.skip(1) {
            let header = header?;
            if header.get_item(0)?.eq(REDRIVE_HEADER)? {
                is_redriven = !header.get_item(1)?.is_none();
            }
        }
        Ok(Self::of_first(name.extract()?, value.map(|value| value.as_bytes()), is_redriven, last))
    }

    fn of_fetched<'a>(mut headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>, last: &mut LastTopic) -> Self {
        let Some((name, value)) = headers.next() else { return Self::Other };
        let redrive = headers.filter(|(name, _)| *name == REDRIVE_HEADER).last();
        Self::of_first(name, value, redrive.is_some_and(|(_, value)| value.is_some()), last)
    }

    /// What the first header says, and that a later one says that the message is redriven.
    fn of_first(name: &str, value: Option<&[u8]>, is_redriven: bool, last: &mut LastTopic) -> Self {
        let Some(value) = value else { return Self::Other };
        match name {
            ORIGIN_HEADER if !is_redriven => Origin::unpack(value, last).map_or(Self::Other, Self::Message),
            KIND_HEADER if value == CLAIM => Self::Claim,
            KIND_HEADER if value == CONTRIBUTION => Self::Contribution,
            _ => Self::Other,
        }
    }
}
