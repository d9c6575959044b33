//! Where the decisions of a cycle go: `Decided`, `Batch`, and the records that are sent.

use std::collections::BTreeMap;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use xxhash_rust::xxh3::xxh3_64;

use crate::call::{Kept, Membership, Warning};
use crate::incoming::KIND_HEADER;
use crate::leaf::{Leaf, USER};
use crate::leaves::Leaves;
use crate::message::Message;
use crate::reader::kept;
use crate::rows::{EncodedRows, BIGINT, TEXT};
use crate::slots::{Defined, Said};
use crate::state::{Counters, Fields, Links, OneClaim};

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

/// The types of `staged_page_view` and of `staged_occurrence`.
const PAGE_VIEW: [u32; 10] = [TEXT, TEXT, TEXT, BIGINT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT];
const OCCURRENCE: [u32; 6] = [TEXT, TEXT, TEXT, BIGINT, TEXT, TEXT];

/// The rows of one field of a batch: in the place of a list, which they begin with.
fn encoded<'py>(
    batch: &Bound<'py, PyAny>,
    name: &str,
    class: &Py<PyAny>,
    fields: &[u32],
) -> PyResult<PyRefMut<'py, EncodedRows>> {
    let py = batch.py();
    let found = batch.getattr(name)?;
    if let Ok(rows) = found.cast::<EncodedRows>() {
        return Ok(rows.borrow_mut());
    }
    let mut rows = EncodedRows::new(class.clone_ref(py), fields.to_vec())?;
    for row in found.try_iter()? {
        rows.append(row?.cast::<PyTuple>()?)?;
    }
    let rows = Bound::new(py, rows)?;
    batch.setattr(name, &rows)?;
    Ok(rows.borrow_mut())
}

/// Where decisions go: `Decided`, `Batch` and what is sent.
pub struct Sink<'a, 'py> {
    pub py: Python<'py>,
    pub leaves: &'a Leaves,
    pub records: Bound<'py, PyDict>,
    pub seen: Bound<'py, PyDict>,
    pub page_views: PyRefMut<'py, EncodedRows>,
    pub occurrences: PyRefMut<'py, EncodedRows>,
    pub counters: Bound<'py, PyList>,
    pub profiles: Bound<'py, PyList>,
    pub members: Bound<'py, PyList>,
    audience_memberships: Bound<'py, PyList>,
    audience_changes: Bound<'py, PyList>,
    pub identities: Bound<'py, PyList>,
    pub identities_gone: Bound<'py, PyList>,
    pub profiles_gone: Bound<'py, PyList>,
    pub outgoing: Bound<'py, PyList>,
    pub applied: i64,
    pub duplicate: i64,
    pub warnings: BTreeMap<Warning, i64>,
}

impl<'a, 'py> Sink<'a, 'py> {
    pub fn of(
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
            page_views: encoded(batch, "page_views", &leaves.rows.page_view, &PAGE_VIEW)?,
            occurrences: encoded(batch, "occurrences", &leaves.rows.occurrence, &OCCURRENCE)?,
            counters: list("counters")?,
            profiles: list("profiles")?,
            members: list("company_members")?,
            audience_memberships: list("audience_memberships")?,
            audience_changes: list("audience_changes")?,
            identities: list("identities")?,
            identities_gone: list("identities_gone")?,
            profiles_gone: list("profiles_gone")?,
            outgoing: outgoing.clone(),
            applied: 0,
            duplicate: 0,
            warnings: BTreeMap::new(),
        })
    }

    /// Note the offset of a message's first application.
    pub fn see(&self, seen_key: &[u8], offset: i64) -> PyResult<()> {
        self.seen.set_item(PyBytes::new(self.py, seen_key), offset)
    }

    pub fn send(&self, to: &str, kind: &[u8], letter: &[u8], timestamp_ms: i64) -> PyResult<()> {
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

    pub fn send_to_company(&self, company_id: &str, update: &[u8], timestamp_ms: i64) -> PyResult<()> {
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

    pub fn member(&self, company_id: &str, leaf: &str, joined_at: i64) -> PyResult<()> {
        let row = (company_id, leaf, joined_at).into_pyobject(self.py)?;
        self.members.append(self.leaves.named(self.py, &self.leaves.rows.member, row)?)
    }

    /// The membership that holds, and what a message has said of it.
    pub fn membership(&self, leaf: &str, said: &Membership, holding: &Said, message: &Message) -> PyResult<()> {
        let (py, rows) = (self.py, &self.leaves.rows);
        let is_member = holding.value == Kept::Bool(true);
        let held = (leaf, said.audience.as_str(), is_member, holding.at).into_pyobject(py)?;
        let held = self.leaves.named(py, &rows.membership, held)?;
        self.audience_memberships.append((held, holding.message_id.as_str()))?;
        let change = (leaf, said.audience.as_str(), said.member, message.at, message.message_id.as_str());
        self.audience_changes.append(self.leaves.named(py, &rows.change, change.into_pyobject(py)?)?)
    }

    pub fn counters(&self, leaf: &str, counters: &Counters, to_offset: i64) -> PyResult<()> {
        let row = (leaf, counters.page_views, counters.first_seen, counters.last_seen).into_pyobject(self.py)?;
        self.counters.append((self.leaves.named(self.py, &self.leaves.rows.counters, row)?, to_offset))
    }

    /// `domain.leaf.profile`.
    pub fn profile(&self, state: &Leaf, counters: &Counters, to_offset: i64, definitions: &Defined) -> PyResult<()> {
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

    pub fn json_text(&self, value: &Kept<'_>) -> String {
        let value = kept(self.py, value).expect("whatever state keeps has an object");
        let told = self.leaves.json_text.bind(self.py).call1((value,)).and_then(|told| told.extract());
        told.expect("whatever state keeps has a JSON text")
    }

    /// `LeafCycle._resolve`.
    pub fn resolve(&self, state: &Leaf) -> PyResult<()> {
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
    pub fn put(&self, state: &Leaf) -> PyResult<()> {
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

    pub fn count(self, decided: &Bound<'py, PyAny>) -> PyResult<()> {
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

pub fn checked(error: impl std::fmt::Debug) -> PyErr {
    PyRuntimeError::new_err(format!("expected state that was found fit to be decided here; came {error:?}"))
}
