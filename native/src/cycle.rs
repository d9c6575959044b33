//! Deciding one cycle of one partition of the leaves topic: `streams.agents.leaf_cycle.LeafCycle`, for leaves whose
//! records are all of the ordinary kinds.
//!
//! A leaf with a record of another kind, or with state that is rare (contested, unclaimed), is left to Python with all
//! of its records: nothing that is decided of one leaf depends on another.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::call::{Read, CLAIM_LIMIT};
use crate::definitions::Definitions;
use crate::incoming::{Headers, Origin, Record, CLAIM, CONTRIBUTION};
use crate::interpret::interpret;
use crate::leaf::{check_given, Claiming, Leaf};
use crate::leaves::Leaves;
use crate::message::{Message, MessageContent};
use crate::sink::{checked, Sink};
use crate::slots::{Defined, Said};
use crate::state::{Contribution, Fields, Malformed, OneClaim};

/// About what the row of a page view takes.
const ROW_BYTES: usize = 512;

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
#[allow(clippy::large_enum_variant, reason = "nearly all are ordinary: a box would only be an allocation for each")]
enum Found {
    Ordinary(What),
    /// To be read again under definitions that have these.
    Undefined(Vec<(String, String)>),
    /// Python is to decide its leaf.
    Odd,
    /// It was routed under other rules, and is of another leaf than its key.
    Elsewhere,
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
    /// Rows of page views and occurrences, encoded as they were read.
    rows: Arc<Vec<u8>>,
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
    /// As `Leaves.cycle` says.
    pub fn begin(
        py: Python<'_>,
        leaves: Py<Leaves>,
        records: Vec<Record>,
        applied: i64,
        committed: i64,
        highs: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let mut cycle = Self {
            leaves,
            applied,
            committed,
            records,
            items: Vec::new(),
            states: Vec::new(),
            rows: Arc::default(),
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

    /// `streams.agents.leaf_items.mark_new`.
    fn find_new(&mut self, highs: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut known: HashMap<(&str, i32), (i64, bool)> = HashMap::new();
        for record in &self.records {
            let mut is_new = false;
            if let (Headers::Message(origin), true) = (&record.headers, record.offset >= self.committed) {
                let at = (&*origin.topic, origin.partition);
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
                    self.states.push(Leaf::new(name));
                    self.places.insert(key.to_vec(), place);
                    place
                }
            };
            item.leaf = Some(place);
        }
    }

    fn read_one(
        &mut self,
        py: Python<'_>,
        leaves: &Leaves,
        place: usize,
        definitions: &Definitions,
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
                        Message::of(call, definitions, Arc::make_mut(&mut self.rows))?.map(What::Message)
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
        self.rows = Arc::new(Vec::with_capacity(ROW_BYTES * self.records.len()));
        for place in 0..self.items.len() {
            let Some(leaf) = self.items[place].leaf.filter(|leaf| !self.states[*leaf].is_left_to_python) else {
                continue;
            };
            match self.read_one(py, leaves, place, &snapshot)? {
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
                What::Message(message) => message.needs_fields(),
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
        self.leave_lacking_memberships_to_python();
        for item in &self.items {
            let (What::Contribution(letter), Some(leaf)) = (&item.what, item.leaf) else { continue };
            let is_fit = letter.given.as_deref().is_none_or(|given| check_given(given, &self.definitions.user).is_ok());
            if !is_fit {
                self.states[leaf].is_left_to_python = true;
            }
        }
        Ok(())
    }

    /// A leaf that lacks a membership which a message has set, as it is known to the state, is Python's to quarantine.
    fn leave_lacking_memberships_to_python(&mut self) {
        for (record, item) in self.records.iter().zip(&self.items) {
            let (What::Message(message), Some(leaf), true) = (&item.what, item.leaf, record.offset < self.applied)
            else {
                continue;
            };
            let said = message.traits.as_ref().and_then(|traits| traits.membership.as_ref());
            if said.is_some_and(|said| self.states[leaf].membership(&said.audience).is_none()) {
                self.states[leaf].is_left_to_python = true;
            }
        }
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
                if !is_known {
                    self.seen.insert(message.seen_key, record.offset);
                    sink.see(&message.seen_key, record.offset)?;
                }
                let Headers::Message(origin) = &record.headers else { unreachable!("a message") };
                let is_refused = apply(
                    message,
                    origin,
                    state,
                    &self.definitions.user,
                    is_known,
                    makes_rows.then_some(&self.rows),
                    sink,
                )?;
                item.is_counted = item.is_new;
                if item.is_counted {
                    sink.applied += 1;
                    for warning in message.warnings.iter().copied().chain(is_refused.then_some(CLAIM_LIMIT)) {
                        *sink.warnings.entry(warning).or_default() += 1;
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

fn bytes_of<'a>(found: Option<&'a Bound<'_, PyAny>>) -> Option<&'a [u8]> {
    found?.cast::<PyBytes>().ok().map(|bytes| bytes.as_bytes())
}

/// Apply a message to its leaf, and make its rows, if `rows` are there: `LeafCycle._apply`. Returns whether its claim
/// was refused.
fn apply(
    message: &mut Message,
    origin: &Origin,
    state: &mut Leaf,
    definitions: &Defined,
    is_known: bool,
    rows: Option<&Arc<Vec<u8>>>,
    sink: &mut Sink<'_, '_>,
) -> PyResult<bool> {
    let is_first = state.counters.is_none();
    let has_moved = state.count(message.at, message.is_page, is_known);
    let is_refused = claim(message, origin, state, is_known, sink)?;
    let mut joined_at = message.at;
    if let MessageContent::Group { company_id, update } = &message.content {
        sink.send_to_company(company_id, update, origin.timestamp_ms)?;
        joined_at = state.join(company_id, message.at, is_known);
    }
    let membership = message.traits.as_ref().and_then(|traits| traits.membership.clone());
    if let (Some(traits), false) = (&mut message.traits, is_known) {
        let (at, message_id) = (message.at, &message.message_id);
        let said = |value| Said { value, at, message_id: message_id.clone(), source: origin.text() };
        let traits = std::mem::take(traits);
        state.identify(traits, said, definitions, &|value| sink.json_text(value)).map_err(checked)?;
    }
    state.is_moved |= !is_known && !state.is_user;
    if let Some(rows) = rows {
        let with_fields = message.needs_fields();
        match &message.content {
            MessageContent::View(row) => sink.page_views.push(rows, row.clone()),
            MessageContent::Occurrence(row) => sink.occurrences.push(rows, row.clone()),
            MessageContent::Identify => {}
            MessageContent::Group { company_id, .. } => sink.member(company_id, &state.name, joined_at)?,
        }
        if let Some(said) = &membership {
            let holding = state.membership(&said.audience).ok_or(Malformed).map_err(checked)?;
            sink.membership(&state.name, said, holding, message)?;
        }
        state.is_touched |= with_fields || is_known || has_moved;
        state.is_touched_whole |= with_fields;
        state.is_resolved |= is_first || is_known;
    }
    Ok(is_refused)
}

/// Claim the anonymous leaf that a message names, unless it has been done: `LeafCycle._claim`. Returns whether that is
/// refused.
fn claim(message: &Message, origin: &Origin, state: &mut Leaf, is_known: bool, sink: &Sink<'_, '_>) -> PyResult<bool> {
    let Some(anonymous) = &message.claim else { return Ok(false) };
    match state.claiming(anonymous, message.at, &message.message_id, is_known) {
        Claiming::Known => {}
        Claiming::Refused => return Ok(true),
        Claiming::New => {
            let claim = OneClaim {
                user: state.name.clone(),
                at: message.at,
                message_id: message.message_id.clone(),
                source: origin.text(),
            };
            sink.send(anonymous, CLAIM, &claim.encode_letter(), origin.timestamp_ms)?;
        }
    }
    Ok(false)
}
