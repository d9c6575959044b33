//! Deciding one cycle of one partition of the leaves topic: `streams.agents.leaf_cycle.LeafCycle`, for leaves whose
//! records are all of the ordinary kinds.
//!
//! A leaf with a record of another kind, or with state that is rare (contested, unclaimed), is left to Python with all
//! of its records: nothing that is decided of one leaf depends on another.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use xxhash_rust::xxh3::{xxh3_128, xxh3_64};

use crate::call::{Call, Content, Deferred, Kept, Read, Warning};
use crate::definitions::Definitions;
use crate::interpret::interpret;
use crate::reader::kept;
use crate::records;
use crate::rules::Rules;
use crate::slots::{check_value, is_unconvertible, Defined, JsonText, Said, Slots};
use crate::state::{decode_given, encode_update, Contribution, Counters, Fields, Giver, Links, Malformed, OneClaim};
use crate::user_agent::UserAgents;

const USER: &str = "user:";
/// Anonymous leaves that one user leaf claims at most: `domain.ownership.ANONYMOUS_LEAVES_MAX`.
const ANONYMOUS_LEAVES_MAX: usize = 1_000;

/// `contracts.rows.PROFILE_FIELDS`.
const PROFILE_FIELDS: [&str; 19] = [
    "email",
    "first_name",
    "last_name",
    "phone",
    "gender",
    "country",
    "region",
    "city",
    "user_agent",
    "os",
    "device_name",
    "device_type",
    "language",
    "resolution",
    "ip_address",
    "browser_family",
    "browser_version",
    "timezone",
    "current_url",
];

const ORIGIN_HEADER: &str = "tidemark-origin";
const KIND_HEADER: &str = "tidemark-kind";
const REDRIVE_HEADER: &str = "tidemark-redrive";
const CLAIM: &[u8] = b"claim";
const CONTRIBUTION: &[u8] = b"contribution";

/// What is the same in every cycle of a worker.
#[pyclass(frozen)]
pub struct Leaves {
    rules: Rules,
    leaves_topic: Py<PyString>,
    leaves_partitions: u64,
    companies_topic: Py<PyString>,
    companies_partitions: u64,
    rows: Rows,
    definitions: Mutex<Option<(Py<PyAny>, Arc<Definitions>)>>,
    agents: UserAgents,
    json_text: Py<PyAny>,
}

/// The named tuples that rows and records are handed over in.
struct Rows {
    page_view: Py<PyAny>,
    occurrence: Py<PyAny>,
    counters: Py<PyAny>,
    profile: Py<PyAny>,
    identity: Py<PyAny>,
    member: Py<PyAny>,
    outgoing: Py<PyAny>,
    new: Py<PyAny>,
}

#[pymethods]
impl Leaves {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "settings, by position")]
    fn new(
        blocked_ids: &Bound<'_, PyAny>,
        max_message_bytes: usize,
        future_tolerance_us: i64,
        leaves_topic: Py<PyString>,
        leaves_partitions: u64,
        companies_topic: Py<PyString>,
        companies_partitions: u64,
        rows: &Bound<'_, PyTuple>,
        read_user_agent: Py<PyAny>,
        json_text: Py<PyAny>,
    ) -> PyResult<Self> {
        let blocked_ids = blocked_ids.try_iter()?.map(|each| each?.extract()).collect::<PyResult<_>>()?;
        let row = |place| -> PyResult<Py<PyAny>> { Ok(rows.get_item(place)?.unbind()) };
        Ok(Self {
            rules: Rules::new(blocked_ids, max_message_bytes, future_tolerance_us),
            leaves_topic,
            leaves_partitions,
            companies_topic,
            companies_partitions,
            rows: Rows {
                page_view: row(0)?,
                occurrence: row(1)?,
                counters: row(2)?,
                profile: row(3)?,
                identity: row(4)?,
                member: row(5)?,
                outgoing: row(6)?,
                new: rows.py().get_type::<PyTuple>().getattr("__new__")?.unbind(),
            },
            definitions: Mutex::new(None),
            json_text,
            agents: UserAgents::new(read_user_agent),
        })
    }

    /// One cycle over these records; `applied` is S, `committed` is P.
    fn cycle(
        this: Py<Self>,
        py: Python<'_>,
        records: &Bound<'_, PyAny>,
        applied: i64,
        committed: i64,
        highs: &Bound<'_, PyAny>,
    ) -> PyResult<Cycle> {
        let records = records.try_iter()?.map(|record| Record::of(&record?)).collect::<PyResult<Vec<_>>>()?;
        let mut cycle = Cycle {
            leaves: this,
            applied,
            committed,
            records,
            items: Vec::new(),
            states: Vec::new(),
            places: HashMap::new(),
            definitions: Arc::default(),
            seen: HashMap::new(),
            grown: BTreeMap::new(),
            undefined: Vec::new(),
        };
        cycle.find_new(highs)?;
        cycle.group(py);
        Ok(cycle)
    }
}

impl Leaves {
    fn definitions(&self, definitions: &Bound<'_, PyAny>) -> PyResult<Arc<Definitions>> {
        if let Some((of, snapshot)) = self.definitions.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            if of.bind(definitions.py()).is(definitions) {
                return Ok(snapshot.clone());
            }
        }
        let snapshot = Arc::new(Definitions::of(definitions)?);
        let kept = Some((definitions.clone().unbind(), snapshot.clone()));
        // What it replaces is let go of without the lock: that may run Python.
        let replaced = std::mem::replace(&mut *self.definitions.lock().unwrap_or_else(PoisonError::into_inner), kept);
        drop(replaced);
        Ok(snapshot)
    }

    fn named<'py>(&self, py: Python<'py>, class: &Py<PyAny>, row: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.rows.new.bind(py).call1((class, row))
    }
}

/// A record of the leaves topic, as far as it is needed here.
struct Record {
    offset: i64,
    timestamp_ms: i64,
    bytes: Bytes,
    headers: Headers,
}

/// Where key and value of a record are.
enum Bytes {
    /// In the buffer of its batch, where it was decoded here.
    Fetched(Py<records::Record>),
    Python {
        key: Option<Py<PyBytes>>,
        value: Option<Py<PyBytes>>,
    },
}

enum Headers {
    Message(Origin),
    Claim,
    Contribution,
    /// A redriven message, an operator's act, or what nobody here has sent.
    Other,
}

/// `contracts.origins.Origin`.
struct Origin {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
}

impl Origin {
    fn unpack(data: &[u8]) -> Option<Self> {
        let topic = data.get(20..).filter(|topic| !topic.is_empty())?;
        Some(Self {
            topic: std::str::from_utf8(topic).ok()?.to_owned(),
            partition: i32::from_be_bytes(data[0..4].try_into().ok()?),
            offset: i64::from_be_bytes(data[4..12].try_into().ok()?),
            timestamp_ms: i64::from_be_bytes(data[12..20].try_into().ok()?),
        })
    }

    fn text(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl Record {
    fn of(record: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = record.py();
        if let Ok(fetched) = record.cast::<records::Record>() {
            let record = fetched.get();
            return Ok(Self {
                offset: record.offset(),
                timestamp_ms: record.time(),
                bytes: Bytes::Fetched(fetched.clone().unbind()),
                headers: Headers::of_fetched(record),
            });
        }
        let bytes = |name: &Bound<'_, PyString>| -> PyResult<Option<Py<PyBytes>>> {
            let found = record.getattr(name)?;
            Ok(found.cast_into::<PyBytes>().ok().map(Bound::unbind))
        };
        let headers = record.getattr(pyo3::intern!(py, "headers"))?;
        Ok(Self {
            offset: record.getattr(pyo3::intern!(py, "offset"))?.extract()?,
            timestamp_ms: record.getattr(pyo3::intern!(py, "timestamp"))?.extract()?,
            bytes: Bytes::Python { key: bytes(pyo3::intern!(py, "key"))?, value: bytes(pyo3::intern!(py, "value"))? },
            headers: Headers::of(&headers)?,
        })
    }

    fn key(&self, py: Python<'_>) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Fetched(record) => record.get().key(),
            Bytes::Python { key, .. } => key.as_ref().map(|key| key.as_bytes(py)),
        }
    }

    fn value(&self, py: Python<'_>) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Fetched(record) => record.get().value(),
            Bytes::Python { value, .. } => value.as_ref().map(|value| value.as_bytes(py)),
        }
    }
}

impl Headers {
    fn of(headers: &Bound<'_, PyAny>) -> PyResult<Self> {
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
        Ok(Self::of_first(name.extract()?, value.map(|value| value.as_bytes()), is_redriven))
    }

    fn of_fetched(record: &records::Record) -> Self {
        let mut headers = record.headers();
        let Some((name, value)) = headers.next() else { return Self::Other };
        let redrive = headers.filter(|(name, _)| *name == REDRIVE_HEADER).last();
        Self::of_first(name, value, redrive.is_some_and(|(_, value)| value.is_some()))
    }

    /// What the first header says, and that a later one says that the message is redriven.
    fn of_first(name: &str, value: Option<&[u8]>, is_redriven: bool) -> Self {
        let Some(value) = value else { return Self::Other };
        match name {
            ORIGIN_HEADER if !is_redriven => Origin::unpack(value).map_or(Self::Other, Self::Message),
            KIND_HEADER if value == CLAIM => Self::Claim,
            KIND_HEADER if value == CONTRIBUTION => Self::Contribution,
            _ => Self::Other,
        }
    }
}

/// One record on its way through a cycle.
struct Item {
    leaf: Option<usize>,
    what: What,
    is_new: bool,
    is_counted: bool,
    is_given: bool,
}

enum What {
    Python,
    Message(Message),
    Claim(OneClaim),
    Contribution(Contribution),
}

/// What reading a record came to.
enum Found {
    Ordinary(What),
    /// To be read again under definitions that have these.
    Undefined(Vec<(String, String)>),
    /// Python is to decide its leaf.
    Odd,
    /// It was routed under other rules, and is of another leaf than its key.
    Elsewhere,
}

/// What is kept of a call between reading and deciding.
struct Message {
    message_id: String,
    seen_key: [u8; 16],
    at: i64,
    is_page: bool,
    claim: Option<String>,
    warnings: Vec<Warning>,
    content: MessageContent,
}

enum MessageContent {
    View(Py<PyAny>),
    Occurrence(Py<PyAny>),
    Identify { fields: Vec<(&'static str, Kept<'static>)>, attributes: Vec<(String, Kept<'static>)> },
    Group { company_id: String, update: Vec<u8> },
}

/// A leaf's state, and what a cycle does to it.
struct Leaf {
    name: String,
    is_user: bool,
    is_left_to_python: bool,
    counters: Option<Counters>,
    links: Option<Links>,
    claim: Option<OneClaim>,
    counters_changed: bool,
    links_changed: bool,
    claim_changed: bool,
    fields: Option<Fields>,
    /// What anonymous leaves have given, as `GivenFields`, by giver.
    given: BTreeMap<String, Vec<u8>>,
    /// Givers whose gift has changed.
    given_changed: BTreeSet<String>,
    fields_changed: bool,
    /// Whether the large records are needed.
    needs_fields: bool,
    /// Whether an anonymous leaf's facts have changed.
    is_moved: bool,
    /// Whether it was nobody's before this cycle, and is claimed now.
    was_unowned: bool,
    is_resolved: bool,
    is_touched: bool,
    /// Whether more than the counters of its profile's row may have changed.
    is_touched_whole: bool,
}

impl Leaf {
    fn key(&self, prefix: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + self.name.len());
        key.push(prefix);
        key.extend_from_slice(self.name.as_bytes());
        key
    }

    fn given_key(&self, giver: &str) -> Vec<u8> {
        let mut key = self.key(b'g');
        key.push(0);
        key.extend_from_slice(giver.as_bytes());
        key
    }
}

/// One cycle: `read`, then `load`, then `decide`.
#[pyclass]
pub struct Cycle {
    leaves: Py<Leaves>,
    applied: i64,
    committed: i64,
    records: Vec<Record>,
    items: Vec<Item>,
    states: Vec<Leaf>,
    places: HashMap<Vec<u8>, usize>,
    /// Those that the records were read under.
    definitions: Arc<Definitions>,
    /// Offsets of first applications.
    seen: HashMap<[u8; 16], i64>,
    /// By source partition, `topic/partition`.
    #[pyo3(get)]
    grown: BTreeMap<String, i64>,
    /// `(scope, name)` pairs that nothing defined when the records were read.
    #[pyo3(get)]
    undefined: Vec<(String, String)>,
}

impl Cycle {
    /// `streams.agents.leaf_items.mark_new`.
    fn find_new(&mut self, highs: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut known: HashMap<(&str, i32), (i64, bool)> = HashMap::new();
        for record in &self.records {
            let mut is_new = false;
            if let (Headers::Message(origin), true) = (&record.headers, record.offset >= self.committed) {
                let at = (origin.topic.as_str(), origin.partition);
                let high = match known.get_mut(&at) {
                    Some(high) => high,
                    None => {
                        let source = format!("{}/{}", origin.topic, origin.partition);
                        let high = highs.call_method1("get", (source,))?.extract::<Option<i64>>()?.unwrap_or(-1);
                        known.entry(at).or_insert((high, false))
                    }
                };
                if origin.offset > high.0 {
                    *high = (origin.offset, true);
                    is_new = true;
                }
            }
            self.items.push(Item { leaf: None, what: What::Python, is_new, is_counted: false, is_given: false });
        }
        self.grown = known
            .iter()
            .filter(|(_, (_, has_grown))| *has_grown)
            .map(|((topic, partition), (high, _))| (format!("{topic}/{partition}"), *high))
            .collect();
        Ok(())
    }

    /// Find the leaf of each record, which is its key.
    fn group(&mut self, py: Python<'_>) {
        for (record, item) in self.records.iter().zip(&mut self.items) {
            let Some(key) = record.key(py) else { continue };
            let place = match self.places.get(key) {
                Some(place) => *place,
                None => {
                    let Ok(name) = std::str::from_utf8(key) else { continue };
                    let place = self.states.len();
                    self.states.push(Leaf {
                        name: name.to_owned(),
                        is_user: name.starts_with(USER),
                        is_left_to_python: false,
                        counters: None,
                        links: None,
                        claim: None,
                        counters_changed: false,
                        links_changed: false,
                        claim_changed: false,
                        is_moved: false,
                        fields: None,
                        given: BTreeMap::new(),
                        given_changed: BTreeSet::new(),
                        fields_changed: false,
                        needs_fields: false,
                        was_unowned: false,
                        is_resolved: false,
                        is_touched: false,
                        is_touched_whole: false,
                    });
                    self.places.insert(key.to_vec(), place);
                    place
                }
            };
            item.leaf = Some(place);
        }
    }

    fn read_one(
        &self,
        py: Python<'_>,
        leaves: &Leaves,
        place: usize,
        definitions: &Definitions,
        name: &mut Option<Py<PyString>>,
    ) -> PyResult<Found> {
        let (record, Some(leaf)) = (&self.records[place], self.items[place].leaf) else {
            return Ok(Found::Odd);
        };
        let Some(value) = record.value(py) else { return Ok(Found::Odd) };
        let state = &self.states[leaf];
        let what = match &record.headers {
            Headers::Claim if !state.is_user => OneClaim::decode_letter(value).ok().map(What::Claim),
            // A withdrawal is Python's.
            Headers::Contribution if state.is_user => {
                Contribution::decode(value).ok().filter(|letter| letter.counters.is_some()).map(What::Contribution)
            }
            Headers::Message(origin) => {
                match interpret(value, origin.timestamp_ms, &leaves.rules, definitions, &leaves.agents) {
                    Read::Call(call) if call.leaf != state.name => return Ok(Found::Elsewhere),
                    Read::Call(call) => {
                        let name = name.get_or_insert_with(|| PyString::new(py, &state.name).unbind());
                        Message::of(py, leaves, call, name.bind(py), definitions)?.map(What::Message)
                    }
                    Read::Undefined(pairs) => return Ok(Found::Undefined(pairs)),
                    Read::Defer => None,
                }
            }
            _ => None,
        };
        Ok(what.map_or(Found::Odd, Found::Ordinary))
    }

    fn leave_to_python(&mut self, leaf: usize) {
        self.states[leaf].is_left_to_python = true;
    }

    fn is_left_to_python(&self, item: &Item) -> bool {
        item.leaf.is_none_or(|leaf| self.states[leaf].is_left_to_python)
    }

    /// Places of the records that Python is to decide, of those that it was not given yet.
    fn give(&mut self) -> Vec<usize> {
        let given: Vec<usize> = self
            .items
            .iter()
            .enumerate()
            .filter(|(_, item)| !item.is_given && self.is_left_to_python(item))
            .map(|(place, _)| place)
            .collect();
        for place in &given {
            self.items[*place].is_given = true;
        }
        given
    }
}

#[pymethods]
impl Cycle {
    /// Read the records under these definitions; may be called again under others.
    fn read(&mut self, py: Python<'_>, definitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let leaves = self.leaves.clone_ref(py);
        let leaves = leaves.get();
        let snapshot = leaves.definitions(definitions)?;
        self.definitions = snapshot.clone();
        let mut undefined = Vec::new();
        let mut names = (0..self.states.len()).map(|_| None).collect::<Vec<_>>();
        for place in 0..self.items.len() {
            let Some(leaf) = self.items[place].leaf.filter(|leaf| !self.states[*leaf].is_left_to_python) else {
                continue;
            };
            match self.read_one(py, leaves, place, &snapshot, &mut names[leaf])? {
                Found::Ordinary(what) => self.items[place].what = what,
                Found::Undefined(pairs) => undefined.extend(pairs),
                Found::Odd => self.leave_to_python(leaf),
                Found::Elsewhere => self.leave_all(),
            }
        }
        undefined.sort();
        undefined.dedup();
        self.undefined = undefined;
        Ok(())
    }

    /// Places of the records that Python is to decide, as far as that is known by now.
    #[getter]
    fn deferred(&mut self) -> Vec<usize> {
        self.give()
    }

    /// Leave every leaf to Python: a record was routed under other rules, and is of another leaf than its key.
    fn leave_all(&mut self) {
        self.states.iter_mut().for_each(|state| state.is_left_to_python = true);
    }

    fn is_new(&self, place: usize) -> bool {
        self.items[place].is_new
    }

    fn is_counted(&self, place: usize) -> bool {
        self.items[place].is_counted
    }

    /// Load the state that is needed: `read` and `find` as `PartitionCycle.decide` takes them.
    ///
    /// Returns the places of further records that Python is to decide.
    fn load(&mut self, py: Python<'_>, read: &Bound<'_, PyAny>, find: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
        for place in 0..self.items.len() {
            // Under definitions that lack what it needs even now.
            if let (What::Python, Some(leaf)) = (&self.items[place].what, self.items[place].leaf) {
                self.leave_to_python(leaf);
            }
        }
        self.load_small(py, read)?;
        self.leave_contested_to_python();
        self.load_fields(py, read)?;
        let mut keys = Vec::new();
        for item in &self.items {
            if let (What::Message(message), false) = (&item.what, self.is_left_to_python(item)) {
                keys.push(PyBytes::new(py, &message.seen_key));
            }
        }
        let found = find.call1((PyList::new(py, keys)?,))?.cast_into::<PyDict>()?;
        for (key, offset) in &found {
            self.seen.insert(key.cast::<PyBytes>()?.as_bytes().try_into()?, offset.extract()?);
        }
        Ok(self.give())
    }

    /// Decide what is not left to Python. Adds to `decided` (`Decided`), `batch` and `outgoing`.
    fn decide(
        &mut self,
        py: Python<'_>,
        decided: &Bound<'_, PyAny>,
        batch: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let leaves = self.leaves.clone_ref(py);
        let mut sink = Sink::of(py, leaves.get(), decided, batch, outgoing)?;
        for place in 0..self.items.len() {
            if !self.is_left_to_python(&self.items[place]) {
                self.take(place, &mut sink)?;
            }
        }
        self.finish(&mut sink)?;
        sink.count(decided)
    }
}

impl Cycle {
    fn ours(&self) -> Vec<usize> {
        (0..self.states.len()).filter(|leaf| !self.states[*leaf].is_left_to_python).collect()
    }

    fn load_small(&mut self, py: Python<'_>, read: &Bound<'_, PyAny>) -> PyResult<()> {
        let ours = self.ours();
        let mut keys = Vec::with_capacity(2 * ours.len());
        for leaf in &ours {
            let state = &self.states[*leaf];
            keys.push(PyBytes::new(py, &state.key(b'c')));
            keys.push(PyBytes::new(py, &state.key(if state.is_user { b'l' } else { b'k' })));
        }
        let found = read.call1((PyList::new(py, &keys)?,))?.cast_into::<PyDict>()?;
        for (place, leaf) in ours.iter().enumerate() {
            let (counters, other) = (found.get_item(&keys[2 * place])?, found.get_item(&keys[2 * place + 1])?);
            if self.states[*leaf].take_in(bytes_of(counters.as_ref()), bytes_of(other.as_ref())).is_err() {
                self.leave_to_python(*leaf);
            }
        }
        Ok(())
    }

    /// A leaf that two users claim is Python's.
    fn leave_contested_to_python(&mut self) {
        let mut claimants: HashMap<usize, &str> = HashMap::new();
        let mut contested = Vec::new();
        for item in &self.items {
            let (What::Claim(claim), Some(leaf)) = (&item.what, item.leaf) else { continue };
            let known = self.states[leaf].claim.as_ref().map_or(claim.user.as_str(), |known| &known.user);
            if *claimants.entry(leaf).or_insert(known) != claim.user {
                contested.push(leaf);
            }
        }
        for leaf in contested {
            self.leave_to_python(leaf);
        }
    }

    /// Load the large records, where they are needed: as `streams.agents.leaf_state.load` says.
    fn load_fields(&mut self, py: Python<'_>, read: &Bound<'_, PyAny>) -> PyResult<()> {
        for item in &self.items {
            let Some(leaf) = item.leaf else { continue };
            let needs_fields = match &item.what {
                What::Python => false,
                What::Claim(_) => true,
                What::Contribution(letter) => letter.given.is_some(),
                What::Message(message) => {
                    matches!(message.content, MessageContent::Identify { .. } | MessageContent::Group { .. })
                }
            };
            self.states[leaf].needs_fields |= needs_fields;
        }
        let ours: Vec<usize> = self.ours().into_iter().filter(|leaf| self.states[*leaf].needs_fields).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let mut keys = Vec::with_capacity(ours.len());
        for leaf in &ours {
            let state = &self.states[*leaf];
            keys.push(PyBytes::new(py, &state.key(b'f')));
            keys.extend(state.givers().map(|giver| PyBytes::new(py, &state.given_key(giver))));
        }
        let found = read.call1((PyList::new(py, &keys)?,))?.cast_into::<PyDict>()?;
        let mut keys = keys.iter();
        for leaf in ours {
            let mut next = || -> PyResult<Option<Bound<'_, PyAny>>> {
                found.get_item(keys.next().expect("as many as were asked for"))
            };
            let fields = next()?;
            let state = &mut self.states[leaf];
            let mut given = BTreeMap::new();
            let givers: Vec<String> = state.givers().map(str::to_owned).collect();
            for giver in givers {
                if let Some(data) = bytes_of(next()?.as_ref()) {
                    given.insert(giver, data.to_vec());
                }
            }
            if state.take_in_fields(bytes_of(fields.as_ref()), given, &self.definitions.user).is_err() {
                self.leave_to_python(leaf);
            }
        }
        for item in &self.items {
            let (What::Contribution(letter), Some(leaf)) = (&item.what, item.leaf) else { continue };
            let is_fit = letter.given.as_deref().is_none_or(|given| check_given(given, &self.definitions.user).is_ok());
            if !is_fit {
                self.states[leaf].is_left_to_python = true;
            }
        }
        Ok(())
    }

    /// Decide one record: `LeafCycle.take`.
    fn take(&mut self, place: usize, sink: &mut Sink<'_, '_>) -> PyResult<()> {
        let (record, item) = (&self.records[place], &mut self.items[place]);
        let leaf = item.leaf.expect("decided here");
        let state = &mut self.states[leaf];
        let is_known = record.offset < self.applied;
        let makes_rows = record.offset >= self.committed;
        match &mut item.what {
            What::Python => unreachable!("left to Python"),
            What::Contribution(letter) => {
                if !is_known {
                    state.receive(letter);
                }
                state.is_touched |= makes_rows;
                state.is_touched_whole |= makes_rows && letter.given.is_some();
            }
            What::Claim(letter) => {
                if !is_known {
                    state.take_in_claim(letter);
                }
                state.is_resolved |= makes_rows;
            }
            What::Message(message) => {
                let first = self.seen.get(&message.seen_key);
                if first.is_some_and(|first| *first != record.offset) {
                    sink.duplicate += i64::from(item.is_new);
                    return Ok(());
                }
                let is_first = state.counters.is_none();
                let has_moved = state.count(message, is_known);
                let mut is_refused = false;
                if let Some(anonymous) = &message.claim {
                    match state.claiming(anonymous, message.at, &message.message_id, is_known) {
                        Claiming::Known => {}
                        Claiming::Refused => is_refused = true,
                        Claiming::New => {
                            let Headers::Message(origin) = &record.headers else { unreachable!("a message") };
                            let claim = OneClaim {
                                user: state.name.clone(),
                                at: message.at,
                                message_id: message.message_id.clone(),
                                source: origin.text(),
                            };
                            sink.send(anonymous, CLAIM, &claim.encode_letter(), origin.timestamp_ms)?;
                        }
                    }
                }
                let mut with_fields = false;
                if let MessageContent::Identify { fields, attributes } = &mut message.content {
                    with_fields = true;
                    if !is_known {
                        let Headers::Message(origin) = &record.headers else { unreachable!("a message") };
                        let said = |value| Said {
                            value,
                            at: message.at,
                            message_id: message.message_id.clone(),
                            source: origin.text(),
                        };
                        let json_text = |value: &Kept<'_>| sink.json_text(value);
                        let held = state.fields.get_or_insert_default();
                        let nothing = Defined::new();
                        for (guess, (name, value)) in std::mem::take(fields).into_iter().enumerate() {
                            state.fields_changed |=
                                held.fields.take(name, said(value), guess, &nothing, &json_text).map_err(checked)?;
                        }
                        for (guess, (name, value)) in std::mem::take(attributes).into_iter().enumerate() {
                            state.fields_changed |= held
                                .attributes
                                .take(&name, said(value), guess, &self.definitions.user, &json_text)
                                .map_err(checked)?;
                        }
                    }
                }
                let mut joined_at = message.at;
                if let MessageContent::Group { company_id, update } = &message.content {
                    with_fields = true;
                    let Headers::Message(origin) = &record.headers else { unreachable!("a message") };
                    sink.send_to_company(company_id, update, origin.timestamp_ms)?;
                    if is_known {
                        let known = state.fields.iter().flat_map(|fields| &fields.companies);
                        let joined = known.filter(|(known, _)| known == company_id).map(|(_, joined_at)| *joined_at);
                        joined_at = joined_at.min(joined.min().unwrap_or(joined_at));
                    } else {
                        let has_joined;
                        (joined_at, has_joined) = state.fields.get_or_insert_default().join(company_id, message.at);
                        state.fields_changed |= has_joined;
                    }
                }
                if !is_known {
                    self.seen.insert(message.seen_key, record.offset);
                    sink.seen.set_item(PyBytes::new(sink.py, &message.seen_key), record.offset)?;
                    state.is_moved |= !state.is_user;
                }
                if makes_rows {
                    match &message.content {
                        MessageContent::View(row) => sink.page_views.append(row)?,
                        MessageContent::Occurrence(row) => sink.occurrences.append(row)?,
                        MessageContent::Identify { .. } => {}
                        MessageContent::Group { company_id, .. } => {
                            sink.member(company_id, &state.name, joined_at)?;
                        }
                    }
                    state.is_touched |= with_fields || is_known || has_moved;
                    state.is_touched_whole |= with_fields;
                    state.is_resolved |= is_first || is_known;
                }
                item.is_counted = item.is_new;
                if item.is_counted {
                    sink.applied += 1;
                    for warning in &message.warnings {
                        *sink.warnings.entry(warning).or_default() += 1;
                    }
                    if is_refused {
                        *sink.warnings.entry("claim_limit").or_default() += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// `LeafCycle.finish`.
    fn finish(&mut self, sink: &mut Sink<'_, '_>) -> PyResult<()> {
        let last = self.records.last().ok_or_else(|| PyValueError::new_err("a cycle without records"))?;
        let (to_offset, last_ms) = (last.offset + 1, last.timestamp_ms);
        let mut ours = self.ours();
        for leaf in &ours {
            let state = &self.states[*leaf];
            if state.is_resolved {
                sink.resolve(state)?;
            }
            if state.is_touched {
                if let Some(counters) = state.root_counters() {
                    if state.is_touched_whole {
                        sink.profile(state, &counters, to_offset, &self.definitions.user)?;
                    } else {
                        sink.counters(&state.name, &counters, to_offset)?;
                    }
                }
            }
            sink.put(state)?;
        }
        ours.retain(|leaf| self.states[*leaf].is_moved || self.states[*leaf].was_unowned);
        ours.sort_by(|one, other| self.states[*one].name.cmp(&self.states[*other].name));
        for leaf in ours {
            let state = &self.states[leaf];
            if let (Some(claim), Some(counters)) = (&state.claim, &state.counters) {
                let given = state.fields.as_ref().and_then(Fields::given);
                let letter = Contribution::encode(&state.name, to_offset, Some(counters), given.as_deref());
                sink.send(&claim.user, CONTRIBUTION, &letter, last_ms)?;
            }
        }
        Ok(())
    }
}

/// What a claim of an anonymous leaf comes to: `domain.ownership.claiming`.
enum Claiming {
    Known,
    New,
    Refused,
}

impl Leaf {
    fn take_in(&mut self, counters: Option<&[u8]>, other: Option<&[u8]>) -> Result<(), Malformed> {
        self.counters = counters.map(Counters::decode).transpose()?;
        if self.is_user {
            self.links = other.map(Links::decode).transpose()?;
        } else if let Some(data) = other {
            self.claim = Some(OneClaim::decode(data)?.ok_or(Malformed)?);
            // It gives them to its owner.
            self.needs_fields = true;
        }
        Ok(())
    }

    /// Names of the anonymous leaves whose fields a user leaf was given.
    fn givers(&self) -> impl Iterator<Item = &str> {
        let givers = self.links.iter().flat_map(|links| &links.givers);
        givers.filter(|(_, giver)| giver.has_fields).map(|(name, _)| name.as_str())
    }

    fn take_in_fields(
        &mut self,
        fields: Option<&[u8]>,
        given: BTreeMap<String, Vec<u8>>,
        definitions: &Defined,
    ) -> Result<(), Malformed> {
        self.fields = fields.map(Fields::decode).transpose()?;
        if let Some(fields) = &self.fields {
            fields.attributes.check(definitions).map_err(|_| Malformed)?;
        }
        given.values().try_for_each(|given| check_given(given, definitions))?;
        self.given = given;
        Ok(())
    }

    /// Count a message, unless it is known: `domain.leaf.apply`. Returns whether the counters have moved.
    fn count(&mut self, message: &Message, is_known: bool) -> bool {
        if is_known {
            return false;
        }
        let is_first = self.counters.is_none();
        let counters = self.counters.get_or_insert(Counters { page_views: 0, first_seen: message.at, last_seen: None });
        let has_moved = is_first || message.is_page || message.at < counters.first_seen;
        counters.first_seen = counters.first_seen.min(message.at);
        if message.is_page {
            counters.page_views += 1;
            counters.last_seen = counters.last_seen.max(Some(message.at));
        }
        self.counters_changed |= has_moved;
        has_moved
    }

    fn claiming(&mut self, anonymous: &str, at: i64, message_id: &str, is_known: bool) -> Claiming {
        let claimed = self.links.as_mut().map(|links| &mut links.claimed);
        let sent = claimed.as_ref().and_then(|claimed| claimed.iter().position(|(leaf, ..)| leaf == anonymous));
        let count = claimed.as_ref().map_or(0, |claimed| claimed.len());
        match (sent, claimed) {
            (Some(place), Some(claimed)) => {
                let (_, sent_at, sent_id) = &mut claimed[place];
                if (*sent_at, sent_id.as_str()) <= (at, message_id) || is_known {
                    return Claiming::Known;
                }
                (*sent_at, *sent_id) = (at, message_id.to_owned());
            }
            _ if count >= ANONYMOUS_LEAVES_MAX => return Claiming::Refused,
            _ if is_known => return Claiming::Known,
            _ => {
                let links = self.links.get_or_insert_default();
                links.claimed.push((anonymous.to_owned(), at, message_id.to_owned()));
            }
        }
        self.links_changed = true;
        Claiming::New
    }

    /// `domain.ownership.claimed`, where one user claims.
    fn take_in_claim(&mut self, letter: &OneClaim) {
        if let Some(known) = &self.claim {
            if (known.at, &known.message_id) <= (letter.at, &letter.message_id) {
                return;
            }
        } else {
            self.was_unowned = true;
        }
        self.claim = Some(letter.clone());
        self.claim_changed = true;
    }

    /// `domain.ownership.received`.
    fn receive(&mut self, letter: &Contribution) {
        let givers = &mut self.links.get_or_insert_default().givers;
        let has_fields = letter.given.is_some();
        let giver = Giver { version: letter.version, counters: letter.counters.clone(), has_fields };
        match givers.iter_mut().find(|(name, _)| *name == letter.giver) {
            Some((_, held)) if held.version >= letter.version => return,
            Some((_, held)) => *held = giver,
            None => givers.push((letter.giver.clone(), giver)),
        }
        self.links_changed = true;
        let before = match &letter.given {
            Some(given) => self.given.insert(letter.giver.clone(), given.clone()),
            None => self.given.remove(&letter.giver),
        };
        if has_fields || before.is_some() {
            self.given_changed.insert(letter.giver.clone());
        }
    }

    /// `domain.fold.folded`: its own fields and those it was given, as fields and attributes.
    fn folded(&self, definitions: &Defined, json_text: JsonText) -> Result<(Slots, Slots), Odd> {
        let (mut fields, mut attributes) = match &self.fields {
            Some(own) => (own.fields.clone(), own.attributes.clone()),
            None => (Slots::default(), Slots::default()),
        };
        let nothing = Defined::new();
        for giver in self.givers() {
            let (given_fields, given_attributes) = decode_given(self.given.get(giver).ok_or(Malformed)?)?;
            fields.merge(given_fields, &nothing, json_text)?;
            attributes.merge(given_attributes, definitions, json_text)?;
        }
        Ok((fields, attributes))
    }

    /// The counters of the profile that the leaf is the root of: `streams.agents.leaf_state.root_counters`.
    fn root_counters(&self) -> Option<Counters> {
        if self.claim.is_some() {
            return None;
        }
        let given = self.links.iter().flat_map(|links| &links.givers).filter_map(|(_, giver)| giver.counters.as_ref());
        self.counters.iter().chain(given).cloned().reduce(|mut sum, each| {
            sum.add(&each);
            sum
        })
    }
}

/// What was found fit for being decided here turns out not to be: a bug.
#[derive(Debug)]
struct Odd;

impl From<Malformed> for Odd {
    fn from(_: Malformed) -> Self {
        Self
    }
}

impl From<Deferred> for Odd {
    fn from(_: Deferred) -> Self {
        Self
    }
}

/// `domain.leaf._unconvertible`; also whether all that these values may ask for can be done here.
fn count_unconvertible(attributes: &[(Cow<'_, str>, Kept<'_>)], definitions: &Defined) -> Result<usize, Deferred> {
    let mut count = 0;
    for (name, value) in attributes {
        check_value(name, value, definitions)?;
        count += usize::from(is_unconvertible(name, value, definitions)?);
    }
    Ok(count)
}

fn checked(error: impl std::fmt::Debug) -> PyErr {
    PyRuntimeError::new_err(format!("expected state that was found fit to be decided here; came {error:?}"))
}

fn check_given(data: &[u8], definitions: &Defined) -> Result<(), Malformed> {
    decode_given(data)?.1.check(definitions).map_err(|_| Malformed)
}

impl Message {
    /// Keep what is needed of a call; None where Python is to decide it.
    fn of<'py>(
        py: Python<'py>,
        leaves: &Leaves,
        call: Call<'_>,
        leaf: &Bound<'py, PyString>,
        definitions: &Definitions,
    ) -> PyResult<Option<Self>> {
        let (mut warnings, at, message_id) = (call.warnings, call.at, call.message_id);
        let mut is_page = false;
        let content = match call.content {
            Content::View(view) => {
                is_page = view.kind == "page";
                let row = PyTuple::new(
                    py,
                    [
                        text(py, &message_id),
                        leaf.clone().into_any(),
                        pyo3::types::PyString::intern(py, view.kind).into_any(),
                        at.into_pyobject(py)?.into_any(),
                        maybe_text(py, view.url.as_deref()),
                        maybe_text(py, view.path.as_deref()),
                        maybe_text(py, view.title.as_deref()),
                        maybe_text(py, view.referrer.as_deref()),
                        maybe_text(py, view.name.as_deref()),
                        text(py, &view.properties),
                    ],
                )?;
                MessageContent::View(leaves.named(py, &leaves.rows.page_view, row)?.unbind())
            }
            Content::Track(track) => {
                warnings.extend(track.ignored);
                let row = PyTuple::new(
                    py,
                    [
                        text(py, &message_id),
                        leaf.clone().into_any(),
                        text(py, &track.event),
                        at.into_pyobject(py)?.into_any(),
                        text(py, &track.properties),
                        maybe_text(py, track.sent_properties.as_deref()),
                    ],
                )?;
                MessageContent::Occurrence(leaves.named(py, &leaves.rows.occurrence, row)?.unbind())
            }
            Content::Group(group) => {
                match count_unconvertible(&group.attributes, &definitions.company) {
                    Ok(count) => warnings.extend(std::iter::repeat_n("ignored_company_attribute", count)),
                    Err(Deferred) => return Ok(None),
                }
                MessageContent::Group { update: encode_update(&group, &message_id, at), company_id: group.company_id }
            }
            Content::Identify(said) => {
                warnings.extend(said.ignored);
                match count_unconvertible(&said.attributes, &definitions.user) {
                    Ok(count) => warnings.extend(std::iter::repeat_n("ignored_attribute", count)),
                    Err(Deferred) => return Ok(None),
                }
                let kept = |value: Option<Cow<'_, str>>| {
                    value.map_or(Kept::Null, |value| Kept::Text(value.into_owned().into()))
                };
                MessageContent::Identify {
                    fields: said.fields.into_iter().map(|(name, value)| (name, kept(value))).collect(),
                    attributes: said
                        .attributes
                        .into_iter()
                        .map(|(name, value)| (name.into_owned(), value.into_owned()))
                        .collect(),
                }
            }
        };
        let mut seen = Vec::with_capacity(call.leaf.len() + 1 + message_id.len());
        seen.extend_from_slice(call.leaf.as_bytes());
        seen.push(0);
        seen.extend_from_slice(message_id.as_bytes());
        Ok(Some(Self {
            seen_key: xxh3_128(&seen).to_be_bytes(),
            message_id: message_id.into_owned(),
            at,
            is_page,
            claim: call.claim,
            warnings,
            content,
        }))
    }
}

fn text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyAny> {
    PyString::new(py, text).into_any()
}

fn maybe_text<'py>(py: Python<'py>, of: Option<&str>) -> Bound<'py, PyAny> {
    of.map_or_else(|| py.None().into_bound(py), |of| text(py, of))
}

fn bytes_of<'a>(found: Option<&'a Bound<'_, PyAny>>) -> Option<&'a [u8]> {
    found?.cast::<PyBytes>().ok().map(|bytes| bytes.as_bytes())
}

/// Where decisions go: `Decided`, `Batch` and what is sent.
struct Sink<'a, 'py> {
    py: Python<'py>,
    leaves: &'a Leaves,
    records: Bound<'py, PyDict>,
    seen: Bound<'py, PyDict>,
    page_views: Bound<'py, PyList>,
    occurrences: Bound<'py, PyList>,
    counters: Bound<'py, PyList>,
    profiles: Bound<'py, PyList>,
    members: Bound<'py, PyList>,
    identities: Bound<'py, PyList>,
    identities_gone: Bound<'py, PyList>,
    profiles_gone: Bound<'py, PyList>,
    outgoing: Bound<'py, PyList>,
    applied: i64,
    duplicate: i64,
    warnings: BTreeMap<Warning, i64>,
}

impl<'a, 'py> Sink<'a, 'py> {
    fn of(
        py: Python<'py>,
        leaves: &'a Leaves,
        decided: &Bound<'py, PyAny>,
        batch: &Bound<'py, PyAny>,
        outgoing: &Bound<'py, PyList>,
    ) -> PyResult<Self> {
        let dict = |name| -> PyResult<_> { Ok(decided.getattr(name)?.cast_into::<PyDict>()?) };
        let list = |name| -> PyResult<_> { Ok(batch.getattr(name)?.cast_into::<PyList>()?) };
        Ok(Self {
            py,
            leaves,
            records: dict("records")?,
            seen: dict("seen")?,
            page_views: list("page_views")?,
            occurrences: list("occurrences")?,
            counters: list("counters")?,
            profiles: list("profiles")?,
            members: list("company_members")?,
            identities: list("identities")?,
            identities_gone: list("identities_gone")?,
            profiles_gone: list("profiles_gone")?,
            outgoing: outgoing.clone(),
            applied: 0,
            duplicate: 0,
            warnings: BTreeMap::new(),
        })
    }

    fn send(&self, to: &str, kind: &[u8], letter: &[u8], timestamp_ms: i64) -> PyResult<()> {
        let (py, leaves) = (self.py, self.leaves);
        let header = (KIND_HEADER, PyBytes::new(py, kind)).into_pyobject(py)?;
        let row = (
            leaves.leaves_topic.bind(py),
            xxh3_64(to.as_bytes()) % leaves.leaves_partitions,
            PyBytes::new(py, to.as_bytes()),
            PyBytes::new(py, letter),
            timestamp_ms,
            PyList::new(py, [header])?,
        );
        self.outgoing.append(leaves.named(py, &leaves.rows.outgoing, row.into_pyobject(py)?)?)
    }

    fn send_to_company(&self, company_id: &str, update: &[u8], timestamp_ms: i64) -> PyResult<()> {
        let (py, leaves) = (self.py, self.leaves);
        let row = (
            leaves.companies_topic.bind(py),
            xxh3_64(company_id.as_bytes()) % leaves.companies_partitions,
            PyBytes::new(py, company_id.as_bytes()),
            PyBytes::new(py, update),
            timestamp_ms,
            PyList::empty(py),
        );
        self.outgoing.append(leaves.named(py, &leaves.rows.outgoing, row.into_pyobject(py)?)?)
    }

    fn member(&self, company_id: &str, leaf: &str, joined_at: i64) -> PyResult<()> {
        let row = (company_id, leaf, joined_at).into_pyobject(self.py)?;
        self.members.append(self.leaves.named(self.py, &self.leaves.rows.member, row)?)
    }

    fn counters(&self, leaf: &str, counters: &Counters, to_offset: i64) -> PyResult<()> {
        let row = (leaf, counters.page_views, counters.first_seen, counters.last_seen).into_pyobject(self.py)?;
        self.counters.append((self.leaves.named(self.py, &self.leaves.rows.counters, row)?, to_offset))
    }

    /// `domain.leaf.profile`.
    fn profile(&self, state: &Leaf, counters: &Counters, to_offset: i64, definitions: &Defined) -> PyResult<()> {
        let (fields, attributes) = state.folded(definitions, &|value| self.json_text(value)).map_err(checked)?;
        let texts = PROFILE_FIELDS.iter().map(|name| match fields.get(name).map(|slot| &slot.newest.value) {
            Some(Kept::Text(text)) => Some(text.as_ref()),
            _ => None,
        });
        let texts = PyTuple::new(self.py, texts.collect::<Vec<_>>())?;
        let row = (
            state.name.as_str(),
            state.name.strip_prefix(USER),
            counters.page_views,
            counters.first_seen,
            counters.last_seen,
            texts,
            attributes.typed_json(definitions).map_err(checked)?,
        );
        let row = row.into_pyobject(self.py)?;
        self.profiles.append((self.leaves.named(self.py, &self.leaves.rows.profile, row)?, to_offset))
    }

    fn json_text(&self, value: &Kept<'_>) -> String {
        let value = kept(self.py, value).expect("whatever state keeps has an object");
        let told = self.leaves.json_text.bind(self.py).call1((value,)).and_then(|told| told.extract());
        told.expect("whatever state keeps has a JSON text")
    }

    /// `LeafCycle._resolve`.
    fn resolve(&self, state: &Leaf) -> PyResult<()> {
        let owner = state.claim.as_ref().map(|claim| claim.user.as_str());
        let has_facts = state.counters.is_some();
        if has_facts || owner.is_some() {
            let row = (state.name.as_str(), owner.unwrap_or(&state.name)).into_pyobject(self.py)?;
            self.identities.append(self.leaves.named(self.py, &self.leaves.rows.identity, row)?)?;
        } else {
            self.identities_gone.append(&state.name)?;
        }
        if has_facts && owner.is_some() {
            self.profiles_gone.append(&state.name)?;
        }
        Ok(())
    }

    /// Put what has changed of a leaf's state.
    fn put(&self, state: &Leaf) -> PyResult<()> {
        let put = |prefix: u8, record: Option<Vec<u8>>| -> PyResult<()> {
            let Some(record) = record else { return Ok(()) };
            self.records.set_item(PyBytes::new(self.py, &state.key(prefix)), PyBytes::new(self.py, &record))
        };
        put(b'c', state.counters.as_ref().filter(|_| state.counters_changed).map(Counters::encode))?;
        put(b'l', state.links.as_ref().filter(|_| state.links_changed).map(Links::encode))?;
        put(b'k', state.claim.as_ref().filter(|_| state.claim_changed).map(OneClaim::encode))?;
        put(b'f', state.fields.as_ref().filter(|_| state.fields_changed).map(Fields::encode))?;
        for giver in &state.given_changed {
            let given = state.given.get(giver).map(|given| PyBytes::new(self.py, given));
            self.records.set_item(PyBytes::new(self.py, &state.given_key(giver)), given)?;
        }
        Ok(())
    }

    fn count(self, decided: &Bound<'py, PyAny>) -> PyResult<()> {
        let counts = decided.getattr("counts")?;
        counts.setattr("applied", counts.getattr("applied")?.extract::<i64>()? + self.applied)?;
        counts.setattr("duplicate", counts.getattr("duplicate")?.extract::<i64>()? + self.duplicate)?;
        let warnings = counts.getattr("warnings")?;
        for (kind, count) in self.warnings {
            warnings.set_item(kind, warnings.get_item(kind)?.extract::<i64>()? + count)?;
        }
        Ok(())
    }
}
