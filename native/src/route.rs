//! The router in one pass: from a source record to its leaf's partition, encoded into the batch that goes there.
//! `streams.agents.router` says the same in Python, and is asked wherever a message or an id is odd.

use jiter::{Jiter, Peek};
use memchr::{memchr, memmem};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::Run;
use crate::records::Records;
use crate::rules::Rules;
use crate::wire;

const USER: &str = "user:";
const ANONYMOUS: &str = "anon:";

/// `domain.identity.CALL_TYPES`.
const CALL_TYPES: [&str; 6] = ["identify", "page", "screen", "track", "group", "alias"];

#[pyclass(module = "tidemark_native")]
pub struct Router {
    rules: Rules,
    partitions: u64,
    origin_header: String,
    /// Key of the leaf that was found last, as are the texts below kept for their room.
    leaf: String,
    user: String,
    anonymous: String,
    tape: Vec<u8>,
}

#[pymethods]
impl Router {
    #[new]
    fn new(
        blocked_ids: &Bound<'_, PyAny>,
        max_message_bytes: usize,
        partitions: u64,
        origin_header: String,
    ) -> PyResult<Self> {
        let blocked_ids = blocked_ids.try_iter()?.map(|each| each?.extract()).collect::<PyResult<_>>()?;
        let rules = Rules::new(blocked_ids, max_message_bytes, 0);
        let (leaf, user, anonymous, tape) = Default::default();
        Ok(Self { rules, partitions, origin_header, leaf, user, anonymous, tape })
    }

    /// Add each record to the run of its leaf's partition, with its origin in a header. `ask` tells partition and key
    /// of a record that is not found a place here, or None for one that is to go nowhere. Returns how many it was asked.
    fn route<'py>(
        &mut self,
        topic: &str,
        partition: i32,
        records: &Bound<'py, PyAny>,
        mut runs: Vec<PyRefMut<'py, Run>>,
        ask: &Bound<'py, PyAny>,
    ) -> PyResult<usize> {
        let mut origin = Origin::new(&self.origin_header, topic, partition);
        let mut asked = 0;
        if let Ok(fetched) = records.cast::<Records>() {
            for (nth, (batch, place)) in fetched.get().iter().enumerate() {
                let (offset, time, value) = (batch.offset(place), batch.time(place), batch.value(place));
                let ask = || ask.call1((records.get_item(nth)?,));
                asked += usize::from(self.push(&mut runs, time, value, origin.of(offset, time), ask)?);
            }
            return Ok(asked);
        }
        for record in records.try_iter()? {
            let record = record?;
            let value = record.getattr("value")?.extract::<Option<Bound<'py, PyBytes>>>()?;
            let value = value.as_ref().map(|value| value.as_bytes());
            let (offset, time) = (record.getattr("offset")?.extract()?, record.getattr("timestamp")?.extract()?);
            let ask = || ask.call1((&record,));
            asked += usize::from(self.push(&mut runs, time, value, origin.of(offset, time), ask)?);
        }
        Ok(asked)
    }
}

impl Router {
    /// Add a record to the run of its leaf's partition, or to the one that Python finds for it, if any. Returns whether
    /// it was asked.
    fn push<'py>(
        &mut self,
        runs: &mut [PyRefMut<'py, Run>],
        time: i64,
        value: Option<&[u8]>,
        headers: &[u8],
        ask: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        if value.is_some_and(|value| self.find(value)) {
            let key = self.leaf.as_bytes();
            runs[(xxh3_64(key) % self.partitions) as usize].push(time, Some(key), value, headers);
            return Ok(false);
        }
        if let Some((number, key)) = ask()?.extract::<Option<(usize, Bound<'py, PyBytes>)>>()? {
            runs[number].push(time, Some(key.as_bytes()), value, headers);
        }
        Ok(true)
    }

    /// Find the leaf of a message, into `self.leaf`; false where Python is to be asked.
    fn find(&mut self, value: &[u8]) -> bool {
        if value.len() > self.rules.max_message_bytes || has_nul_escape(value) {
            return false;
        }
        let mut jiter = Jiter::with_tape(value, std::mem::take(&mut self.tape));
        let head = self.read_head(&mut jiter).unwrap_or_default();
        self.tape = jiter.into_tape();
        let (prefix, id) = match head {
            Head { is_call: true, user: Id::Text, anonymous: Id::Text | Id::Absent } => (USER, &self.user),
            Head { is_call: true, user: Id::Absent, anonymous: Id::Text } => (ANONYMOUS, &self.anonymous),
            _ => return false,
        };
        let Some(id) = self.rules.usable_text(id) else {
            return false;
        };
        self.leaf.clear();
        self.leaf.push_str(prefix);
        self.leaf.push_str(&id);
        true
    }

    /// Read type and ids, and check that the rest is JSON, as far as `domain.identity._Head` does.
    fn read_head(&mut self, jiter: &mut Jiter<'_>) -> Result<Head, jiter::JiterError> {
        let mut head = Head::default();
        let (mut has_type, mut has_user, mut has_anonymous) = (false, false, false);
        let mut name = jiter.next_object()?;
        while let Some(key) = name {
            let is_repeated = match key {
                "type" => {
                    let is_repeated = std::mem::replace(&mut has_type, true);
                    head.is_call = jiter.peek()? == Peek::String && CALL_TYPES.contains(&jiter.known_str()?);
                    if !head.is_call {
                        return Ok(head);
                    }
                    is_repeated
                }
                "userId" => {
                    head.user = read_id(jiter, &mut self.user)?;
                    std::mem::replace(&mut has_user, true)
                }
                "anonymousId" => {
                    head.anonymous = read_id(jiter, &mut self.anonymous)?;
                    std::mem::replace(&mut has_anonymous, true)
                }
                _ => {
                    jiter.next_skip()?;
                    false
                }
            };
            if is_repeated {
                return Ok(Head::default());
            }
            name = jiter.next_key()?;
        }
        jiter.finish()?;
        Ok(head)
    }
}

#[derive(Default)]
struct Head {
    is_call: bool,
    user: Id,
    anonymous: Id,
}

#[derive(Default)]
enum Id {
    #[default]
    Absent,
    Text,
    /// Anything else, which may be an id, or none, or make the message unreadable.
    Other,
}

fn read_id(jiter: &mut Jiter<'_>, text: &mut String) -> Result<Id, jiter::JiterError> {
    match jiter.peek()? {
        Peek::String => {
            text.clear();
            text.push_str(jiter.known_str()?);
            Ok(Id::Text)
        }
        Peek::Null => jiter.known_null().map(|()| Id::Absent),
        peek => jiter.known_skip(peek).map(|()| Id::Other),
    }
}

/// `domain.decoding.has_nul_escape`.
fn has_nul_escape(value: &[u8]) -> bool {
    memchr(b'\\', value).is_some_and(|at| memmem::find(&value[at..], b"\\u0000").is_some())
}

/// The header with the origin of a record (`contracts.origins`), encoded as all of its headers.
struct Origin {
    encoded: Vec<u8>,
    offset_at: usize,
}

impl Origin {
    fn new(header: &str, topic: &str, partition: i32) -> Self {
        let mut encoded = Vec::new();
        wire::put_varint(&mut encoded, 1);
        wire::put_bytes(&mut encoded, Some(header.as_bytes()));
        wire::put_varint(&mut encoded, (4 + 8 + 8 + topic.len()) as i64);
        encoded.extend_from_slice(&partition.to_be_bytes());
        let offset_at = encoded.len();
        encoded.extend_from_slice(&[0; 16]);
        encoded.extend_from_slice(topic.as_bytes());
        Self { encoded, offset_at }
    }

    fn of(&mut self, offset: i64, time: i64) -> &[u8] {
        let at = self.offset_at;
        self.encoded[at..at + 8].copy_from_slice(&offset.to_be_bytes());
        self.encoded[at + 8..at + 16].copy_from_slice(&time.to_be_bytes());
        &self.encoded
    }
}
